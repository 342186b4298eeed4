"""The peer: the published training step, written straight down, on the weights of our own model.

It follows the released code of OneLLM: texts padded to a fixed length, every block of the projector on all tokens, the
router on all tokens, logits at every text position. What would only make it slower on some machines is left out:
attention is torch's fused kernel, rotary positions are real numbers, and the encoder is open_clip's own.

Letters: B samples, L image tokens, Q query tokens, S padded text tokens, D width, V vocabulary.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from modalign.bench.subject import MODALITY
from modalign.models.aligned import AlignedModel
from modalign.models.projectors.blocks import Block
from modalign.models.projectors.upm import UniversalProjector
from modalign.types import Batch

IGNORED = -100


def padded_text(batch: Batch, length: int | None) -> tuple[Int[Tensor, "B S"], Int[Tensor, "B S"]]:
    """Token ids and labels of a batch, its first token and its words in a row, padded to `length` (None: longest)."""
    rows = [[i for s in row if s.modality is None for i in range(s.start, s.start + s.length)] for row in batch.layout]
    longest = length or max(map(len, rows))
    ids = batch.text_ids.new_zeros(len(rows), longest)
    labels = torch.full_like(ids, IGNORED)
    for place, row in enumerate(rows):
        words = batch.text_ids[row]
        ids[place, : len(row)] = words
        labels[place, : len(row)] = words.masked_fill(batch.loss_weights[row] == 0, IGNORED)
    return ids, labels


def published_loss(model: AlignedModel, pictures: Tensor, ids: Tensor, labels: Tensor) -> Tensor:
    """The mean cross entropy over the supervised words, as in the published forward and loop."""
    language_model = cast(Any, model.llm.model)
    h = language_model.model.embed_tokens(ids)
    soft = encode(model, pictures).to(h.dtype)
    h = torch.cat([h[:, :1], soft, h[:, 1:]], dim=1)
    cos, sin = rotary(h.shape[1], language_model.config, h.device)
    for layer in language_model.model.layers:
        h = llama_layer(layer, h, cos, sin)
    h = rms_norm(h, language_model.model.norm.weight, language_model.config.rms_norm_eps)
    logits = language_model.lm_head(h[:, soft.shape[1] :])
    logits, wanted = logits[:, :-1].float(), labels[:, 1:]
    return F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=IGNORED)


def encode(model: AlignedModel, pictures: Tensor) -> Float[Tensor, "B _ D"]:
    """Pictures to soft tokens between their tags."""
    path = model.path(MODALITY)
    tokens = model.tokenizers[path.tokenizer](pictures)[:, 0]
    features = model.encoders[cast(str, path.encoder)](tokens)
    projector = cast(UniversalProjector, model.projectors[path.projector])
    port: Any = projector.ports[MODALITY]
    x = port.in_norm(port.in_proj(features.to(port.in_proj.weight.dtype)))
    x = torch.cat([port.queries.to(x.dtype).expand(len(x), -1, -1), x], dim=1)
    router: Any = projector.router[MODALITY]
    weights = router.fc2(F.gelu(router.fc1(x))).softmax(dim=-1)
    count = port.queries.shape[0]
    mixed: Any = 0.0
    for number, expert in enumerate(projector.experts):
        y = x
        for block in cast(Any, expert).blocks:
            y = upm_block(block, y)
        mixed = mixed + y[:, :count] * weights[:, :count, number, None]
    mixed = port.out_norm(port.out_proj(mixed))
    tags = [tag.to(mixed.dtype).expand(len(mixed), 1, -1) for tag in (port.start_tag, port.end_tag)]
    return torch.cat([tags[0], mixed, tags[1]], dim=1)


def upm_block(block: Block, x: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
    """LLaMA's block without positions and mask, on every token."""
    heads = block.attention.num_heads
    norm = rms_norm(x, block.attention_norm.weight, cast(float, block.attention_norm.eps))
    query, key, value = (split(t, heads) for t in block.attention.qkv(norm).chunk(3, dim=-1))
    read = F.scaled_dot_product_attention(query, key, value)
    x = x + block.attention.out(read.transpose(1, 2).flatten(2))
    norm = rms_norm(x, block.feed_norm.weight, cast(float, block.feed_norm.eps))
    gate, up = block.feed.gate_up(norm).chunk(2, dim=-1)
    return x + block.feed.down(F.silu(gate) * up)


def llama_layer(layer: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Float[Tensor, "B S D"]:
    """One layer of LLaMA with a causal mask."""
    attention, size = layer.self_attn, layer.self_attn.head_dim
    norm = rms_norm(x, layer.input_layernorm.weight, layer.input_layernorm.variance_epsilon)
    query, key, value = (
        split(linear(norm), linear.out_features // size)
        for linear in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    query, key = turned(query, cos, sin), turned(key, cos, sin)
    read = F.scaled_dot_product_attention(query, key, value, is_causal=True)
    x = x + attention.o_proj(read.transpose(1, 2).flatten(2))
    norm = rms_norm(x, layer.post_attention_layernorm.weight, layer.post_attention_layernorm.variance_epsilon)
    return x + layer.mlp.down_proj(F.silu(layer.mlp.gate_proj(norm)) * layer.mlp.up_proj(norm))


def rms_norm(x: Tensor, weight: nn.Parameter | Tensor, eps: float) -> Tensor:
    """LLaMA's, in float32 inside."""
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)).type_as(x) * weight


def split(x: Tensor, heads: int) -> Tensor:
    """[B, L, D] to [B, heads, L, D / heads]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def rotary(length: int, config: Any, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the positions."""
    size = config.hidden_size // config.num_attention_heads
    base = (getattr(config, "rope_parameters", None) or {}).get("rope_theta", 10000.0)
    speeds = base ** (-torch.arange(0, size, 2, device=device).float() / size)
    angles = torch.outer(torch.arange(length, device=device).float(), speeds).repeat(1, 2)
    return angles.cos(), angles.sin()


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Queries or keys with their positions in them."""
    first, second = x.chunk(2, dim=-1)
    return (x * cos + torch.cat([-second, first], dim=-1) * sin).type_as(x)
