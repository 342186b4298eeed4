"""What a command is told of a finished run that was measured with other settings than it has."""

from types import SimpleNamespace

import pytest

from modalign.runs.finished import measured_otherwise
from modalign.runs.manifest import Manifest

NOW = {"splits": ["test"], "num_items": 8}


def told(before, now):
    manifest = Manifest("run", "a" * 64, "align", extra={} if before is None else {"measuring": before})
    return measured_otherwise(manifest, SimpleNamespace(measuring=now))


@pytest.mark.parametrize(
    ("before", "now", "words"),
    [
        (NOW, NOW | {"num_items": 4}, "was measured with num_items=8;"),
        (NOW, NOW | {"earlier_splits": 1}, "was measured with earlier_splits=None;"),
        (NOW | {"earlier_splits": 1}, NOW, "was measured with earlier_splits=1;"),
        (NOW | {"earlier_splits": 1}, NOW | {"num_items": 4}, "was measured with num_items=8, earlier_splits=1;"),
    ],
)
def test_a_setting_is_told_whichever_side_has_it_at_its_default(before, now, words):
    assert words in told(before, now)


@pytest.mark.parametrize("before", [None, NOW, NOW | {"pairs": ["world_pairs"]}, NOW | {"num_shown": 4}])
def test_what_was_measured_alike_or_changes_no_score_is_not_told(before):
    assert told(before, NOW) is None


def test_a_run_without_results_was_not_measured_otherwise():
    assert told(None, {}) is None
