"""How large the bench's models and batches are, as settings of the full-size configuration; known without torch.

`standard` keeps the shape of the full model on two cores: captions of 29 tokens on average padded to 96, 257 image
tokens, three experts of eight blocks. Its small parts weigh more than at full size, its vocabulary too.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """One model and its batches: settings, samples a slice, words of captions and of conversations.

    `caption_pad` and `chat_pad` are the fixed text lengths of the published code (96 and 2016), scaled with the mean.
    """

    settings: tuple[str, ...]
    samples: int
    caption_mean: int
    caption_pad: int
    chat_samples: int
    chat_mean: int
    chat_pad: int


@dataclass(frozen=True)
class Size:
    """`step` is what steps are compared at; `frame`, smaller, what the frameworks around a step are.

    `frame_steps` of them make a round; a batch that a collator pads has `padded` samples, as at full size, since how
    much is padded depends on how many there are; `images` of `image_px` are in the loader's shards, read by `workers`,
    and for training steps without workers `ahead` slices by a thread; `answers` of `answer_tokens` are generated;
    `gemm` is the side of the product that gives the floor; `optimizer`: a step ends with AdamW. `judged` is the kind of
    device whose bars hold at this size.
    """

    step: Scale
    frame: Scale
    frame_steps: int
    padded: int
    images: int
    image_px: tuple[int, int]
    workers: int
    ahead: int
    answers: int
    answer_tokens: int
    gemm: int
    optimizer: bool = True
    judged: str | None = None


# Exact packing, which is an option of the model: equal to rounding, the row `packed` says what it gains.
_PACKED = "model.language_model.attention=packed"


def _model(
    width: int, layers: int, heads: int, hidden: int, words: int, upm: tuple[int, int, int], tower: tuple[int, int, int]
) -> tuple[str, ...]:
    """The full model's settings at other sizes; `upm`: width, layers, hidden; `tower`: width, layers, pixels."""
    llm, projector = "model.language_model.architecture", "model.projectors.upm"
    vision = f"{{image_size: {tower[2]}, patch_size: 14, width: {tower[0]}, layers: {tower[1]}, head_width: 32}}"
    return (
        "model=onellm_7b", _PACKED,
        f"{llm}.hidden_size={width}", f"{llm}.num_hidden_layers={layers}", f"{llm}.num_attention_heads={heads}",
        f"{llm}.num_key_value_heads={heads}", f"{llm}.intermediate_size={hidden}", f"{llm}.vocab_size={words}",
        f"{projector}.width={upm[0]}", f"{projector}.expert_layers={upm[1]}", f"{projector}.hidden={upm[2]}",
        f"{projector}.num_heads={max(1, upm[0] // 16)}", f"{projector}.router.hidden={4 * upm[0]}",
        "model.encoders.clip.architecture={embed_dim: 64, quick_gelu: true, vision_cfg: " + vision + "}",
        f"model.tower.width={tower[0]}", f"model.tower.size_px={tower[2]}",
    )  # fmt: skip


_TINY = Scale(_model(32, 2, 2, 64, 128, (16, 1, 24), (32, 1, 28)), 4, 6, 16, 2, 10, 40)
_SMALL = Scale(_model(256, 4, 4, 688, 2048, (64, 4, 176), (96, 3, 112)), 8, 29, 96, 4, 48, 384)
_STANDARD = Scale(_model(1024, 8, 16, 2752, 32000, (256, 8, 704), (384, 6, 224)), 8, 29, 96, 4, 48, 384)
_FULL = Scale(("model=onellm_7b", _PACKED), 32, 32, 96, 4, 256, 2016)

SIZES: dict[str, Size] = {
    "tiny": Size(_TINY, _TINY, 4, 4, 24, (40, 30), 0, 2, 4, 4, 64),
    "small": Size(_SMALL, _SMALL, 12, 32, 128, (320, 240), 0, 2, 32, 16, 1024),
    "standard": Size(_STANDARD, _SMALL, 16, 32, 256, (640, 480), 0, 2, 32, 16, 2048, judged="cpu"),
    "full": Size(_FULL, _FULL, 8, 32, 2048, (640, 480), 8, 0, 32, 32, 8192, optimizer=False, judged="gpu"),
}
