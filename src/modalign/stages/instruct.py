"""Instruction tuning: the language model learns to answer about what it senses (paper, section 3.3)."""

from __future__ import annotations

from modalign.stages.base import StageModule
from modalign.stages.objective import NextToken


class InstructStage(StageModule):
    """Next-token loss on the assistant's answers of a chat."""

    objective = (NextToken(),)
