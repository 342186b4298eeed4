"""Probes on real tiny runs: they change nothing, cost little, and find out a projector that says always the same."""

import time

import pytest
import torch

from modalign.callbacks.probes import ModalityProbes
from modalign.config.compose import compose_settings
from modalign.data.templates import ChatTemplate
from modalign.evaluation.probes.findings import find_probes
from modalign.stages.probing import CaptionQuestion, Probing, TrainingProbes
from modalign.types import TextSpan


def probing(shop, phase, *more):
    return Probing(shop.sources(*more), phase.spec.stage, phase.data.collator, 4)


def trained(shop, audio_parent, probes):
    """The weights, and the next random number, after a phase on its parent, with or without probes at every step."""
    phase = shop.phase("stage=align", "modality=audio", parent=audio_parent)
    torch.manual_seed(1)
    phase.fit(*probes(phase))
    return {name: tensor.clone() for name, tensor in phase.module.state_dict().items()}, torch.rand(1)


def test_probing_at_every_step_leaves_every_bit_of_a_training_alone(backbones, image, tmp_path):
    written = []

    def probes(phase):
        probe = TrainingProbes(probing(backbones, phase), tmp_path, 4, True)
        return [ModalityProbes(phase.spec.new, phase.spec.seen, 1, probe, lambda v, step: written.append((step, v)))]

    plain, next_number = trained(backbones, image, lambda phase: [])
    probed, next_when_probed = trained(backbones, image, probes)
    assert plain.keys() == probed.keys()
    assert all(torch.equal(plain[name], probed[name]) for name in plain)
    assert torch.equal(next_number, next_when_probed)

    steps = [step for step, _ in written]
    assert steps == list(range(1, len(steps) + 1))
    assert {"probe/loss_real/audio", "probe/loss_blank/audio", "probe/retrieval_at_1/audio"} <= written[0][1].keys()
    assert {"probe/loss_real/image", "probe/router_entropy/image"} <= written[1][1].keys()
    assert written[0][1]["probe/expert_distance/upm"] > 0
    gradients = [name for name in written[0][1] if name.startswith("probe/gradient/")]
    assert any(".experts." in name for name in gradients)
    assert all(written[0][1][name] >= 0 for name in gradients)
    found = find_probes(tmp_path)
    assert found.modalities.keys() == {"audio", "image"}
    assert max(probe.step for probe in found.modalities.values()) == steps[-1]


def test_a_projector_that_says_the_same_of_everything_is_found_out(backbones, image):
    phase = backbones.phase("stage=align", "modality=audio", parent=image)
    port = phase.model.projectors["upm"].ports["audio"]
    with torch.no_grad():
        port.out_norm.weight.zero_()
    found = probing(backbones, phase).probe(phase.model, "audio", 0, 4, None)
    assert found.use.gain == pytest.approx(0.0, abs=1e-6)
    assert found.use.shuffled == pytest.approx(found.use.real, abs=1e-6)
    assert found.retrieval.at_1 == pytest.approx(found.retrieval.chance_1)
    assert {word.share for word in found.words} == {1.0}
    assert found.routing.load == pytest.approx((1 / 3,) * 3, abs=0.3)


def test_the_loss_that_is_probed_is_that_of_the_model_on_those_samples(backbones, image):
    phase = backbones.phase("stage=align", "modality=audio", parent=image)
    asked = probing(backbones, phase)
    trains = {"ports": list(phase.model.projectors["upm"].ports["audio"].parameters())}
    found = asked.probe(phase.model, "audio", 0, 4, trains)
    phase.model.eval()
    with torch.no_grad():
        output = phase.model(asked.batch("audio"))
    assert found.use.real == pytest.approx(float(output.loss_sum / output.weight_sum), rel=1e-5)
    assert found.gradients["ports"] > 0
    assert asked.batch("audio").num_samples == found.items == 4


def test_after_a_restart_what_was_found_in_steps_to_be_done_again_is_dropped(backbones, image, tmp_path):
    phase = backbones.phase("stage=align", "modality=audio", parent=image)
    probe = TrainingProbes(probing(backbones, phase), tmp_path, 4, True)
    probe(phase.module, "image", 6)
    probe(phase.module, "audio", 4)
    assert {name: found.step for name, found in find_probes(tmp_path).modalities.items()} == {"audio": 4}


def test_a_run_of_instruction_is_asked_for_captions_and_where_there_are_none_for_answers():
    template = CaptionQuestion(ChatTemplate())
    turns = [{"question": "what is it?", "answer": "a cube"}]
    asked = template.spans((), {"caption": "a red cube", "conversation": turns}, ["Describe it."], None)
    assert "Describe it." in asked[0].text
    assert asked[1] == TextSpan(" a red cube\n###", target=True)
    for record, prompts in (({"conversation": turns}, ["Describe it."]), ({"caption": "x", "conversation": turns}, [])):
        assert "what is it?" in template.spans((), record, prompts, None)[0].text


@pytest.mark.slow
@pytest.mark.alone
def test_probes_at_their_default_interval_take_at_most_a_twentieth_of_the_training(backbones, image, tmp_path):
    """Ordinary batches; a ratio within one run, in processor time, so that neither the machine nor its load counts."""
    evaluation = compose_settings(())[0].evaluation
    words = ("stage=align", "modality=audio", "stages.align.slice_size=16", "curriculum.steps.audio=100")
    phase = backbones.phase(*words, "stages.align.steps=null", parent=image)
    items = evaluation.probe_items
    probe = TrainingProbes(
        Probing(backbones.sources(), "align", phase.data.collator, items), tmp_path, items, writes=True
    )
    shares = []
    callback = ModalityProbes(
        phase.spec.new, phase.spec.seen, evaluation.probe_every, probe,
        lambda values, step: shares.append(values["probe/share_of_time"]), time.process_time,
    )  # fmt: skip
    phase.fit(callback)
    assert len(shares) == phase.spec.steps // evaluation.probe_every == 2  # half of the phase is replay
    assert shares[-1] <= 0.05, shares
