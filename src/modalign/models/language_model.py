"""Any causal language model of transformers, as the four things that an aligned model needs of it.

Letters: B samples, T positions, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel, StoppingCriteria, StoppingCriteriaList

from modalign.errors import ModalignError
from modalign.models.adapters import LoraSettings, hide_base_layers, insert_lora, restore_base_layers
from modalign.models.last_layer import LastLayer
from modalign.models.loss import FrozenHead
from modalign.models.packed_attention import NO_MASK, PACKED, register_packed, require_packable
from modalign.models.packing import Packing
from modalign.models.pretrained import dtype_of, from_scratch, load_weights


class CausalLanguageModel(nn.Module):
    """Embeds tokens, runs the stack on embeddings, gives logits where they are wanted, and generates."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self.last_layer = LastLayer(layers[-1] if (layers := self._layers()) else None)
        # Weights keep their names whether or not adapters are around them, in checkpoints and in lineages.
        self.register_state_dict_post_hook(hide_base_layers)
        self.register_load_state_dict_pre_hook(restore_base_layers)

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
        if (layers := self._layers()) is not None:
            return layers
        raise ModalignError(f"found no list of decoder layers in {type(self.model).__name__}")

    def _layers(self) -> nn.ModuleList | None:
        """The list as long as the configuration says, in the text's decoder: pictures may have a tower of their own."""
        count = getattr(self.model.config.get_text_config(), "num_hidden_layers", None)
        lists = (module for module in self.model.get_decoder().modules() if isinstance(module, nn.ModuleList))
        return next((found for found in lists if len(found) == count), None)

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
        wanted: Sequence[Sequence[int]] | None = None,
    ) -> Float[Tensor, "B T D"]:
        """The last hidden state, after the final norm. Right-padded batches need no mask: padding lies ahead.

        With `wanted`, each row's positions in order, what stands at others means nothing.
        """
        rows, length = embeddings.shape[:2]
        places = _places(wanted, range(0, rows * length, length))
        with self.last_layer.computing(places, rows * length, embeddings.device):
            output = cast(nn.Module, self.model.base_model)(
                inputs_embeds=embeddings, attention_mask=attention_mask, position_ids=position_ids, use_cache=False
            )
        return output.last_hidden_state

    @property
    def packs(self) -> bool:
        """Whether training lays samples into one row (its attention is `packed`)."""
        return self.model.config._attn_implementation == PACKED

    def hidden_packed(
        self,
        embeddings: Float[Tensor, "B T D"],
        position_ids: Int[Tensor, "B T"],
        packing: Packing,
        wanted: Sequence[Sequence[int]] | None = None,
    ) -> Float[Tensor, "B T D"]:
        """As `hidden`, of right-padded rows whose padding is not computed; what then stands in it means nothing."""
        begins = [0, *accumulate(packing.lengths)]
        with self.last_layer.computing(_places(wanted, begins), begins[-1], embeddings.device):
            output = cast(nn.Module, self.model.base_model)(
                inputs_embeds=packing.pack(embeddings),
                attention_mask=embeddings.new_zeros(NO_MASK),
                position_ids=packing.pack(position_ids),
                use_cache=False,
                packing=packing,
            )
        return packing.unpack(output.last_hidden_state)

    @property
    def frozen_head(self) -> FrozenHead | None:
        """The vocabulary head where it is nothing but a linear map that does not train; else None."""
        head = self.model.get_output_embeddings()
        plain = type(head) is nn.Linear and type(head.weight) is nn.Parameter
        trains = any(p.requires_grad for p in head.parameters())
        return FrozenHead(head.weight, head.bias) if plain and not trains else None

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


def _places(wanted: Sequence[Sequence[int]] | None, begins: Iterable[int]) -> list[int] | None:
    """The wanted positions counted over all rows, of which each begins at its number."""
    if wanted is None:
        return None
    return [begin + place for places, begin in zip(wanted, begins, strict=False) for place in places]


def _until_end(ids: list[int], ends: set[int]) -> list[int]:
    for position, token in enumerate(ids):
        if token in ends:
            return ids[:position]
    return ids


def load_language_model(
    source: str | Mapping[str, Any],
    dtype: str = "float32",
    attention: str = "sdpa",
    architecture: Mapping[str, Any] | None = None,
    bits: int | None = None,
    lora: Mapping[str, Any] | None = None,
) -> CausalLanguageModel:
    """A language model by name or local folder, or from scratch by a configuration with its `model_type`.

    `attention` is one of transformers' (sdpa, eager, …) or `packed`: training then computes no padding. Nothing is
    fetched unless `source` is a name that is no local folder. `architecture` is the configuration that `source` must
    turn out to have, from which sizes are known without its weights. `bits` (8 or 4) keeps frozen weights small; `lora`
    (rank, alpha, dropout, targets) inserts adapters as the part `llm.lora`.
    """
    if attention == PACKED:
        register_packed()
    kind = dtype_of(dtype, "the language model")
    if isinstance(source, str):
        model = load_weights(source, kind, attention, architecture, bits)
    elif bits is not None:
        raise ModalignError(
            f"model.language_model.bits={bits}: only weights that are read can be kept in few bits, and this language "
            f"model is made from scratch: name a folder or a repository as model.language_model.source"
        )
    else:
        model = from_scratch(source, kind, attention)
    if attention == PACKED:
        require_packable(model)
    if lora is not None:
        insert_lora(model, LoraSettings.of(lora))
    return CausalLanguageModel(model)
