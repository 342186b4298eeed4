"""The command that makes an earlier phase, in the words of the one that stands on it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from modalign.config.specs import RunSpec

# What a phase says for itself; all else must be the same, or another run would be made.
_ITS_OWN = ("stage", "modality", "fresh")


def command_for(spec: RunSpec, words: Sequence[str]) -> str:
    """`python train.py` with the settings that `words` hold, for the phase `spec`; as a shell reads it."""
    kept = [word for word in words if word.partition("=")[0].lstrip("+") not in _ITS_OWN]
    new = spec.new[0] if len(spec.new) == 1 else f"[{','.join(spec.new)}]"
    own = [f"stage={spec.stage}", *([f"modality={new}"] if spec.new else [])]
    return shlex.join(["python", "train.py", *kept, *own])
