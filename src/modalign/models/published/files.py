"""Reads a released checkpoint into our model, and writes our model back in the released format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from modalign.errors import ModalignError, unknown_name
from modalign.models.aligned import AlignedModel
from modalign.models.encoders.open_clip_tower import OpenClipTower
from modalign.models.parts import copy_tensors
from modalign.models.pretrained import DTYPES
from modalign.models.projectors.blocks import Expert
from modalign.models.projectors.upm import UniversalProjector
from modalign.models.published.build import build_published
from modalign.models.published.names import BESIDE, PROJECTOR, RELEASED, TOWER, entries
from modalign.models.published.sizes import PublishedSizes, infer_sizes
from modalign.models.text_tokenizer import TextTokenizer
from modalign.models.tokenizers.vector import VectorTokenizer

SUFFIXES = (".safetensors", ".pth", ".pt")


def load_published(
    paths: str | Path | Sequence[str | Path],
    sizes: Mapping[str, Any] | None = None,
    dtype: str = "float32",
    text_tokenizer: TextTokenizer | None = None,
) -> AlignedModel:
    """Our model with the tensors of a released checkpoint (one file or several, .safetensors or .pth).

    Sizes are read off the tensors; `sizes` states those that tensors cannot tell, where they are not conventional.
    """
    if dtype not in DTYPES:
        raise unknown_name("dtype", dtype, DTYPES, "load_published")
    state = read_state(paths)
    found = infer_sizes(state, sizes)
    with default_dtype(DTYPES[dtype]):
        model = build_published(found, text_tokenizer)
    copy_tensors(model.state_dict(), to_ours(state, found), "the released checkpoint")
    return model


def write_published(
    model: AlignedModel, path: str | Path, like: str | Path | Sequence[str | Path] | None = None
) -> None:
    """Writes a model that `build_published` made, in the released format; the suffix chooses the container.

    `like` is the released file that it came from: what that holds beside the model (CLIP's text side) and its dtypes
    are taken from there.
    """
    original = read_state(like) if like is not None else {}
    state = {name: tensor for name, tensor in original.items() if name.startswith(BESIDE)}
    state |= to_released(model.state_dict(), sizes_of(model))
    write_state({name: t.to(original[name].dtype) if name in original else t for name, t in state.items()}, path)


def write_state(state: Mapping[str, Tensor], path: str | Path) -> None:
    """Writes tensors into a file of the kind that its suffix names."""
    target = Path(path)
    flat = {name: t.detach().cpu().contiguous().clone() for name, t in state.items()}
    if target.suffix == ".safetensors":
        save_file(flat, str(target))
    elif target.suffix in SUFFIXES:
        torch.save(flat, target)
    else:
        raise unknown_name("suffix", target.suffix, SUFFIXES, str(target))


def sizes_of(model: AlignedModel) -> PublishedSizes:
    """The sizes that the layout of the released tensors depends on."""
    if PROJECTOR not in model.projectors or TOWER not in model.encoders or set(model.paths) != set(RELEASED):
        raise ModalignError("only a model that build_published made can be written in the released format")
    config = model.llm.model.config
    tower = cast(OpenClipTower, model.encoders[TOWER])
    experts = cast(UniversalProjector, model.projectors[PROJECTOR]).experts
    return PublishedSizes(
        clip_width=tower.width,
        clip_layers=len(tower.transformer.resblocks),
        num_experts=len(experts),
        expert_layers=len(cast(Expert, experts[0]).blocks),
        llm_dim=config.hidden_size,
        llm_layers=config.num_hidden_layers,
        llm_heads=config.num_attention_heads,
        fmri_tokens=cast(VectorTokenizer, model.tokenizers["fmri"]).num_tokens,
    )


def to_ours(state: Mapping[str, Tensor], sizes: PublishedSizes) -> dict[str, Tensor]:
    """Released tensors under our names; one that is missing, or that belongs to nothing, is an error."""
    ours: dict[str, Tensor] = {}
    used: set[str] = set()
    for entry in entries(sizes):
        missing = [name for name in entry.released if name not in state]
        if missing:
            raise ModalignError(f"the released checkpoint lacks {missing[0]}, which {entry.ours} needs")
        ours[entry.ours] = entry.join([state[name] for name in entry.released])
        used.update(entry.released)
    strange = sorted(name for name in state if name not in used and not name.startswith(BESIDE))
    if strange:
        raise ModalignError(
            f"the released checkpoint holds {len(strange)} tensors that belong to no part of the model, "
            f"the first is {strange[0]}"
        )
    return ours


def to_released(ours: Mapping[str, Tensor], sizes: PublishedSizes) -> dict[str, Tensor]:
    """Our tensors under released names; of two that share one, the later entry (the tokenizer's) counts."""
    state: dict[str, Tensor] = {}
    for entry in entries(sizes):
        if entry.ours not in ours:
            raise ModalignError(f"this model has no {entry.ours}: only the released architecture can be written back")
        state.update(zip(entry.released, entry.split(ours[entry.ours]), strict=True))
    return state


def read_state(paths: str | Path | Sequence[str | Path]) -> dict[str, Tensor]:
    """The tensors of one or several files; nothing but tensors is unpickled."""
    state: dict[str, Tensor] = {}
    for path in [paths] if isinstance(paths, str | Path) else paths:
        tensors = _read_file(Path(path))
        twice = sorted(set(tensors) & set(state))
        if twice:
            raise ModalignError(f"{path} holds {twice[0]} a second time: files split by model parallelism do not fit")
        state.update(tensors)
    return state


def _read_file(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ModalignError(f"there is no checkpoint file {path}")
    if path.suffix not in SUFFIXES:
        raise unknown_name("suffix", path.suffix, SUFFIXES, str(path))
    try:
        if path.suffix == ".safetensors":
            return load_file(str(path))
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # both libraries raise several kinds for a damaged file
        raise ModalignError(f"cannot read {path}: {str(error).splitlines()[0]}") from error
    tensors = content.get("model", content) if isinstance(content, dict) else content
    if not isinstance(tensors, dict) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise ModalignError(f"{path} holds no table of tensors")
    return tensors


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """New parameters have this dtype within it."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
