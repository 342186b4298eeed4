"""The rows of the bench by name: what each ratio is of, its bars, and which file measures it; known without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from modalign.errors import unknown_name

CPU, GPU = "cpu", "gpu"


@dataclass(frozen=True)
class Bar:
    """What a ratio must reach, and what it should."""

    gate: float
    target: float


@dataclass(frozen=True)
class Row:
    """One ratio: ours over the peer's, or the other way where `less` is better; bars by kind of device."""

    title: str
    module: str
    bars: dict[str, Bar]
    less: bool = False


ROWS: dict[str, Row] = {
    "align_released": Row(
        "align, samples/s against the published step as released (language model trained)", "steps",
        {CPU: Bar(3.3, 4.2), GPU: Bar(3.0, 3.7)},
    ),
    "align": Row(
        "align, samples/s against the published step, language model frozen", "steps", {CPU: Bar(2.3, 3.0)}
    ),
    "align_bf16": Row(
        "align, the same with both in bf16", "steps", {CPU: Bar(1.7, 2.2), GPU: Bar(2.0, 2.5)}
    ),
    "instruct_released": Row(
        "instruct, samples/s against the published step as released (its fixed length)", "steps",
        {CPU: Bar(3.0, 4.0), GPU: Bar(5.0, 7.0)},
    ),
    "instruct": Row(
        "instruct, samples/s against the published step padded to the longest, the language model alone trained",
        "steps", {CPU: Bar(1.3, 1.6), GPU: Bar(1.4, 1.8)},
    ),
    "floor": Row("align, share of the measured GEMM rate", "floor", {CPU: Bar(0.50, 0.65)}),
    "floor_bf16": Row(
        "align in bf16, share of the measured GEMM rate", "floor", {CPU: Bar(0.40, 0.55), GPU: Bar(0.55, 0.65)}
    ),
    "floor_instruct": Row("instruct in bf16, share of the measured GEMM rate", "floor", {GPU: Bar(0.50, 0.58)}),
    "frozen": Row(
        "language model frozen over trained, forward and backward, time", "language",
        {CPU: Bar(0.75, 0.70), GPU: Bar(0.72, 0.69)}, less=True,
    ),
    "packing": Row(
        "language model, tokens/s of mixed lengths packed over tokens/s of equal lengths", "language",
        {CPU: Bar(0.88, 0.95), GPU: Bar(0.90, 0.97)},
    ),
    "packed": Row("align, samples/s with attention=packed over rows of like length together", "options", {}),
    "head": Row(
        "loss head's peak bytes over those of logits at every position", "memory",
        {CPU: Bar(0.4, 0.1), GPU: Bar(0.4, 0.1)}, less=True,
    ),
    "memory": Row(
        "align, peak bytes of the published step (language model frozen) over ours", "memory",
        {CPU: Bar(1.5, 2.0), GPU: Bar(1.8, 2.5)},
    ),
    "lightning": Row(
        "our Lightning step, steps/s over a raw torch loop's", "frameworks",
        {CPU: Bar(0.97, 0.99), GPU: Bar(0.99, 0.998)}
    ),
    "stock_lightning": Row(
        "our Lightning step, steps/s over a plain LightningModule's in a stock Trainer", "frameworks", {}
    ),
    "hf_trainer": Row(
        "our Lightning step, steps/s over the Hugging Face Trainer's on the same batches", "frameworks",
        {CPU: Bar(1.0, 1.05), GPU: Bar(1.02, 1.05)},
    ),
    "hf_padding": Row(
        "the same with the Trainer's padding collator and the language model's own loss", "frameworks",
        {CPU: Bar(1.5, 1.9), GPU: Bar(1.4, 1.8)},
    ),
    "loader": Row(
        "loader, decoded samples/s over webdataset and DataLoader", "loading",
        {CPU: Bar(1.15, 1.25), GPU: Bar(1.15, 1.25)}
    ),
    "loader_raw": Row("loader, raw samples/s over webdataset", "loading", {CPU: Bar(3.0, 5.0), GPU: Bar(3.0, 5.0)}),
    "data_wait": Row(
        "share of a training step spent waiting for data", "waiting",
        {CPU: Bar(0.05, 0.02), GPU: Bar(0.01, 0.003)}, less=True
    ),
    "resume": Row(
        "time to the first batch at 90 % of an epoch over a cold start", "waiting",
        {CPU: Bar(1.2, 1.05), GPU: Bar(1.2, 1.05)}, less=True,
    ),
    "cache": Row(
        "second pass over films, samples/s with the encoder's features kept over computed again", "caching",
        {CPU: Bar(1.5, 1.8), GPU: Bar(1.6, 1.9)},
    ),
    "generation": Row(
        "generation, samples/s batched over one by one, equal tokens", "generation",
        {CPU: Bar(5.0, 8.0), GPU: Bar(5.0, 8.0)}
    ),
}  # fmt: skip


def select(names: Sequence[str], kind: str) -> list[str]:
    """The rows asked for in the table's order, where none is all of a kind of device; an unknown name is an error."""
    for name in names:
        if name not in ROWS:
            raise unknown_name("row", name, ROWS, "modalign bench")
    return [name for name, row in ROWS.items() if name in names or not (names or (row.bars and kind not in row.bars))]
