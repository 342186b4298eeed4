"""The embedded language model's own training: plain text, every token supervised."""

from __future__ import annotations

from modalign.stages.base import StageModule
from modalign.stages.objective import NextToken


class PretrainTextStage(StageModule):
    """Next-token loss on text without media."""

    objective = (NextToken(),)
