"""The peer from Hugging Face: its Trainer around our model, on our batches or on batches that are padded its way."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainerCallback, TrainingArguments

from modalign.bench.examine import examine
from modalign.bench.loops import OPTIMIZER, Course, Stamps
from modalign.bench.published import IGNORED
from modalign.bench.subject import MODALITY
from modalign.models.aligned import AlignedModel
from modalign.types import Batch, MediaBatch

Item = dict[str, Any]


class OurBatches(nn.Module):
    """Our model's loss of a batch of ours, as the Trainer wants it."""

    def __init__(self, model: AlignedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The mean loss."""
        output = self.model(batch)
        return {"loss": output.loss_sum / output.weight_sum}


class PaddedBatches(nn.Module):
    """Our parts in front of the language model as transformers runs it: a mask, and its own loss on all positions."""

    def __init__(self, model: AlignedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, pictures: Tensor, ids: Tensor, attention_mask: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """The mean loss."""
        soft = self.model.soft_tokens({MODALITY: MediaBatch(pictures)})[MODALITY].values
        text = self.model.llm.embed(ids)
        inputs = torch.cat([text[:, :1], soft.to(text.dtype), text[:, 1:]], dim=1)
        shape = soft.shape[:2]
        mask = torch.cat([attention_mask[:, :1], attention_mask.new_ones(shape), attention_mask[:, 1:]], dim=1)
        labels = torch.cat([targets[:, :1], targets.new_full(shape, IGNORED), targets[:, 1:]], dim=1)
        output = cast(Any, self.model.llm.model)(
            inputs_embeds=inputs, attention_mask=mask, labels=labels, use_cache=False
        )
        return {"loss": output.loss}


class _InOrder(Trainer):
    """The Trainer, taking samples as they come so that all loops see the same."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        samples: Any = train_dataset if train_dataset is not None else self.train_dataset
        return SequentialSampler(samples)


class _Watch(TrainerCallback):
    def __init__(self, stamps: Stamps) -> None:
        self.stamps = stamps

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """A step has ended, its optimizer's step included."""
        self.stamps.note()


def hub_loop(course: Course) -> float:
    """Our batches as they are, one an item."""
    return _train(course, OurBatches(course.subject.model), course.batches, lambda items: {"batch": items[0]}, 1)


def padding_loop(course: Course) -> float:
    """Samples one by one, put together and padded to the batch's longest by a collator."""
    items = [item for batch in course.batches for item in samples_of(batch)]
    size = course.batches[0].num_samples
    return _train(course, PaddedBatches(course.subject.model), items, padded, size)


def padding_flops(course: Course) -> float:
    """FLOPs of the steps on the course's batches when a collator has padded them, over those of our steps."""
    model = course.subject.model
    theirs = PaddedBatches(model)

    def their_loss(batch: Batch) -> Tensor:
        with torch.autocast(course.subject.device.type, dtype=torch.bfloat16, enabled=course.subject.half):
            return cast(Tensor, theirs(**padded(samples_of(batch)))["loss"])

    course.restart()
    counts = [
        sum(examine(each, partial(loss, batch)).flops for batch in course.batches)
        for each, loss in ((theirs, their_loss), (model, course.mean_loss))
    ]
    return counts[0] / counts[1]


def samples_of(batch: Batch) -> list[Item]:
    """Each sample's picture, token ids and labels."""
    found = []
    for row in batch.layout:
        places = [i for s in row if s.modality is None for i in range(s.start, s.start + s.length)]
        picture = next(s.start for s in row if s.modality is not None)
        ids = batch.text_ids[places]
        targets = ids.masked_fill(batch.loss_weights[places] == 0, IGNORED)
        found.append({"pictures": batch.media[MODALITY].values[picture], "ids": ids, "targets": targets})
    return found


def padded(items: list[Item]) -> Item:
    """A batch as a padding collator makes it."""
    ids = [item["ids"] for item in items]
    return {
        "pictures": torch.stack([item["pictures"] for item in items]),
        "ids": pad_sequence(ids, batch_first=True),
        "attention_mask": pad_sequence([torch.ones_like(i) for i in ids], batch_first=True),
        "targets": pad_sequence([item["targets"] for item in items], batch_first=True, padding_value=IGNORED),
    }


def _train(
    course: Course, model: nn.Module, items: list[Any], collate: Callable[[list[Any]], Item], size: int
) -> float:
    stamps = Stamps(course)
    arguments = TrainingArguments(
        output_dir=str(course.folder), max_steps=len(course.batches), per_device_train_batch_size=size,
        max_grad_norm=cast(float, OPTIMIZER.clip), report_to=[], save_strategy="no", logging_steps=10,
        disable_tqdm=True, remove_unused_columns=False, use_cpu=course.subject.device.type != "cuda",
        dataloader_pin_memory=False, bf16=course.subject.half,
    )  # fmt: skip
    quiet = logging.getLogger("transformers.trainer")
    quiet.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = _InOrder(
            model, arguments, data_collator=collate, train_dataset=cast(Any, items), callbacks=[_Watch(stamps)],
            optimizers=cast(Any, course.optimizer()),
        )  # fmt: skip
        trainer.remove_callback(_printer())
        trainer.train()
    return stamps.seconds


def _printer() -> type[TrainerCallback]:
    from transformers.trainer_callback import PrinterCallback

    return PrinterCallback
