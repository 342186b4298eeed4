"""What a finished phase proves in its manifest, and that a phase which cannot prove it fails."""

import math

import pytest
import torch

from modalign.errors import ModalignError
from modalign.models.parts import part_of, parts
from modalign.runs.checkpoint import load_checkpoint
from modalign.runs.finished import answer_if_finished
from modalign.runs.lineage import load_assembled
from modalign.runs.metrics import MetricLog
from modalign.stages.align import AlignStage
from modalign.stages.measure import Measure
from modalign.stages.objective import TermOutput


def parts_of(folder):
    return {part["name"]: part for part in folder.manifest().parts}


def final_weights(folder):
    manifest = folder.manifest()
    return load_checkpoint(folder.path / manifest.checkpoint["path"]).flat()


def test_the_freeze_map_says_of_every_part_whether_it_trained_and_proves_it(audio, instructed):
    for folder, training in ((audio, {"tokenizers", "positions", "projectors"}), (instructed, {"llm"})):
        found = parts_of(folder)
        assert {name.split(".")[0] for name, part in found.items() if part["trains"]} == training
        assert all(part["gradient"] == "ok" for part in found.values() if part["trains"])
        assert all(part["unchanged"] is True for part in found.values() if not part["trains"])
        assert {"encoders.clip", "llm", "projectors.upm.ports.audio", "tokenizers.visual"} <= set(found)


def test_a_checkpoint_holds_the_parts_that_trained_and_nothing_else(audio, instructed):
    assert {part_of(name) for name in final_weights(instructed)} == {"llm"}
    trained = {name for name, part in parts_of(audio).items() if part["trains"]}
    assert {part_of(name) for name in final_weights(audio)} == trained


def test_alignment_and_tuning_leave_the_others_tensors_as_they_were_on_disk(backbones, image, audio, instructed):
    first, second, third = (load_assembled(folder.path) for folder in (image, audio, instructed))
    for name, tensor in first.items():
        if name.startswith(("llm.", "encoders.")):
            assert torch.equal(tensor, second[name]), name
    for name, tensor in second.items():
        if not name.startswith("llm."):
            assert torch.equal(tensor, third[name]), name
    assert any(not torch.equal(second[name], third[name]) for name in second if name.startswith("llm."))


def test_the_first_phase_has_one_expert_and_the_next_copies_it_to_all(backbones, image, audio):
    assert "projectors.upm.experts.1" not in parts_of(image)
    assert not any(name.startswith("projectors.upm.router") for name in parts_of(image))
    copied = {(v["rule"], v["target"], v["source"]): v["tensors"] for v in audio.manifest().start_values}
    for number in (1, 2):
        key = ("experts_from_parent", f"projectors.upm.experts.{number}", "projectors.upm.experts.0")
        assert copied[key] == copied["parent", "projectors.upm.experts.0", "projectors.upm.experts.0"] > 0


def test_a_new_modality_starts_from_image_in_all_that_is_its_own(backbones, image, audio):
    copied = {(v["rule"], v["target"]): v["source"] for v in audio.manifest().start_values}
    assert copied["modality_from_modality", "projectors.upm.ports.audio"] == "projectors.upm.ports.image"
    assert copied["modality_from_modality", "projectors.upm.router.audio"] == "projectors.upm.router.image"
    phase = backbones.phase("stage=align", "modality=audio")
    before, parent = phase.model.state_dict(), load_assembled(image.path)
    for name, tensor in parent.items():
        if name.startswith("projectors.upm.ports.image."):
            assert torch.equal(before[name.replace(".ports.image.", ".ports.audio.")], tensor), name
        if name.startswith(("llm.", "encoders.", "tokenizers.", "projectors.upm.ports.")):
            assert torch.equal(before[name], tensor), name


def test_the_image_tokenizer_starts_from_the_patches_of_the_encoder(backbones, image):
    phase = backbones.phase("stage=align", "modality=image")
    weights = phase.model.state_dict()
    assert torch.equal(weights["tokenizers.visual.conv.weight"], weights["encoders.clip.patch_weight"])


def test_noise_parts_the_copied_experts_by_its_own_size(backbones, image):
    distances = []
    for noise in (0.0, 0.02):
        phase = backbones.phase("stage=align", "modality=audio", f"curriculum.expert_noise={noise}", parent=image)
        experts = [phase.model.projectors["upm"].experts[k].state_dict() for k in range(3)]
        apart = [float((experts[0][n] - experts[1][n]).std() / experts[0][n].std()) for n in experts[0]
                 if experts[0][n].ndim > 1]  # fmt: skip
        distances.append(sum(apart) / len(apart))
    assert distances[0] == 0
    assert distances[1] == pytest.approx(0.02 * 2**0.5, rel=0.1)


def test_samples_consumed_are_counted_by_recipe_as_the_mixture_says(audio, image, instructed):
    assert image.manifest().consumed == {"world_image": 4 * 8}
    assert audio.manifest().consumed == {"world_audio": 4 * 8, "world_image": 4 * 8}
    assert audio.manifest().steps == 8
    assert sum(instructed.manifest().consumed.values()) == 4 * 8


def test_the_manifest_names_parent_recipes_command_and_versions(audio, image):
    manifest = audio.manifest()
    assert manifest.parent == {
        "path": f"../{image.name}", "name": image.name, "digest": image.manifest().checkpoint["digest"],
    }  # fmt: skip
    assert {len(recipe["digest"]) for recipe in manifest.recipes.values()} == {64}
    assert manifest.command[0] == "train.py"
    assert "modality=audio" in manifest.command
    assert manifest.config["stage"] == "align"
    assert {"torch", "lightning"} <= set(manifest.versions)
    assert set(manifest.seconds) >= {"preparing", "training", "measuring"}


def test_plain_text_loss_is_the_same_to_the_bit_before_and_after_every_alignment(backbones, image, audio):
    from modalign.evaluation.scores import read_results

    losses = [read_results(folder.results_file).text_loss for folder in (image, audio)]
    assert losses[0] == losses[1]
    assert losses[0].tokens > 0
    phase = backbones.phase("stage=align", "modality=image")
    untouched = Measure(backbones.sources())._text_loss(phase.model.eval())
    assert untouched == losses[0]


def test_learning_rates_are_those_of_each_part_and_of_the_step_that_they_are_logged_at(audio):
    own = audio.manifest().config["modalities"]["audio"]["learning_rate_scale"]
    assert own != 1
    rows = MetricLog(audio.metrics_file).read()
    rate = {(row.step, row.name): row.value for row in rows}
    for step in (1, 8):
        assert rate[step, "lr/projectors.upm.ports.audio"] == pytest.approx(
            own * rate[step, "lr/projectors.upm.ports.image"]
        )
        assert rate[step, "lr/tokenizers.audio"] == pytest.approx(own * rate[step, "lr/projectors.upm.experts.0"])
    assert rate[1, "lr/tokenizers.visual"] == pytest.approx(1e-3 / 2)
    assert rate[8, "lr/tokenizers.visual"] == pytest.approx(
        1e-3 * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * 6 / 7)))
    )


def test_a_stages_own_scales_multiply_those_of_the_modality(backbones, image):
    scale = "+stages.align.optimizer.scale={projectors.upm: 0.5, projectors.upm.experts: 0.5}"
    phase = backbones.phase("stage=align", "modality=audio", scale, parent=image)
    assert phase.module.scales["projectors.upm.experts.2"] == 0.25
    assert phase.module.scales["projectors.upm.ports.audio"] == 1.5
    assert phase.module.scales["projectors.upm.ports.image"] == 0.5
    assert phase.module.scales["tokenizers.visual"] == 1.0
    assert phase.module.scales["tokenizers.audio"] == 3.0


def test_what_an_earlier_phase_has_trained_may_learn_more_slowly(backbones, image):
    slower = "stages.align.optimizer.earlier_scale=0.5"
    scales = backbones.phase("stage=align", "modality=audio", slower, parent=image).module.scales
    halved = {part for part, scale in scales.items() if scale == 0.5}
    assert {"projectors.upm.experts.0", "projectors.upm.ports.image", "tokenizers.visual"} <= halved
    assert {part: scale for part, scale in scales.items() if part not in halved} == dict.fromkeys(
        (part for part in scales if part.endswith(".audio")), 3.0
    )
    first = backbones.phase("stage=align", "modality=image", slower).module.scales
    assert set(first.values()) == {1.0}


def test_orthogonal_steps_have_a_rate_of_their_own_in_the_log(own_shop):
    muon = "stages.align.optimizer.muon={parts: [projectors, tokenizers.audio], learning_rate: 0.02}"
    folder = own_shop().train("stage=align", "modality=image", muon)
    rates = {row.name: row.value for row in MetricLog(folder.metrics_file).read() if row.name.startswith("lr/")}
    assert rates["lr/projectors.upm.experts.0/muon"] == pytest.approx(20 * rates["lr/projectors.upm.experts.0"])
    assert "lr/tokenizers.visual/muon" not in rates


def test_a_frozen_part_that_changes_all_the_same_fails_the_run(own_shop, monkeypatch):
    shop = own_shop()
    proved = AlignStage.on_before_optimizer_step

    def leak(self, optimizer):
        proved(self, optimizer)
        with torch.no_grad():
            next(iter(self.model.llm.parameters())).view(-1)[0].add_(1e-3)

    monkeypatch.setattr(AlignStage, "on_before_optimizer_step", leak)
    with pytest.raises(ModalignError, match=r"frozen parts changed .*: llm$"):
        shop.train("stage=align", "modality=image", "+modalities.image.positions.std=0.31")
    spec = shop.specs("stage=align", "modality=image", "+modalities.image.positions.std=0.31")[-1]
    (failed,) = [p for p in shop.runs.glob("align-image-*") if p.name == spec.name]
    from modalign.runs.folder import RunFolder

    assert RunFolder(failed).manifest().status == "failed"
    assert {p["name"]: p["unchanged"] for p in RunFolder(failed).manifest().parts}["llm"] is False


def test_a_part_that_should_train_but_has_no_gradient_fails_the_run_by_name(own_shop, monkeypatch):
    class Nothing:
        name, weight = "nothing", 1.0

        def __call__(self, model, batch):
            ports = [p for n, p in model.named_parameters() if n.startswith("projectors.upm.ports.image")]
            return TermOutput(sum(p.sum() for p in ports), torch.tensor(1.0))

    monkeypatch.setattr(AlignStage, "objective", (Nothing(),))
    with pytest.raises(ModalignError, match=r"no usable gradient: .*tokenizers\.visual \(none\)"):
        own_shop().train("stage=align", "modality=image", "+modalities.image.positions.std=0.32")


def test_a_part_is_a_part_once(backbones, image):
    phase = backbones.phase("stage=align", "modality=image")
    table = parts(phase.model)
    assert set(phase.plan.trains) | set(phase.plan.frozen) == set(table)
    assert not set(phase.plan.trains) & set(phase.plan.frozen)


def test_the_same_command_again_reuses_the_finished_run(backbones, image):
    specs = backbones.specs("stage=align", "modality=image")
    before = image.manifest_file.read_bytes()
    assert answer_if_finished(backbones.runs, specs) is not None
    assert backbones.train("stage=align", "modality=image").path == image.path
    assert image.manifest_file.read_bytes() == before


def test_a_finished_run_that_was_measured_otherwise_says_so_and_is_not_trained_again(backbones, image):
    command = ("stage=align", "modality=image", "evaluation.num_items=2", "evaluation.validation_every=7")
    answer = answer_if_finished(backbones.runs, backbones.specs(*command))
    before = image.manifest().extra["measuring"]["num_items"]
    assert answer is not None
    assert f"finished already: {image.path}" in answer
    assert f"note: {image.name} was measured with num_items={before}; `modalign evaluate`" in answer


def test_a_run_that_was_killed_while_it_was_measured_is_only_measured_again(own_shop, monkeypatch, image):
    """Trained to its last step and saved, but without results: the same command ends it without a further step."""
    shop = own_shop()
    more = ("stage=align", "modality=image", "+modalities.image.positions.std=0.33")

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Measure, "__call__", killed)
        with pytest.raises(KeyboardInterrupt):
            shop.train(*more)
    folder = shop.runs / shop.specs(*more)[-1].name
    rows = (folder / "metrics.csv").read_text()
    assert not (folder / "results.json").exists()

    stepped = []
    monkeypatch.setattr(AlignStage, "on_before_optimizer_step", lambda self, optimizer: stepped.append(1))
    run = shop.train(*more)
    assert not stepped
    assert run.manifest().status == "finished"
    assert run.results_file.exists()
    assert (folder / "metrics.csv").read_text() == rows
    assert {part["gradient"] for part in run.manifest().parts if part["trains"]} == {"ok"}
    assert run.manifest().consumed == {"world_image": 32}
