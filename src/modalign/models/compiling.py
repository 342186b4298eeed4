"""Blocks of a model's large parts compiled by torch, one by one, for as long as a stage trains."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from modalign.errors import ModalignError
from modalign.models.blocks import experts, large_blocks, repeated_blocks

_COMPILERS = ("g++", "clang++", "c++")


@contextmanager
def compiled_blocks(model: nn.Module, on: bool = True) -> Iterator[None]:
    """Within it, each block of the language model, the encoders and the experts runs as torch.compile made it.

    Equal blocks share what is compiled, so that a model of any depth costs a few compilations. Names of tensors stay.
    Values agree with the plain blocks' to rounding, not to the bit. ModalignError where a CPU has no C++ compiler.
    """
    blocks = [*large_blocks(model), *(b for expert in experts(model) for b in repeated_blocks(expert))] if on else []
    if blocks and next(model.parameters()).device.type == "cpu" and not has_compiler():
        raise ModalignError(
            "trainer.compile=blocks needs a C++ compiler on a CPU, and none of "
            f"{', '.join(_COMPILERS)} is there: install one (Debian: apt install g++), or leave trainer.compile=off"
        )
    for block in blocks:
        block.compile(dynamic=True)
    try:
        yield
    finally:
        for block in blocks:
            block._compiled_call_impl = None


def has_compiler() -> bool:
    """Whether torch finds a C++ compiler: the one that CXX names, or one of the usual names."""
    return any(shutil.which(name) for name in (os.environ.get("CXX", ""), *_COMPILERS) if name)
