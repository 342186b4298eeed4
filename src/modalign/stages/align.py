"""Alignment: captions teach tokenizers and projector to speak to a frozen language model (paper, section 3.2)."""

from __future__ import annotations

from modalign.stages.base import StageModule
from modalign.stages.objective import NextToken


class AlignStage(StageModule):
    """Next-token loss on captions that follow the soft tokens, without a prompt."""

    objective = (NextToken(),)
