"""Any causal language model of transformers, as the four things that an aligned model needs of it.

Letters: B samples, T positions, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, StoppingCriteria, StoppingCriteriaList

from modalign.errors import ModalignError, unknown_name

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class CausalLanguageModel(nn.Module):
    """Embeds tokens, runs the stack on embeddings, gives logits where they are wanted, and generates."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    @property
    def embedding_rows(self) -> Float[Tensor, "V D"]:
        """The embedding of every token."""
        return cast(nn.Embedding, self.model.get_input_embeddings()).weight

    @property
    def width(self) -> int:
        """The width of the embeddings that enter."""
        return int(self.embedding_rows.shape[1])

    @property
    def vocab_size(self) -> int:
        """How many tokens there are."""
        return int(self.embedding_rows.shape[0])

    @property
    def max_positions(self) -> int | None:
        """The longest sequence that the configuration promises, where it says so."""
        return getattr(self.model.config, "max_position_embeddings", None)

    @property
    def layers(self) -> nn.ModuleList:
        """The decoder layers, where a fusion may insert modules."""
        count = self.model.config.num_hidden_layers
        for module in self.model.modules():
            if isinstance(module, nn.ModuleList) and len(module) == count:
                return module
        raise ModalignError(f"found no list of {count} decoder layers in {type(self.model).__name__}")

    def embedding_std(self) -> float:
        """The spread of the embedding rows: the scale at which soft tokens should start."""
        return float(self.embedding_rows.detach().float().std())

    def embed(self, ids: Int[Tensor, "..."]) -> Float[Tensor, "... D"]:
        """Token ids to embeddings."""
        return self.model.get_input_embeddings()(ids)

    def hidden(
        self,
        embeddings: Float[Tensor, "B T D"],
        attention_mask: Int[Tensor, "B T"] | None = None,
        position_ids: Int[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        """The last hidden state, after the final norm. Right-padded batches need no mask: padding lies ahead."""
        output = cast(nn.Module, self.model.base_model)(
            inputs_embeds=embeddings, attention_mask=attention_mask, position_ids=position_ids, use_cache=False
        )
        return output.last_hidden_state

    def logits(self, hidden: Float[Tensor, "... D"]) -> Float[Tensor, "... V"]:
        """Scores of every token."""
        return cast(nn.Linear, self.model.get_output_embeddings())(hidden)

    @torch.no_grad()
    def generate(
        self,
        embeddings: Float[Tensor, "B T D"],
        attention_mask: Int[Tensor, "B T"],
        max_new_tokens: int,
        eos_ids: Sequence[int] = (),
        finished: Callable[[list[int]], bool] | None = None,
        **sampling: Any,
    ) -> list[list[int]]:
        """New token ids of each left-padded sample, up to its end token or until `finished(ids)`; greedy by default.

        `finished` sees the ids that a sample has generated so far. `sampling` goes to transformers' generate.
        """
        pad = eos_ids[0] if eos_ids else 0
        criteria = StoppingCriteriaList([_Finished(finished)] if finished else [])
        settings = {"do_sample": False, "num_beams": 1, **sampling}
        ids = self.model.generate(  # type: ignore[operator]
            inputs_embeds=embeddings,
            attention_mask=attention_mask,
            max_new_tokens=max_new_tokens,
            eos_token_id=list(eos_ids) or None,
            pad_token_id=pad,
            stopping_criteria=criteria,
            use_cache=True,
            **settings,
        )
        return [_until_end(row, set(eos_ids)) for row in ids.tolist()]


class _Finished(StoppingCriteria):
    """Ends each sample of its own when the caller says so."""

    def __init__(self, finished: Callable[[list[int]], bool]) -> None:
        self.finished = finished

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:  # type: ignore[override]
        return torch.tensor([self.finished(row) for row in input_ids.tolist()], device=input_ids.device)


def _until_end(ids: list[int], ends: set[int]) -> list[int]:
    for position, token in enumerate(ids):
        if token in ends:
            return ids[:position]
    return ids


def load_language_model(
    source: str | Mapping[str, Any], dtype: str = "float32", attention: str = "sdpa"
) -> CausalLanguageModel:
    """A language model by name or local folder, or from scratch by a configuration with its `model_type`.

    Nothing is fetched unless `source` is a name that is no local folder.
    """
    if dtype not in DTYPES:
        raise unknown_name("dtype", dtype, DTYPES, "the language model")
    if not isinstance(source, str):
        return CausalLanguageModel(_from_scratch(dict(source), DTYPES[dtype], attention))
    try:
        model = AutoModelForCausalLM.from_pretrained(
            source, dtype=DTYPES[dtype], attn_implementation=attention, local_files_only=Path(source).is_dir()
        )
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise ModalignError(f"cannot load the language model '{source}': {first}") from error
    return CausalLanguageModel(model)


def _from_scratch(config: dict[str, Any], dtype: torch.dtype, attention: str) -> PreTrainedModel:
    if "model_type" not in config:
        raise ModalignError("a language model from scratch needs its model_type (llama, qwen2, …) in its configuration")
    kind = config.pop("model_type")
    try:
        settings = AutoConfig.for_model(kind, **config)
    except ValueError as error:
        raise ModalignError(f"transformers knows no language model of type '{kind}'") from error
    return AutoModelForCausalLM.from_config(settings, dtype=dtype, attn_implementation=attention)
