"""The language model's own text tokenizer, reduced to what collation and generation need."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from modalign.errors import ModalignError
from modalign.models.hub import local_file, require_folder, telling_hub

log = logging.getLogger(__name__)
SENTENCEPIECE = {"sentencepiece": "sentencepiece", "protobuf": "google.protobuf"}  # packages, as they are imported


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
    source: str,
    bos_token: str | None = None,
    eos_token: str | None = None,
    pad_token: str | None = None,
    key: str = "model.text_tokenizer",
) -> TextTokenizer:
    """A tokenizer by name, local folder or tokenizer.json; the tokens named here override the file's own.

    `key` is the setting that named it, for errors. One that has no token for the end is warned of.
    """
    named = {"bos_token": bos_token, "eos_token": eos_token, "pad_token": pad_token}
    chosen = {name: token for name, token in named.items() if token is not None}
    path = Path(source)
    if path.suffix != ".json":
        require_folder("the text tokenizer", source, key)
    with telling_hub("the text tokenizer", source, key):
        if path.suffix == ".json":
            made = TextTokenizer(PreTrainedTokenizerFast(tokenizer_file=str(path), **chosen))
        else:
            _require_sentencepiece(source, key)
            made = TextTokenizer(AutoTokenizer.from_pretrained(source, local_files_only=path.is_dir(), **chosen))
    if made.eos_id is None:
        log.warning(
            "the text tokenizer '%s' (%s) has no token for the end (eos_token): captions are learnt without one, and "
            "what is generated ends only at max_new_tokens", source, key,
        )  # fmt: skip
    return made


def _require_sentencepiece(source: str, key: str) -> None:
    """ModalignError where a package that reads a SentencePiece model is missing; transformers would name tiktoken."""
    model = local_file(source, "tokenizer.model")
    if model is None or local_file(source, "tokenizer.json") is not None:
        return
    with model.open("rb") as file:
        if file.read(1) != b"\n":  # how its protocol buffer begins; a file of tiktoken's is text
            return
    for package, module in SENTENCEPIECE.items():
        try:
            importlib.import_module(module)
        except ImportError:
            raise ModalignError(
                f"cannot load the text tokenizer '{source}' ({key}): its tokenizer.model needs the package {package}: "
                f"pip install {package}"
            ) from None
