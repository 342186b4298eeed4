"""OneLLM's recipe as the paper states it and as the released code has it: phases, batches, rates, steps, prompts."""

from functools import cache

import pytest

from modalign.config.compose import compose_settings
from modalign.config.planning import PlanningBook
from modalign.config.specs import Planner
from modalign.errors import ModalignError

GROUPS = [("image",), ("video", "audio", "point"), ("depth", "normal", "imu", "fmri")]
EIGHT = tuple(name for group in GROUPS for name in group)
# Samples of a step, peak rate, lowest rate, warm-up and length in samples. Published are iterations, which are
# micro-steps: of 16 GPUs with 40 samples each in the first phase, of 8 with 40 in the others, of 8 with 4 in tuning.
PAPER = [
    (5120, 5e-5, 5e-6, 2000 * 640, 200_000 * 640),
    (1080, 1e-5, 5e-6, 2000 * 320, 200_000 * 320),
    (1080, 1e-5, 5e-6, 2000 * 320, 100_000 * 320),
    (512, 2e-5, 0.0, 0.05 * 2_006_000, 96_000 * 32),
]
RELEASED = [
    (5120, 5e-5, 5e-6, 2000 * 640, 200_000 * 640),
    (5120, 1e-5, 5e-6, 2000 * 320, 400_000 * 320),
    (5120, 1e-5, 5e-6, 2000 * 320, 200_000 * 320),
    (128, 2e-5, 0.0, 0.05 * 2_006_000, 2_006_000),
]


@cache
def planned(*choice):
    settings, _ = compose_settings(choice)
    return settings, Planner(settings, PlanningBook(settings)).plan()


@pytest.mark.parametrize(
    ("choice", "published"),
    [(("model=onellm_7b", "curriculum=onellm"), PAPER), (("experiment=onellm_released",), RELEASED)],
    ids=["paper", "released code"],
)
def test_each_phase_has_the_published_batch_rate_warm_up_and_length(choice, published):
    _, runs = planned(*choice)
    assert [(run.stage, run.new) for run in runs] == [*(("align", group) for group in GROUPS), ("instruct", ())]
    for run, (batch, rate, lowest, warm_up, length) in zip(runs, published, strict=True):
        stage, optimizer = run.stage_settings, run.stage_settings.optimizer
        assert stage.slice_size * stage.slices_per_step == batch
        assert optimizer.learning_rate == rate
        assert rate * optimizer.floor == pytest.approx(lowest)
        assert optimizer.warmup_steps * batch == pytest.approx(warm_up, rel=0.01)
        assert run.steps * batch == pytest.approx(length, rel=0.01)
        assert (optimizer.betas, optimizer.clip) == ((0.9, 0.95), 2.0)
        assert optimizer.weight_decay == (0.0 if run.stage == "instruct" else 0.1)


def test_the_paper_freezes_the_language_model_in_alignment_and_all_else_in_tuning():
    settings, _ = planned("model=onellm_7b", "curriculum=onellm")
    assert settings.stages["align"].train == ("tokenizers", "positions", "projectors")
    assert settings.stages["instruct"].train == ("llm",)
    released, _ = planned("experiment=onellm_released")
    for stage in ("align", "instruct"):
        assert "llm" in released.stages[stage].train
        assert not {"encoders", "tokenizers", "tokenizers.visual"} & set(released.stages[stage].train)


def test_half_of_a_later_phase_is_replayed_and_every_modality_in_equal_parts():
    settings, runs = planned("model=onellm_7b", "curriculum=onellm")
    by_modality = {recipe: name for name, recipes in settings.data.align.items() for recipe in recipes}
    for run in runs[1:3]:
        parts = dict.fromkeys(run.modalities, 0)
        for recipe, share in run.shares.items():
            parts[by_modality[recipe]] += share
        for names in (run.new, run.seen):
            assert [float(parts[name]) for name in names] == pytest.approx([0.5 / len(names)] * len(names), rel=0.01)


def test_one_image_projector_is_trained_and_then_copied_to_three_experts():
    settings, runs = planned("model=onellm_7b", "curriculum=onellm")
    upm = settings.model.projectors["upm"]
    assert (runs[0].num_experts, upm["num_experts"]) == (1, 3)
    assert (upm["width"], upm["expert_layers"], upm["num_queries"]) == (1024, 8, 30)
    assert upm["router"]["kind"] == "soft"
    released, others = planned("experiment=onellm_released")
    assert others[0].num_experts is None
    assert released.model.projectors["upm"]["router"]["kind"] == "sigmoid"
    assert (upm["start_scale"], released.model.projectors["upm"]["start_scale"]) == ("embeddings", "one")


def test_prompts_are_the_papers():
    settings, _ = planned("model=onellm_7b", "curriculum=onellm")
    for name in ("image", "video", "audio"):
        assert settings.modalities[name].prompts == (f"Provide a one-sentence caption for the provided {name}.",)
    assert settings.modalities["imu"].prompts == ("Describe the motion.",)
    assert settings.modalities["fmri"].prompts == ("Describe the scene based on fMRI data.",)
    chat = settings.stages["instruct"].chat
    assert chat.system.startswith("A chat between a curious human and an artificial intelligence assistant.")
    assert (chat.user, chat.assistant) == ("### Human: {question}\n### Assistant:", " {answer}\n###")


@pytest.mark.parametrize(
    ("choice", "image"),
    [
        ("model=onellm_7b", {"llava_150k": 158, "coco_caption": 614}),
        ("experiment=onellm_released", {"llava_665k": 625}),
    ],
)
def test_tuning_has_the_published_number_of_items_of_every_kind(choice, image):
    settings, _ = planned(choice, "curriculum=onellm")
    book, thousands = PlanningBook(settings), dict.fromkeys((*EIGHT, "text"), 0)
    for recipe, weight in settings.data.instruct.items():
        thousands[(*book.media(recipe), "text")[0]] += weight
    published = (1216, 461, 60, 70, 50, 50, 50, 9, 40)
    assert thousands == dict(zip((*EIGHT, "text"), published, strict=True))
    assert image.items() <= settings.data.instruct.items()


@pytest.mark.parametrize("choice", ["model=onellm_7b", "experiment=onellm_released"])
def test_the_weights_of_tuning_count_what_is_a_sample_of_a_recipe(choice):
    settings, _ = planned(choice, "curriculum=onellm")
    book, passes = PlanningBook(settings), {}
    for recipe, weight in settings.data.instruct.items():
        if book.get(recipe).task != "caption":  # of whose several captions each pass draws one
            passes[recipe] = 1000 * weight / book.num_samples(recipe, "train")
    assert 0.3 < min(passes.values()) < max(passes.values()) < 5, passes


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("bits=4", r"stages\.instruct\.train: llm: a language model in 4 bits cannot train .*train llm\.lora with"),
        ("bits=8", r"a language model in 8 bits cannot train"),
    ],
)
def test_a_language_model_in_few_bits_is_refused_where_a_stage_would_train_it(given, message):
    align = planned("model=onellm_7b", f"model.language_model.{given}", "stage=align", "modality=image")
    assert align[1]
    with pytest.raises(ModalignError, match=message):
        planned("model=onellm_7b", f"model.language_model.{given}", "stage=instruct")
    adapters = ("stages.instruct.train=[llm.lora]", "model.language_model.lora={rank: 16}")
    assert planned("model=onellm_7b", f"model.language_model.{given}", "stage=instruct", *adapters)[1][-1].adapters
