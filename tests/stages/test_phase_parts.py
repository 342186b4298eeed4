"""What a phase keeps frozen though its stage's `train` names it."""

from __future__ import annotations

import pytest

from modalign.config.compose import compose_settings
from modalign.config.recipes import RecipeBook
from modalign.config.specs import Planner
from modalign.errors import ModalignError
from modalign.models.freezing import FreezePlan
from modalign.stages.assemble import build_model
from modalign.stages.phase_parts import parts_that_train, rate_scales


def trained(modality, *changes):
    """The parts that train in a modality's phase of alignment, of a curriculum of image, audio, depth."""
    settings, _ = compose_settings(
        ["stage=align", f"modality={modality}", "debug=tiny", "curriculum.groups=[[image],[audio],[depth]]", *changes]
    )
    book = RecipeBook(settings)
    spec = Planner(settings, book).plan()[-1]
    return set(
        parts_that_train(build_model(settings, spec.modalities, spec.num_experts, None), spec, settings, book).trains
    )


def tokens(parts):
    return {part for part in parts if part.startswith(("tokenizers.", "positions."))}


FROZEN, AFTER = "stages.align.frozen=[tokenizers.visual]", "stages.align.frozen_after=[tokenizers,positions]"


@pytest.mark.parametrize(
    ("modality", "changes", "expected"),
    [
        ("image", (), {"tokenizers.visual"}),
        ("image", (FROZEN, AFTER), set()),
        ("audio", (), {"tokenizers.visual", "tokenizers.audio", "positions.audio"}),
        ("audio", (FROZEN,), {"tokenizers.audio", "positions.audio"}),
        ("audio", (AFTER,), {"tokenizers.audio", "positions.audio"}),
        ("depth", (AFTER,), set()),  # its tokenizer is image's
        ("depth", ("stages.align.frozen_after=[positions]",), {"tokenizers.visual", "tokenizers.audio"}),
    ],
)
def test_tokenizers_rest_from_the_start_or_after_their_phase(modality, changes, expected):
    found = trained(modality, *changes)
    assert tokens(found) == expected
    assert any(part.startswith("projectors.upm.ports") for part in found)


def test_a_later_modalitys_tokenizer_may_be_named():
    assert tokens(trained("image", "stages.align.frozen=[tokenizers.audio]")) == {"tokenizers.visual"}


@pytest.mark.parametrize("setting", ["frozen", "frozen_after"])
def test_a_part_that_nobody_has_is_an_error(setting):
    with pytest.raises(ModalignError, match=rf"stages\.align\.{setting}.*did you mean 'tokenizers.visual'"):
        trained("image", f"stages.align.{setting}=[tokenizers.visul]")


def test_a_phase_in_which_nothing_is_left_to_train_is_an_error():
    with pytest.raises(ModalignError, match=r"nothing would train in align-image-.*frozen"):
        trained("image", "stages.align.frozen=[tokenizers,positions,projectors]")


def test_by_default_embedded_patches_rest_and_senses_keep_what_they_learned():
    settings, _ = compose_settings(["stage=align", "modality=audio"])
    assert settings.stages["align"].frozen == ("tokenizers.visual",)
    assert settings.stages["align"].frozen_after == ("tokenizers", "positions")
    paper, _ = compose_settings(["model=onellm_7b", "stage=align", "modality=audio"])
    assert paper.stages["align"].frozen == paper.stages["align"].frozen_after == ()


OWN = ("+model.projectors.own=${model.projectors.upm}", "modalities.audio.projector=own")


def test_a_projector_of_its_own_is_new_in_the_phase_that_brings_it():
    settings, _ = compose_settings(
        ["stage=align", "modality=audio", "debug=tiny", "curriculum.groups=[[image],[audio]]", *OWN,
         "stages.align.optimizer.earlier_scale=0.2"]
    )  # fmt: skip
    spec = Planner(settings, RecipeBook(settings)).plan()[-1]
    parts = ("projectors.own.experts.0", "projectors.own.ports.audio", "projectors.upm.experts.0")
    scales = rate_scales(FreezePlan(parts, ()), spec, settings.stages["align"].optimizer, settings.modalities)
    assert scales["projectors.own.experts.0"] == 1.0
    assert scales["projectors.upm.experts.0"] == 0.2
    found = trained("audio", *OWN, "stages.align.frozen_after=[tokenizers,positions,projectors]")
    assert any(part.startswith("projectors.own.experts") for part in found)


def test_a_projector_that_nothing_goes_through_does_not_train():
    found = trained("audio", *OWN, "stages.align.replay=none")
    assert not any(part.startswith("projectors.upm") for part in found)
    assert any(part.startswith("projectors.own.experts") for part in found)
