"""Packed training computes what padded training does, in every kind of language model, and no sample reads another."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F
from torch.nn.attention import varlen

from modalign.errors import ModalignError
from modalign.models import packed_attention
from modalign.models.blocks import large_blocks, recompute
from modalign.models.fusion.cross_attention import GatedCrossAttentionFusion
from modalign.models.language_model import load_language_model
from modalign.models.loss import supervised_loss
from modalign.models.packed_written_out import each_written_out
from modalign.models.packing import packing_of

COMMON = {
    "vocab_size": 14, "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
}  # fmt: skip
MIXTURE = {"num_key_value_heads": 2, "num_experts_per_tok": 2}
KINDS = {
    "llama": {},
    "qwen3": {"num_key_value_heads": 2, "head_dim": 8},
    "mistral": {"num_key_value_heads": 2, "sliding_window": 4},
    "mixtral": {**MIXTURE, "num_local_experts": 4},
    # Of its two layers the second slides, and tells so to the mask alone.
    "qwen2_moe": {
        **MIXTURE, "num_experts": 4, "moe_intermediate_size": 8, "shared_expert_intermediate_size": 8,
        "use_sliding_window": True, "sliding_window": 4, "layer_types": ["full_attention", "sliding_attention"],
    },
}  # fmt: skip
SAMPLES = [
    ["image", ("red cube", 0), ("is seen left .", 1)],
    [("blue", 0), ("ball is seen right", 1)],
    [("a", 0), "image", ("ball", 1)],
    [("red cube blue ball left right .", 0), "image", ("is red blue . .", 1)],
]


def source_of(kind, **changes):
    return {
        "model_type": kind, "initializer_range": 0.3, "max_position_embeddings": 64, **COMMON, **KINDS.get(kind, {}),
        **changes,
    }  # fmt: skip


def cross_attention(num_layers):
    fusion = GatedCrossAttentionFusion(24, 24, sites=range(num_layers), num_heads=2, hidden=16)
    for block in fusion.blocks.values():
        torch.nn.init.constant_(block.gate_attention, 1.0)
        torch.nn.init.constant_(block.gate_feed, 0.5)
    return fusion


def both(make_model, kind, crossed=False, **changes):
    """The same weights behind torch's kernel and packed."""
    models = []
    for attention in ("sdpa", "packed"):
        torch.manual_seed(0)
        llm = load_language_model(source_of(kind), attention=attention, **changes)
        models.append(make_model(("image",), language_model=llm, fusion=cross_attention(2) if crossed else None))
    models[1].load_state_dict(models[0].state_dict())
    return models


def gradients(model, batch):
    model.zero_grad()
    output = model.loss(batch)
    output.loss_sum.backward()
    return output, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same(found, wanted, most=1e-5):
    assert found.keys() == wanted.keys()
    whole = sum(gradient.double().pow(2).sum() for gradient in wanted.values()).sqrt()
    for name, gradient in wanted.items():
        apart = (found[name].double() - gradient.double()).norm()
        assert apart <= most * max(gradient.double().norm(), 0.01 * whole), f"{name}: {apart}"


@pytest.mark.parametrize("crossed", [False, True], ids=["prefix", "crossed"])
@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_every_gradient_are_those_of_padded_rows(kind, crossed, make_model, make_media, make_batch):
    plain, packed = both(make_model, kind, crossed)
    batch = make_batch(SAMPLES, make_media("image", count=3))
    (expected, wanted), (output, found) = gradients(plain, batch), gradients(packed, batch)
    torch.testing.assert_close(output.loss_sum, expected.loss_sum, rtol=1e-5, atol=0)
    torch.testing.assert_close(output.per_sample_sum, expected.per_sample_sum, rtol=1e-5, atol=1e-6)
    assert torch.equal(output.per_sample_weight, expected.per_sample_weight)
    assert any(name.startswith("llm.") for name in found)
    assert any(name.startswith("fusion.") for name in found) == crossed
    assert_same(found, wanted)


@pytest.mark.parametrize("crossed", [False, True], ids=["prefix", "crossed"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_gradient_of_a_sample_s_loss_reaches_another(kind, crossed, make_model, make_media, make_batch):
    _, packed = both(make_model, kind, crossed)
    composed = packed.compose(make_batch(SAMPLES, make_media("image", count=3)))
    for row in range(len(SAMPLES)):
        entered = composed.embeddings.detach().requires_grad_()
        media = composed.cross and composed.cross.values.detach().requires_grad_()
        cross = composed.cross and replace(composed.cross, values=media)
        own = torch.arange(len(SAMPLES)) == row
        labels = composed.labels.where(own[:, None], -100)
        hidden = packed.hidden_packed(replace(composed, embeddings=entered, cross=cross))
        supervised_loss(hidden, labels, composed.weights, packed.llm.logits).loss_sum.backward()
        for gradient in [entered.grad] + ([media.grad] if crossed else []):
            assert torch.count_nonzero(gradient[~own]) == 0
        assert torch.count_nonzero(entered.grad[row]) > 0


def test_what_one_sample_says_changes_no_bit_of_another(make_model, make_media, make_batch):
    _, packed = both(make_model, "llama")
    batch = make_batch(SAMPLES, make_media("image", count=3))
    before = packed.loss(batch).per_sample_sum
    ids = batch.text_ids.clone()
    first = batch.layout[0][1].start
    ids[first] = (ids[first] + 1) % 14
    after = packed.loss(replace(batch, text_ids=ids)).per_sample_sum
    assert before[0] != after[0]
    assert torch.equal(before[1:], after[1:])


def test_layers_see_the_tokens_of_all_samples_in_one_row_and_positions_begin_anew(make_model, make_media, make_batch):
    _, packed = both(make_model, "llama")
    seen = []

    def note(module, args, kwargs):
        seen.append((args[0].shape if args else kwargs["hidden_states"].shape, kwargs["position_ids"].tolist()))

    packed.llm.layers[1].register_forward_pre_hook(note, with_kwargs=True)
    composed = packed.compose(make_batch(SAMPLES, make_media("image", count=3)))
    packed.language_loss(composed)
    lengths = composed.attention_mask.sum(dim=1).tolist()
    assert len(set(lengths)) > 1
    assert seen == [((1, sum(lengths), 24), [[place for length in lengths for place in range(length)]])]


def test_layers_that_are_computed_again_have_the_same_gradients(make_model, make_media, make_batch):
    batch = make_batch(SAMPLES, make_media("image", count=3))
    _, packed = both(make_model, "qwen3", crossed=True)
    _, wanted = gradients(packed, batch)
    recompute(large_blocks(packed))
    assert_same(gradients(packed, batch)[1], wanted, most=0.0)


def test_adapters_train_as_they_do_on_padded_rows(make_model, make_media, make_batch):
    batch = make_batch(SAMPLES, make_media("image", count=3))
    plain, packed = both(make_model, "llama", lora={"rank": 2, "alpha": 4.0, "targets": "all-linear"})
    for model in (plain, packed):
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    wanted, found = gradients(plain, batch)[1], gradients(packed, batch)[1]
    assert any("lora_A" in name for name in found)
    assert_same(found, wanted)


@pytest.mark.parametrize("kernel", [packed_attention.PLAIN, packed_attention.SHORT])
@pytest.mark.parametrize("kind", ["qwen3", "mistral", "llama"])
def test_products_written_out_are_what_the_fused_kernel_computes(
    kind, kernel, make_model, make_media, make_batch, monkeypatch
):
    batch = make_batch(SAMPLES, make_media("image", count=3))
    _, packed = both(make_model, kind)
    monkeypatch.setattr(packed_attention, "kernel_of", lambda *_: packed_attention.FUSED)
    _, wanted = gradients(packed, batch)
    monkeypatch.setattr(packed_attention, "kernel_of", lambda *_: kernel)
    assert_same(gradients(packed, batch)[1], wanted)


def test_short_samples_are_attended_in_one_operation_and_a_long_one_by_the_fused_kernel(monkeypatch):
    lengths, heads = (3, 1, 5), 2
    inputs = [torch.randn(1, heads, 9, 4, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    assert torch.autograd.gradcheck(lambda *x: each_written_out(*x, lengths, 0.5), inputs)
    called = []
    monkeypatch.setattr(packed_attention, "each_written_out", lambda *x: called.append(1) or each_written_out(*x))
    module = torch.nn.Module()
    single = [x.detach().float() for x in inputs]
    read = []
    for most in (5, 4):
        monkeypatch.setattr(packed_attention, "MOST_TOKENS", most)
        packing = packing_of(lengths, 5, torch.device("cpu"))
        read.append(packed_attention.packed_attention(module, *single, None, packing=packing, sliding_window=None)[0])
    assert len(called) == 1
    torch.testing.assert_close(read[0], read[1])


def test_a_kernel_is_chosen_by_device_and_precision():
    cpu = torch.device("cpu")
    assert packed_attention.kernel_of(cpu, torch.float32, 64) == packed_attention.SHORT
    assert packed_attention.kernel_of(cpu, torch.float32, 128) == packed_attention.FUSED
    assert packed_attention.kernel_of(cpu, torch.bfloat16, 64) == packed_attention.PLAIN
    assert packed_attention.kernel_of(torch.device("cuda"), torch.float32, 64) == packed_attention.FUSED
    assert packed_attention.kernel_of(torch.device("cuda"), torch.bfloat16, 36) == packed_attention.FUSED


def test_half_precision_is_as_close_to_float32_packed_as_padded(make_model, make_media, make_batch):
    batch = make_batch(SAMPLES, make_media("image", count=3))
    plain, packed = both(make_model, "llama")
    exact = plain.loss(batch).loss_sum
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert packed.loss(batch).loss_sum.item() == pytest.approx(exact.item(), rel=2e-2)


def test_answers_are_generated_as_without_packing(make_model, make_media, make_batch):
    batch = make_batch(SAMPLES, make_media("image", count=3))
    for crossed in (False, True):
        plain, packed = both(make_model, "qwen3", crossed)
        assert packed.generate(batch, 6) == plain.generate(batch, 6)


@pytest.mark.parametrize(
    ("kind", "changes", "reason"),
    [
        ("qwen3_next", {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 8}, "linear_attention"),
        ("bloom", {}, "does not go through transformers' interface"),
        ("gpt_oss", {"num_local_experts": 2, "num_experts_per_tok": 1}, "as torch's kernel does"),
        ("mamba", {}, "linear_attention"),
    ],
)
def test_a_model_whose_samples_would_read_each_other_is_refused(kind, changes, reason):
    source = {"model_type": kind, **COMMON, **changes}
    with pytest.raises(ModalignError, match=rf"attention=packed: .* {kind} .*{reason}.*; use attention=sdpa"):
        load_language_model(source, attention="packed")


def test_what_torch_s_kernel_cannot_do_is_refused(make_llm):
    module = make_llm().layers[0].self_attn
    packing = packing_of([2, 3], 3, torch.device("cpu"))
    rows = [torch.randn(1, 4, 5, 6) for _ in range(3)]
    with pytest.raises(ModalignError, match="its attention has softcap"):
        packed_attention.packed_attention(module, *rows, None, packing=packing, softcap=30.0)
    # A model that drops what it was called with would let samples read each other.
    with pytest.raises(ModalignError, match="its layers do not pass on"):
        packed_attention.packed_attention(module, *rows, torch.zeros(packed_attention.NO_MASK))


def like_torch_s_kernel(calls, told):
    """Sequences of different lengths, one by one, behind the signature of torch's kernel at this version."""

    def of_2_10(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, is_causal=False, *, scale=None):
        assert is_causal
        return whole(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, (-1, 0), scale, False)

    def of_2_15(
        query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale=None, window_size=(-1, -1), enable_gqa=False
    ):
        return whole(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, window_size, scale, enable_gqa)

    def whole(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, window, scale, grouped):
        assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
        assert grouped or query.shape[1] == key.shape[1]
        calls.append((cu_seq_q.tolist(), max_q, max_k, window))
        read = []
        for begin, end in pairwise(cu_seq_q.tolist()):
            q, k, v = (x[begin:end].transpose(0, 1) for x in (query, key, value))
            places = torch.arange(end - begin)
            behind = places[:, None] - places[None]
            near = (behind >= -window[1]) & ((behind <= window[0]) | torch.tensor(window[0] < 0))
            read.append(F.scaled_dot_product_attention(q, k, v, near, scale=scale, enable_gqa=grouped).transpose(0, 1))
        return torch.cat(read)

    return {"2.10": of_2_10, "2.15": of_2_15}[told]


@pytest.mark.parametrize(
    ("kind", "version"), [("llama", "2.10"), ("qwen3", "2.10"), ("qwen3", "2.15"), ("mistral", "2.15")]
)
def test_torch_s_kernel_for_many_lengths_is_told_where_each_sample_is(
    kind, version, make_model, make_media, make_batch, monkeypatch
):
    calls = []
    monkeypatch.setattr(varlen, "varlen_attn", like_torch_s_kernel(calls, version))
    monkeypatch.setattr(packed_attention, "kernel_of", lambda *_: packed_attention.VARLEN)
    packed_attention.varlen_asks.cache_clear()
    plain, packed = both(make_model, kind)
    batch = make_batch(SAMPLES, make_media("image", count=3))
    wanted, found = gradients(plain, batch)[1], gradients(packed, batch)[1]
    packed_attention.varlen_asks.cache_clear()
    assert_same(found, wanted)
    lengths = packed.compose(batch).attention_mask.sum(dim=1)
    ends = [0, *lengths.cumsum(0).tolist()]
    assert calls == [(ends, max(lengths), max(lengths), (3 if kind == "mistral" else -1, 0))] * 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("kind", KINDS)
def test_on_a_gpu_packed_half_precision_agrees_with_padded(kind, make_model, make_media, make_batch):
    plain, packed = both(make_model, kind)
    batch = make_batch(SAMPLES, make_media("image", count=3)).to(torch.device("cuda"))
    with torch.autocast("cuda", dtype=torch.bfloat16):
        (expected, wanted), (output, found) = (gradients(model.cuda(), batch) for model in (plain, packed))
    torch.testing.assert_close(output.loss_sum, expected.loss_sum, rtol=5e-3, atol=0)
    assert_same(found, wanted, most=1e-1)
