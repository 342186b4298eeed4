"""The language model's own text tokenizer, reduced to what collation and generation need."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from modalign.models.hub import telling_hub


class TextTokenizer:
    """Text to ids without special tokens, and back; picklable, so that loader workers can hold it."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        # transformers' own way to it takes longer than the tokenizing of a caption.
        plain = getattr(type(tokenizer), "_encode_plus", None) is PreTrainedTokenizerFast._encode_plus
        self._backend = tokenizer.backend_tokenizer if plain else None

    @property
    def bos_id(self) -> int | None:
        """The token that begins a sequence, where there is one."""
        return self.tokenizer.bos_token_id

    @property
    def eos_id(self) -> int | None:
        """The token that ends a sequence, where there is one."""
        return self.tokenizer.eos_token_id

    @property
    def vocab_size(self) -> int:
        """How many tokens there are, added ones included."""
        return len(self.tokenizer)

    def encode(self, text: str) -> list[int]:
        """Ids of a text, special tokens neither added nor read out of it."""
        if self._backend is None:
            return self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        if not self._backend.encode_special_tokens:
            self._backend.encode_special_tokens = True
        if self._backend.truncation is not None:
            self._backend.no_truncation()
        if self._backend.padding is not None:
            self._backend.no_padding()
        return self._backend.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens left out, spaces as they were."""
        if self._backend is not None:
            return self._backend.decode(list(ids), skip_special_tokens=True)
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))


def load_text_tokenizer(
    source: str, bos_token: str | None = None, eos_token: str | None = None, pad_token: str | None = None
) -> TextTokenizer:
    """A tokenizer by name, local folder or tokenizer.json; the tokens named here override the file's own."""
    named = {"bos_token": bos_token, "eos_token": eos_token, "pad_token": pad_token}
    chosen = {name: token for name, token in named.items() if token is not None}
    path = Path(source)
    with telling_hub("the text tokenizer", source, "model.text_tokenizer"):
        if path.suffix == ".json":
            return TextTokenizer(PreTrainedTokenizerFast(tokenizer_file=str(path), **chosen))
        return TextTokenizer(AutoTokenizer.from_pretrained(source, local_files_only=path.is_dir(), **chosen))
