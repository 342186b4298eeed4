"""Shards of generated pictures with captions, and a source that reads them as training does."""

from __future__ import annotations

import io
import json
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from PIL import Image

from modalign.bench.setting import Setting
from modalign.bench.subject import FIRST_WORD, MODALITY
from modalign.config.build import build
from modalign.config.schema import Settings
from modalign.data.collate import Collator
from modalign.data.dataset import Source
from modalign.data.order import Stream
from modalign.data.reader import ShardReader
from modalign.data.recipes import Recipe
from modalign.data.shards import ShardWriter
from modalign.data.templates import CaptionTemplate
from modalign.stages.datamodule import CurriculumData

NAME = "pictures"
_PER_SHARD = 64


def write_pictures(folder: Path, count: int, size_px: tuple[int, int]) -> Path:
    """`count` JPEG pictures (quality 85) of smooth random colours with a caption each, as a split's shards."""
    if (folder / "manifest.json").is_file():
        return folder
    random = np.random.default_rng(0)
    with ShardWriter(folder, samples_per_shard=_PER_SHARD) as writer:
        for number in range(count):
            rough = random.integers(0, 256, (size_px[1] // 8, size_px[0] // 8, 3), dtype=np.uint8)
            stream = io.BytesIO()
            Image.fromarray(rough).resize(size_px, Image.Resampling.BICUBIC).save(stream, "JPEG", quality=85)
            words = " ".join("word" for _ in range(int(random.integers(4, 16))))
            record = json.dumps({"caption": f"picture {number} {words}"}).encode()
            writer.write(f"{number:06d}", {"jpg": stream.getvalue(), "json": record})
    return folder


def picture_source(setting: Setting, settings: Settings) -> Source:
    """The pictures, decoded by the modality's own decoder in a shuffled order."""
    folder = write_pictures(setting.folder / NAME, setting.size.images, setting.size.image_px)
    recipe = Recipe.model_validate(
        {"name": NAME, "title": "Pictures", "source": "generated", "licence": "CC0-1.0", "task": "caption",
         "media": {MODALITY: "jpg"}, "folder": NAME}
    )  # fmt: skip
    reader = ShardReader(folder)
    decoder = build(settings.modalities[MODALITY].decoder, f"modalities.{MODALITY}.decoder")
    stream = Stream(len(reader), 0, settings.data.block, settings.data.window)
    return Source(recipe, reader, {MODALITY: decoder}, CaptionTemplate(), stream)


def spell(text: str) -> list[int]:
    """A token a character, for want of a tokenizer that would have to be fetched."""
    return [FIRST_WORD + byte % 64 for byte in text.encode()]


def collator() -> Collator:
    """Captions spelled out."""
    return Collator(spell, 1, 2, 96)


def slices(setting: Setting, source: Source, samples: int, first_step: int, steps: int, ahead: int = 0) -> Any:
    """The loader that a phase of ours has from `first_step` on."""
    workers = setting.size.workers
    data = CurriculumData({NAME: source}, {NAME: Fraction(1)}, samples, 1, steps, collator(), 0, workers, ahead)
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    data.trainer = cast(Any, SimpleNamespace(global_step=first_step, global_rank=0, world_size=1, strategy=strategy))
    return data.train_dataloader()
