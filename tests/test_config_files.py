"""Every YAML that ships is composed and checked, and what it names is built: what nobody tried does not work."""

import io
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from modalign.config.build import build, locate
from modalign.config.compose import compose_settings, modality_names, modality_set
from modalign.config.places import conf_folder, recipe_folder
from modalign.config.recipes import RecipeBook
from modalign.config.specs import Planner
from modalign.data.decoding import standardised
from modalign.data.recipes import load_recipe
from modalign.models.parts import count_parameters, declared_parts, match
from modalign.models.seams import Tokenizer as TokenizerSeam
from modalign.models.text_tokenizer import TextTokenizer
from modalign.stages.assemble import build_model, build_tokenizers
from modalign.stages.sources import template_of
from modalign.types import Batch, MediaBatch, Segment
from modalign.world.build import world_sample
from modalign.world.difficulty import WorldSettings

CONF = conf_folder()
STAGES = sorted(path.stem for path in (CONF / "stages").glob("*.yaml"))
MODELS = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))
RECIPES = sorted(recipe_folder().glob("*.yaml"))
SETS = sorted(path.name for path in (CONF / "modalities").iterdir() if path.is_dir())
# Groups of which one option is chosen by `group=option`; the others are named as what they are.
CHOICES = [
    f"{path.parent.name}={path.stem}"
    for path in sorted(CONF.glob("*/*.yaml"))
    if path.parent.name not in {"stages", "modalities"}
]
# A group inside a group belongs to one model; its options are chosen beside it.
NESTED = {
    path: ("model=onellm_7b", f"{path.parent.relative_to(CONF)}={path.stem}")
    for path in sorted(CONF.glob("model/*/*.yaml"))
} | {
    path: ("model=onellm_7b", f"stages@stages.{path.stem}={path.parent.name}/{path.stem}")
    for path in sorted(CONF.glob("stages/*/*.yaml"))
}


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@cache
def composed(*overrides: str):
    """Settings of a command line; composing takes a quarter of a second, so each is composed once."""
    return compose_settings(overrides)[0]


@cache
def model_of(name: str):
    """The whole model of a configuration, all of its modalities, on a vocabulary of a few words."""
    settings = composed(f"model={name}")
    torch.manual_seed(0)
    return build_model(settings, tuple(settings.modalities), None, few_words())


def few_words() -> TextTokenizer:
    words = Tokenizer(models.WordLevel({"<unk>": 0, "<s>": 1, "</s>": 2, "a": 3}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return TextTokenizer(PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="</s>"))


def targets(value, place=""):
    """Every `_target_` below a value, with where it stands."""
    if isinstance(value, dict):
        if "_target_" in value:
            yield place, value["_target_"]
        for key, child in value.items():
            yield from targets(child, f"{place}.{key}".lstrip("."))
    elif isinstance(value, list):
        for number, child in enumerate(value):
            yield from targets(child, f"{place}[{number}]")


def real_media(settings, modality: str, count: int = 2) -> MediaBatch:
    """What the modality's decoder makes of real files: of the world's sensor, or of vectors as long as declared."""
    declared = settings.modalities[modality]
    decoder = build(declared.decoder, f"modalities.{modality}.decoder")

    def decode(content):
        return standardised(decoder, decoder(content))

    sizes = declared.tokenizer.get("sizes")
    if sizes:
        variants = tuple(list(sizes)[i % len(sizes)] for i in range(count))
        values = [decode(npy(np.random.default_rng(i).normal(size=sizes[v]))) for i, v in enumerate(variants)]
        longest = max(len(value) for value in values)
        return MediaBatch(torch.stack([F.pad(v, (0, longest - len(v))) for v in values]), variants)
    recipe = load_recipe(recipe_folder() / f"world_{modality}.yaml")
    world = WorldSettings.from_mapping(composed("world=tiny").world)
    files = [world_sample(world, recipe.name, "train", i)[1][recipe.media[modality]] for i in range(count)]
    return MediaBatch(torch.stack([decode(file) for file in files]), (None,) * count)


def npy(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, values.astype(np.float32))
    return file.getvalue()


@pytest.mark.parametrize("choice", [*((c,) for c in CHOICES), *NESTED.values()], ids=lambda c: c[-1])
def test_every_option_of_every_group_composes_and_passes_the_check(choice):
    settings = composed(*choice)
    assert set(settings.stages) == set(STAGES)
    assert settings.modalities


def test_the_debug_settings_shorten_every_phase_of_the_curriculum():
    settings = composed("debug=tiny")
    specs = Planner(settings, RecipeBook(settings)).plan()
    assert max(spec.steps for spec in specs) < 10, {spec.name: spec.steps for spec in specs}
    assert settings.world["name"] == "tiny"


def test_the_length_of_a_debug_phase_follows_the_command_line():
    settings = composed("debug=tiny", "stages.align.steps=7", "stage=align", "modality=image")
    assert Planner(settings, RecipeBook(settings)).plan()[-1].steps == 7


@pytest.mark.parametrize("model", MODELS)
def test_every_file_of_a_modality_set_is_a_modality_of_its_model(model):
    settings = composed(f"model={model}")
    assert sorted(settings.modalities) == modality_names(settings.model.modality_set)


def test_every_modality_set_belongs_to_a_model():
    assert {composed(f"model={model}").model.modality_set for model in MODELS} == set(SETS)


def test_every_yaml_file_under_conf_is_reached_by_these_tests():
    reached = {CONF / "config.yaml"} | {CONF / c.split("=")[0] / f"{c.split('=')[1]}.yaml" for c in CHOICES}
    reached |= {CONF / "stages" / f"{stage}.yaml" for stage in STAGES}
    reached |= set(NESTED)
    reached |= {path for folder in SETS for path in (CONF / "modalities" / folder).glob("*.yaml")}
    assert set(CONF.rglob("*.yaml")) == reached


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda p: str(p.relative_to(CONF)))
def test_everything_that_a_file_names_to_be_built_exists(path):
    for place, target in targets(yaml.safe_load(path.read_text()) or {}):
        assert callable(locate(target, f"{path.name}: {place}"))


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_names_parts_that_exist_and_a_template_that_can_be_made(stage):
    whole = composed("model=embedded")
    settings = whole.stages[stage]
    assert template_of(settings)
    assert settings.optimizer.warmup_steps < (settings.steps or min(whole.curriculum.steps.values()))
    if settings.template in {"caption", "chat"} and settings.train != "new":
        for selector in settings.train:
            assert match(selector, declared_parts(model_of("embedded")))


@pytest.mark.parametrize("model", MODELS)
def test_every_decoder_and_tokenizer_is_built_with_exactly_the_keys_of_its_file(model):
    settings = composed(f"model={model}")
    with torch.device("meta"):
        tokenizers = build_tokenizers(settings.modalities)
    for name, declared in settings.modalities.items():
        assert callable(build(declared.decoder, f"modalities.{name}.decoder"))
        assert isinstance(tokenizers[declared.tokenizer["part"]], TokenizerSeam)


@pytest.mark.parametrize("model", MODELS)
def test_modalities_that_share_a_tokenizer_declare_it_alike(model):
    """The first one builds it, so that a second that says otherwise would be ignored without a word."""
    declared: dict[str, dict] = {}
    for name, modality in composed(f"model={model}").modalities.items():
        given = {key: value for key, value in modality.tokenizer.items() if key != "start"}
        if "_target_" in given:
            assert declared.setdefault(given["part"], given) == given, name


@pytest.mark.parametrize(
    ("model", "modality"), [(m, n) for m in MODELS for n in modality_names(modality_set((f"model={m}",)))]
)
def test_what_the_decoder_gives_is_what_the_tokenizer_takes(model, modality):
    settings = composed(f"model={model}")
    declared = settings.modalities[modality]
    with torch.device("meta"):  # shapes are the question, and full-size weights are large
        tokenizer = build_tokenizers({modality: declared})[declared.tokenizer["part"]]
    media = real_media(settings, modality)
    tokens = tokenizer(media.values.to("meta"), media.variants)
    num_frames = declared.decoder.get("num_frames", 1) if media.values.dim() == 5 else 1
    assert tokens.shape == (2, num_frames, tokenizer.num_tokens, tokenizer.width)


def test_the_embedded_model_is_built_for_all_of_its_modalities_at_once():
    model = model_of("embedded")
    counts = count_parameters(model)
    assert len(model.paths) == 8
    assert sum(name.startswith("projectors.upm.experts.") for name in counts) == 3
    assert {f"projectors.upm.ports.{m}" for m in model.paths} <= set(counts)
    assert sum(counts.values()) < 5_000_000


@pytest.mark.parametrize("modality", modality_names("embedded"))
def test_a_caption_teaches_every_modality_of_the_embedded_model(modality):
    """One forward and backward pass through the whole path, from real files."""
    model, settings = model_of("embedded"), composed("model=embedded")
    model.zero_grad(set_to_none=True)
    layout = tuple((Segment(modality, i), Segment(None, 3 * i, 3)) for i in range(2))
    weights = torch.ones(6)
    media = {modality: real_media(settings, modality)}
    output = model.loss(Batch(media, layout, torch.tensor([3, 3, 2] * 2), weights, ("a", "b")))
    assert float(output.weight_sum) == 6
    output.loss_sum.backward()
    own = model.own_parts(modality)
    assert f"projectors.upm.ports.{modality}" in own
    for name, parameter in model.named_parameters():
        if any(name.startswith(f"{part}.") for part in own):
            assert parameter.grad is not None, name
            assert bool(torch.isfinite(parameter.grad).all()), name


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_every_shipped_recipe_loads_and_carries_only_modalities_that_exist(path):
    recipe = load_recipe(path)
    known = set().union(*(modality_names(folder) for folder in SETS))
    assert set(recipe.media) <= known
    if recipe.make is not None:
        assert callable(locate(recipe.make["_target_"], path.name))


def test_every_recipe_that_a_configuration_names_is_shipped():
    shipped = {path.stem for path in RECIPES}
    for choice in [c for c in CHOICES if c.split("=")[0] in {"data", "experiment", "model"}]:
        settings = composed(choice)
        data = settings.data
        named = {n for names in data.align.values() for n in names} | set(data.instruct) | set(data.pairs)
        named |= {*data.pretrain_text, *data.pretrain_contrast, *filter(None, [data.text_loss])}
        named |= {n for m in settings.modalities.values() for n in m.recipes}
        assert named <= shipped, f"{choice}: {sorted(named - shipped)}"


@pytest.mark.parametrize("world", sorted(path.stem for path in (CONF / "world").glob("*.yaml")))
def test_every_world_says_how_many_samples_each_of_its_recipes_has(world):
    settings = composed(f"world={world}")
    book = RecipeBook(settings)
    for name in (p.stem for p in RECIPES):
        if book.is_generated(name):
            assert book.num_samples(name, "test") > 0, name
    sizes = [book.num_samples(f"world_{m}", "train") for m in ("image", "video", "point", "depth", "normal")]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("curriculum", sorted(path.stem for path in (CONF / "curriculum").glob("*.yaml")))
def test_every_curriculum_plans_each_modality_once_and_ends_with_instruction(curriculum):
    settings = composed(f"curriculum={curriculum}")
    specs = Planner(settings, RecipeBook(settings)).plan()
    taught = [m for spec in specs for m in spec.new]
    assert sorted(taught) == sorted(settings.modalities)
    assert specs[-1].stage == "instruct"
    assert len({spec.identity for spec in specs}) == len(specs)


@pytest.mark.parametrize("experiment", sorted(path.stem for path in (CONF / "experiment").glob("*.yaml")))
def test_every_experiment_states_its_question_and_differs_from_the_default(experiment):
    text = (CONF / "experiment" / f"{experiment}.yaml").read_text()
    assert text.startswith("# @package _global_\n# ")
    own, default = composed(f"experiment={experiment}"), composed()
    assert own != default


def test_the_configuration_reaches_for_nothing_on_a_network():
    """No option but a released full-size model names anything that would have to be fetched."""
    for model in MODELS:
        settings = composed(f"model={model}")
        fetched = [t.get("pretrained") for t in settings.model.encoders.values()]
        fetched += [settings.model.text_tokenizer, settings.model.language_model.get("source")]
        if model == "embedded":
            assert not [f for f in fetched if isinstance(f, str)]
    assert not composed().logger.wandb


def test_readable_files_have_short_lines():
    long = [
        f"{path.relative_to(CONF)}:{number}"
        for path in [*CONF.rglob("*.yaml"), *recipe_folder().glob("*.yaml")]
        for number, line in enumerate(Path(path).read_text().splitlines(), 1)
        if len(line) > 200
    ]
    assert not long, ", ".join(long)
