"""`modalign convert`: a released OneLLM checkpoint as a folder of our parts, and such a folder written back."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modalign.cli.environment import prepare_environment
from modalign.cli.parser import VerbParser
from modalign.cli.terminal import count, print_table, say, working
from modalign.errors import ModalignError
from modalign.runs.files import telling_errors

SUMMARY = """Read a released OneLLM checkpoint (one file or several, .pth or .safetensors) and write each of our parts
as safetensors, with the sizes that were read off it; or take such a folder and write the released format back.
Values are renamed and regrouped, never changed."""
EXAMPLES = (
    "modalign convert consolidated.00-of-01.pth --out onellm_7b",
    "modalign convert onellm_7b --to-published onellm.pth",
)


def run(arguments: Sequence[str]) -> int:
    """Convert one way or the other."""
    parser = VerbParser("convert", SUMMARY, EXAMPLES)
    parser.add_argument("source", nargs="+", metavar="CHECKPOINT|FOLDER", type=Path)
    parser.add_argument("--out", metavar="FOLDER", type=Path, help="write our parts and sizes.json there")
    parser.add_argument("--to-published", metavar="FILE", type=Path, help="write FOLDER in the released format")
    parser.add_argument("--sizes", metavar="FILE", type=Path, help="JSON of sizes that tensors cannot tell (heads …)")
    options = parser.parse(arguments)
    _check(options)
    prepare_environment()
    if options.to_published is not None:
        from modalign.models.published.folder import folder_to_released

        with working(lambda: f"writing {options.to_published}"), telling_errors(options.to_published):
            folder_to_released(options.source[0], options.to_published)
        say(str(options.to_published))
        return 0
    from modalign.models.published.folder import released_to_folder

    with working(lambda: f"reading {len(options.source)} files"), telling_errors(options.out):
        parts = released_to_folder(options.source, options.out, _sizes(options.sizes))
    counts = {part: _parameters(options.out / f"{part}.safetensors") for part in parts}
    print_table(("part", "parameters"), [[part, count(n)] for part, n in counts.items()], numbers=(1,))
    say(f"{options.out}: {len(parts)} parts, {count(sum(counts.values()))} parameters")
    return 0


def _check(options: argparse.Namespace) -> None:
    if (options.out is None) == (options.to_published is None):
        raise ModalignError("say what to write: --out FOLDER (our parts) or --to-published FILE (their format)")
    if options.to_published is not None and (len(options.source) > 1 or not options.source[0].is_dir()):
        raise ModalignError("--to-published takes one folder that `modalign convert … --out` wrote")
    if options.out is not None and options.out.is_dir() and any(options.out.iterdir()):
        raise ModalignError(f"{options.out} holds something already: name another folder")


def _sizes(file: Path | None) -> dict[str, Any] | None:
    if file is None:
        return None
    try:
        sizes = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise ModalignError(f"--sizes {file} cannot be read as JSON: {error}") from None
    if not isinstance(sizes, dict):
        raise ModalignError(f"--sizes {file} must hold a mapping of names to numbers")
    return sizes


def _parameters(file: Path) -> int:
    """The number of values in a safetensors file, from its header."""
    from math import prod

    from safetensors import safe_open

    with safe_open(str(file), framework="pt") as opened:
        return sum(prod(opened.get_slice(name).get_shape()) for name in opened.keys())  # noqa: SIM118 (no mapping)
