"""From a command line to settings: a folder of one's own adds to what ships, and nothing is left unresolved."""

import re

import pytest

from modalign.config.compose import (
    chosen_group,
    compose_settings,
    modality_names,
    modality_set,
    options,
    with_pluses,
)
from modalign.config.places import conf_folder
from modalign.errors import ModalignError

RADAR = """
title: Radar
decoder: {_target_: modalign.data.decoders.maps.MapDecoder, channels: 1, size: [16, 16]}
tokenizer: {part: radar, _target_: modalign.models.tokenizers.maps.MapTokenizer, width: 128, kernel: 4, stride: 4,
  channels: 1, size: 16}
encoder: clip
projector: upm
prompts: ["What does the radar see?"]
"""


@pytest.fixture
def own(tmp_path):
    """Somebody's own configuration: a ninth modality and an experiment."""
    for name, text in {
        "modalities/embedded/radar.yaml": RADAR,
        "experiment/mine.yaml": "# @package _global_\nseed: 7\nstages: {align: {steps: 3}}\n",
        "model/mine.yaml": "defaults: [embedded, _self_]\nname: mine\nmodality_set: embedded\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_modality_is_a_file_in_one_s_own_folder_and_nothing_else(own):
    settings, plain = compose_settings((), own)
    assert settings.modalities["radar"].title == "Radar"
    assert len(settings.modalities) == 9
    assert plain["modalities"]["radar"]["tokenizer"]["kernel"] == 4


def test_an_own_experiment_changes_what_it_names(own):
    settings, _ = compose_settings(("experiment=mine", "stages.align.steps=5"), own)
    assert settings.seed == 7
    assert settings.stages["align"].steps == 5  # the command line has the last word


def test_an_own_model_uses_the_set_of_modalities_that_it_names(own):
    assert modality_set(("model=mine",), own) == "embedded"
    assert "radar" in modality_names("embedded", own)
    assert "radar" not in modality_names("embedded")
    assert compose_settings(("model=mine",), own)[0].model.name == "mine"


def test_options_are_the_shipped_and_the_own_ones(own):
    assert {"mine", "digits"} <= set(options("experiment", own))
    assert chosen_group("model", ("model=a", "model=b")) == "b"
    assert chosen_group("model", ()) is None


@pytest.mark.parametrize(
    ("name", "line", "words", "read"),
    [
        ("config", "seed: 5", (), lambda s: s.seed == 5),
        ("stages/align", "slice_size: 7", (), lambda s: s.stages["align"].slice_size == 7),
        ("stages/onellm/align", "slice_size: 7", ("model=onellm_7b",), lambda s: s.stages["align"].slice_size == 7),
        ("modalities/onellm/audio", "title: Ear", ("model=onellm_7b",), lambda s: s.modalities["audio"].title == "Ear"),
        ("curriculum/by_size", "name: mine", (), lambda s: s.curriculum.name == "mine"),
        ("data/onellm", "align: {image: [mine]}", ("data=onellm",), lambda s: s.data.align["image"] == ("mine",)),
        ("model/embedded", "name: mine", ("experiment=digits",), lambda s: s.model.name == "mine"),
    ],
)
def test_a_file_of_ones_own_stands_in_for_the_shipped_one_of_its_name(tmp_path, name, line, words, read):
    shipped, key = (conf_folder() / f"{name}.yaml").read_text(), line.partition(":")[0]
    assert not read(compose_settings(words)[0])
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / f"{name}.yaml").write_text(re.sub(rf"(?m)^{key}:.*\n( .*\n)*", f"{line}\n", shipped))
    assert read(compose_settings(words, tmp_path)[0])
    assert not read(compose_settings(words)[0])  # the folder is looked into by the command that names it alone


def test_the_model_that_ones_own_config_yaml_chooses_brings_its_set_of_modalities(tmp_path):
    chosen = (conf_folder() / "config.yaml").read_text().replace("- model: embedded", "- model: onellm_7b")
    (tmp_path / "config.yaml").write_text(chosen)
    assert modality_set((), tmp_path) == "onellm"
    assert compose_settings((), tmp_path)[0].modalities == compose_settings(("model=onellm_7b",))[0].modalities


def test_a_file_that_names_itself_to_add_to_the_shipped_one_is_told_in_a_line(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "embedded.yaml").write_text("defaults: [embedded, _self_]\nname: mine\n")
    with pytest.raises(ModalignError, match=r"--config-dir .*: a file there .* cannot name itself in its defaults"):
        compose_settings((), tmp_path)


def test_a_value_longer_than_the_name_of_a_file_may_be_is_set_like_any_other():
    names = [f"dataset_{number}" for number in range(30)]
    settings, _ = compose_settings([f"data.accept_licences=[{','.join(names)}]"])
    assert len(",".join(names)) > 300
    assert settings.data.accept_licences == tuple(names)


def test_an_own_modality_with_a_misspelt_key_is_told_by_its_name(own):
    (own / "modalities" / "embedded" / "radar.yaml").write_text(RADAR.replace("prompts:", "promts:"))
    with pytest.raises(ModalignError, match=r"modalities\.radar"):
        compose_settings((), own)


@pytest.mark.parametrize("name", ["modalities/embedded/radar", "experiment/mine", "model/mine"])
def test_a_yaml_file_that_cannot_be_read_is_told_in_one_line_with_its_name(own, name):
    (own / f"{name}.yaml").write_text("title: [unclosed\n")
    with pytest.raises(ModalignError, match=rf"{name}\.yaml line 2 is not valid YAML: expected ',' or ']'"):
        compose_settings(("experiment=mine", "model=mine"), own)


def test_the_plain_settings_hold_no_interpolation_and_nothing_of_hydra():
    _, plain = compose_settings(())
    assert "hydra" not in plain
    assert "${" not in str(plain)


def test_settings_cannot_be_changed_once_they_are_checked():
    settings, _ = compose_settings(())
    with pytest.raises(ValueError, match="frozen"):
        settings.seed = 3


def test_a_wrong_name_beside_a_model_of_ones_own_is_told_as_such(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("defaults: [embedded, _self_]\nname: mine\nmodality_set: embedded\n")
    with pytest.raises(ModalignError, match="unknown setting 'max_text_token' in model: did you mean"):
        compose_settings(["model=mine", "model.max_text_token=3"], tmp_path)


def test_a_file_of_a_group_that_says_not_where_it_belongs_is_told_its_first_line(tmp_path):
    (tmp_path / "hardware").mkdir()
    (tmp_path / "hardware" / "mine.yaml").write_text("name: mine\n")
    with pytest.raises(ModalignError, match=r"must be '# @package plan\.hardware'"):
        compose_settings(["hardware=mine"], tmp_path)


@pytest.mark.parametrize(
    ("word", "read"),
    [
        ("stages.align.frozen=[tokenizers.visual]", lambda s: s.stages["align"].frozen == ("tokenizers.visual",)),
        ("modalities.image.learning_rate_scale=0.5", lambda s: s.modalities["image"].learning_rate_scale == 0.5),
        ("+modalities.image.learning_rate_scale=0.5", lambda s: s.modalities["image"].learning_rate_scale == 0.5),
        ("stages.instruct.chat.stop=END", lambda s: s.stages["instruct"].chat.stop == "END"),
        ("data.accept_licences=[nsd_fmri]", lambda s: s.data.accept_licences == ("nsd_fmri",)),
    ],
)
def test_a_setting_that_no_yaml_names_is_set_like_any_other(word, read):
    words = ["model=onellm_7b", word]
    assert read(compose_settings(words)[0])
    assert [given.lstrip("+") for given in with_pluses(words)] == [given.lstrip("+") for given in words]


def test_of_a_sweep_one_command_tells_what_has_a_name():
    words = ["model=embedded,onellm_7b", "stages.align.frozen=[llm],[]", "seed=1,2"]
    one = ["model=embedded", "stages.align.max_text_tokens=3", "seed=1"]
    assert with_pluses(words, like=one)[::2] == words[::2]
    assert with_pluses(words) == words
    assert with_pluses(["stages.align.max_text_tokens=3,4"], like=one) == ["++stages.align.max_text_tokens=3,4"]


def test_a_setting_that_no_yaml_names_inside_a_mapping_is_named_with_its_own_name():
    with pytest.raises(ModalignError, match=r"set it by its own name, stages\.align\.max_text_tokens="):
        compose_settings(["stages.align={max_text_tokens: 64}"])


def test_a_name_of_nobody_gets_no_plus():
    words = ["stages.align.stepz=3", "stages.algin.frozen=[llm]", "curriculum.steps.smell=3", "seed=3"]
    assert with_pluses(words) == words
