"""probes.json: reads back as it was written, without torch."""

import subprocess
import sys

import pytest

from modalign.errors import ModalignError
from modalign.evaluation.probes.findings import (
    InputUse,
    ModalityProbe,
    NearestWord,
    Probes,
    Retrieval,
    Routing,
    find_probes,
    scalars,
    write_probes,
)

FOUND = ModalityProbe(
    7, 16, InputUse(1.0, 1.5, 1.75, 0.5, 0.25, 0.75),
    Retrieval(0.5, 1.0, 0.125, 0.625, 8), Routing((0.75, 0.25), 0.5, 0.8),
    (NearestWord(0, " cube", 0.5, 0.25), NearestWord(1, "red", 1.0, 0.75)), {"projectors.upm.ports.smell": 0.5},
)  # fmt: skip
DISTANCE = {"upm": ((0.0, 0.5), (0.5, 0.0))}


def test_what_is_written_reads_back(tmp_path):
    probes = Probes("run", "val", {"smell": FOUND, "taste": ModalityProbe(3, 2, FOUND.use)}, DISTANCE)
    assert find_probes(tmp_path) is None
    write_probes(tmp_path, probes)
    assert find_probes(tmp_path) == probes


def test_a_modality_whose_loss_is_not_finite_is_left_out(tmp_path):
    broken = ModalityProbe(3, 2, InputUse(*[float("nan")] * 6))
    write_probes(tmp_path, Probes("run", "val", {"smell": FOUND, "taste": broken}))
    assert list(find_probes(tmp_path).modalities) == ["smell"]


def test_a_damaged_file_is_told_in_one_line(tmp_path):
    for text in ("{", "[]", '{"run": "a", "split": "val", "modalities": {"smell": {}}, "expert_distance": {}}'):
        (tmp_path / "probes.json").write_text(text)
        with pytest.raises(ModalignError, match=r"probes.json cannot be read"):
            find_probes(tmp_path)


def test_the_numbers_of_a_probe_are_rows_of_metrics():
    assert scalars("smell", FOUND) == {
        "probe/loss_real/smell": 1.0, "probe/loss_shuffled/smell": 1.5, "probe/loss_blank/smell": 1.75,
        "probe/retrieval_at_1/smell": 0.5, "probe/retrieval_at_5/smell": 1.0,
        "probe/router_entropy/smell": 0.5, "probe/router_balance/smell": 0.8, "probe/word_cosine/smell": 0.5,
        "probe/router_load/smell/expert_1": 0.75, "probe/router_load/smell/expert_2": 0.25,
    }  # fmt: skip


def test_probes_are_read_without_torch():
    code = "import sys, modalign.evaluation.probes.findings; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
