"""What a study has already: a table of more runs, or of other settings, is not replaced unasked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from modalign.config.study import Study
from modalign.errors import ModalignError

RESULT, SETTINGS = "result.json", "settings"
# Settings of a command that change no score: where things lie, and how they are computed.
OF_NO_RESULT = ("trainer.", "trainer=", "paths.", "logger", "data.workers=", "data.ahead=", "data.accept_licences=")


def refuse_to_replace(
    folder: Path, study: Study, arms: Sequence[str], seeds: Sequence[int], settings: Sequence[str]
) -> None:
    """ModalignError where the table in `folder` holds arms or seeds that a command lacks, or was made with others'
    settings; arms that the study has no more do not count."""
    file = folder / RESULT
    try:
        earlier = json.loads(file.read_text(encoding="utf-8"))
        made = [(arm["name"], seed) for arm in earlier["arms"] for seed in arm["seeds"]]
        with_settings = list(earlier.get("extra", {}).get(SETTINGS, []))
    except FileNotFoundError:
        return
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModalignError(f"{file} cannot be read ({error}): remove it, or write elsewhere with --out DIR") from None
    elsewhere = "write what this command gives elsewhere with --out DIR"
    if sorted(with_settings) != sorted(settings):
        one, other = (" ".join(words) or "no settings of its own" for words in (with_settings, settings))
        raise ModalignError(f"{file} was made with {one}, this command has {other}: {elsewhere}")
    lost = [f"{arm}, seed {seed}" for arm, seed in made if arm in study.arms and not (arm in arms and seed in seeds)]
    if lost:
        raise ModalignError(
            f"{file} holds {len(made)} arms and seeds, of which this command lacks {len(lost)} (the first: {lost[0]}): "
            f"name all of them, or {elsewhere}"
        )
