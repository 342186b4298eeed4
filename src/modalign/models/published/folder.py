"""A released checkpoint as a folder of our parts and back, tensor by tensor: no model is built, no value changes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from modalign.errors import ModalignError, unknown_name
from modalign.models.aligned import AlignedModel
from modalign.models.parts import copy_tensors, part_of
from modalign.models.pretrained import DTYPES
from modalign.models.published.build import build_published
from modalign.models.published.files import default_dtype, read_state, to_ours, to_released, write_state
from modalign.models.published.names import BESIDE, entries
from modalign.models.published.sizes import PublishedSizes, infer_sizes, read_sizes
from modalign.models.text_tokenizer import TextTokenizer

SIZES = "sizes.json"
# Tensors of the released file that belong to no part; kept so that the way back is complete.
REST = "released_beside.safetensors"


def released_to_folder(
    paths: str | Path | Sequence[str | Path], folder: str | Path, sizes: Mapping[str, Any] | None = None
) -> list[str]:
    """Writes one `<part>.safetensors` a part and `sizes.json` into `folder`; returns the parts' names."""
    state = read_state(paths)
    found = infer_sizes(state, sizes)
    by_part: dict[str, dict[str, Tensor]] = {}
    for name, tensor in to_ours(state, found).items():
        by_part.setdefault(part_of(name), {})[name] = tensor.contiguous()
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    for part, tensors in by_part.items():
        save_file(tensors, str(target / f"{part}.safetensors"))
    used = {name for entry in entries(found) for name in entry.released}
    rest = {n: t.contiguous() for n, t in state.items() if n.startswith(BESIDE) and n not in used}
    save_file(rest, str(target / REST))
    (target / SIZES).write_text(json.dumps(asdict(found), indent=1) + "\n", encoding="utf-8")
    return list(by_part)


def folder_to_released(folder: str | Path, path: str | Path) -> None:
    """The inverse of `released_to_folder`; the suffix of `path` chooses the container (.safetensors or .pth)."""
    sizes, state = _read_folder(folder)
    rest = load_file(str(Path(folder) / REST))
    write_state({**rest, **to_released(state, sizes)}, path)


def load_folder(
    folder: str | Path, dtype: str = "float32", text_tokenizer: TextTokenizer | None = None
) -> AlignedModel:
    """The model that `released_to_folder` wrote down."""
    if dtype not in DTYPES:
        raise unknown_name("dtype", dtype, DTYPES, "load_folder")
    sizes, state = _read_folder(folder)
    with default_dtype(DTYPES[dtype]):
        model = build_published(sizes, text_tokenizer)
    copy_tensors(model.state_dict(), state, str(folder))
    return model


def _read_folder(folder: str | Path) -> tuple[PublishedSizes, dict[str, Tensor]]:
    source = Path(folder)
    if not (source / SIZES).is_file():
        raise ModalignError(f"{folder} is no converted checkpoint: it holds no {SIZES}")
    sizes = read_sizes(json.loads((source / SIZES).read_text(encoding="utf-8")))
    files = sorted(p for p in source.glob("*.safetensors") if p.name != REST)
    state = read_state(files)
    missing = sorted({entry.ours for entry in entries(sizes)} - set(state))
    if missing:
        raise ModalignError(f"{folder} lacks {missing[0]}: its part {part_of(missing[0])} is missing or incomplete")
    return sizes, state
