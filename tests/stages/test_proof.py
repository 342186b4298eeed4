"""What a finished training proves of gradients: a whole part needs one, an expert that was never chosen does not."""

import logging
from types import SimpleNamespace

import pytest
import torch

from modalign.errors import ModalignError
from modalign.runs.manifest import Manifest
from modalign.runs.ranks import Ranks
from modalign.stages.proof import prove

EXPERTS = ["projectors.upm.experts.0", "projectors.upm.experts.1"]


@pytest.fixture
def trained():
    """A manifest and a module whose parts have the verdicts of a dict that the test changes."""
    verdicts = dict.fromkeys([*EXPERTS, "projectors.upm.ports.image"], "ok")
    rows = [{"name": n, "parameters": 1, "trains": True, "gradient": None, "unchanged": None} for n in verdicts]
    module = SimpleNamespace(
        model=torch.nn.Linear(1, 1), plan=SimpleNamespace(frozen=()), ranks=Ranks(),
        proof=SimpleNamespace(result=lambda: verdicts, state=lambda: {}, load=lambda state: None),
    )  # fmt: skip
    return Manifest("run", "identity", "align", parts=rows), module, verdicts


def test_an_expert_that_a_sparse_router_never_chose_is_named_but_no_error(trained, caplog):
    manifest, module, verdicts = trained
    verdicts[EXPERTS[1]] = "none"
    with caplog.at_level(logging.WARNING):
        prove(manifest, module, {})
    assert "projectors.upm.experts.1 (none)" in caplog.text
    assert manifest.parts[1]["gradient"] == "none"


@pytest.mark.parametrize("verdict", ["zero", "none", "nonfinite"])
def test_a_whole_part_without_a_gradient_is_an_error_that_names_it(trained, verdict):
    manifest, module, verdicts = trained
    verdicts["projectors.upm.ports.image"] = verdict
    with pytest.raises(ModalignError, match=rf"ports\.image \({verdict}\)"):
        prove(manifest, module, {})


def test_an_expert_with_nothing_but_unusable_gradients_is_an_error(trained):
    manifest, module, verdicts = trained
    verdicts[EXPERTS[1]] = "nonfinite"
    with pytest.raises(ModalignError, match="nonfinite"):
        prove(manifest, module, {})


def test_only_the_first_process_judges(trained):
    manifest, module, verdicts = trained
    verdicts["projectors.upm.ports.image"] = "none"
    module.ranks = SimpleNamespace(first=False, gather=lambda value: [value])
    prove(manifest, module, {})
    assert manifest.parts[0]["gradient"] is None
