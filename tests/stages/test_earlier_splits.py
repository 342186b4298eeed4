"""A phase that adds a sense may measure the earlier ones on fewer splits."""

from __future__ import annotations

import json

TWO = "evaluation.splits=[test,test_unseen]"


def splits(folder):
    """The splits on which each modality was scored."""
    found: dict[str, set[str]] = {}
    for score in json.loads(folder.results_file.read_text())["scores"]:
        found.setdefault(score["modality"], set()).add(score["split"])
    return found


def test_the_new_sense_is_measured_on_all_splits_and_earlier_ones_on_the_first(own_shop):
    first, everything = (
        splits(own_shop().train("stage=align", "modality=audio", TWO, f"evaluation.earlier_splits={number}"))
        for number in ("1", "null")
    )
    assert first == {"image": {"test"}, "audio": {"test", "test_unseen"}}
    assert everything == {"image": {"test", "test_unseen"}, "audio": {"test", "test_unseen"}}


def test_a_phase_that_adds_none_measures_all_splits(own_shop):
    tuned = own_shop().train("stage=instruct", "modality=[image,audio]", TWO, "evaluation.earlier_splits=1")
    assert set(map(frozenset, splits(tuned).values())) == {frozenset({"test", "test_unseen"})}
