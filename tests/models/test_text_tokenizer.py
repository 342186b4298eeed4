"""Text to ids and back, without special tokens slipping in or out."""

from __future__ import annotations

import pickle
import sys

import pytest
import sentencepiece
from tokenizers import Tokenizer, models, trainers
from transformers import PreTrainedTokenizerFast

from modalign.errors import ModalignError
from modalign.models.text_tokenizer import TextTokenizer, load_text_tokenizer


def test_text_goes_to_ids_and_back_without_special_tokens(text_tokenizer):
    ids = text_tokenizer.encode("a red cube")
    assert ids == [4, 5, 7]
    assert text_tokenizer.decode([1, *ids, 2]) == "a red cube"
    assert (text_tokenizer.bos_id, text_tokenizer.eos_id, text_tokenizer.vocab_size) == (1, 2, 14)


def test_a_special_tokens_name_in_a_text_is_only_text():
    bpe = Tokenizer(models.BPE())
    bpe.train_from_iterator(["a red cube < eos >"], trainers.BpeTrainer(special_tokens=["<eos>"], vocab_size=60))
    tokenizer = TextTokenizer(PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<eos>"))
    ids = tokenizer.encode("red <eos>")
    assert tokenizer.eos_id not in ids
    assert tokenizer.decode(ids).replace(" ", "") == "red<eos>"


def test_it_is_loaded_from_a_folder_or_a_file(text_tokenizer, tmp_path):
    text_tokenizer.tokenizer.save_pretrained(tmp_path / "folder")
    folder = load_text_tokenizer(str(tmp_path / "folder"))
    file = load_text_tokenizer(str(tmp_path / "folder" / "tokenizer.json"), bos_token="<bos>", eos_token="<eos>")
    for loaded in (folder, file, pickle.loads(pickle.dumps(folder))):
        assert loaded.encode("a red cube") == [4, 5, 7]
        assert (loaded.bos_id, loaded.eos_id) == (1, 2)


def test_what_cannot_be_loaded_is_told_in_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "none.json"):
        with pytest.raises(ModalignError, match="cannot load the text tokenizer"):
            load_text_tokenizer(str(path))


@pytest.fixture
def pieces(tmp_path):
    """A folder with a SentencePiece model, as LLaMA's, and no tokenizer.json."""
    (tmp_path / "words.txt").write_text("".join(f"a red cube, number {n}\n" for n in range(100)))
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "words.txt"), model_prefix=str(tmp_path / "tokenizer"), vocab_size=40, model_type="bpe",
        minloglevel=2,
    )  # fmt: skip
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    return tmp_path


def test_a_sentencepiece_model_alone_gives_its_own_ids(pieces):
    expected = sentencepiece.SentencePieceProcessor(str(pieces / "tokenizer.model")).encode("a red cube")
    assert load_text_tokenizer(str(pieces)).encode("a red cube") == expected


@pytest.mark.parametrize(("package", "module"), [("sentencepiece", "sentencepiece"), ("protobuf", "google.protobuf")])
def test_the_package_that_a_sentencepiece_model_needs_is_named(pieces, monkeypatch, package, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        ModalignError, match=rf"its tokenizer\.model needs the package {package}: pip install {package}"
    ):
        load_text_tokenizer(str(pieces))


def test_ids_are_those_of_transformers_whatever_was_set_on_the_tokenizer(text_tokenizer):
    inner = text_tokenizer.tokenizer
    texts = ["a red cube", "red <eos> cube", "", "a a a a a"]
    expected = [inner.encode(text, add_special_tokens=False, split_special_tokens=True) for text in texts]
    assert any(expected)
    for text, ids in zip(texts, expected, strict=True):
        inner.backend_tokenizer.enable_truncation(2)
        inner.backend_tokenizer.enable_padding(length=9)
        inner.backend_tokenizer.encode_special_tokens = False
        assert text_tokenizer.encode(text) == ids


def test_a_tokenizer_with_a_way_of_its_own_is_asked_itself():
    class Doubling(PreTrainedTokenizerFast):
        def _encode_plus(self, text, **options):
            return super()._encode_plus(text + text, **options)

    bpe = Tokenizer(models.BPE())
    bpe.train_from_iterator(["abc"], trainers.BpeTrainer(vocab_size=60))
    assert TextTokenizer(Doubling(tokenizer_object=bpe)).encode("a") == TextTokenizer(
        PreTrainedTokenizerFast(tokenizer_object=bpe)
    ).encode("aa")
