"""A language model of one's own, in a folder: what is wrong with it is said before anything trains, and it stays."""

import shutil

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from modalign.errors import ModalignError
from modalign.runs.interrupt import Interrupted
from modalign.stages.load_run import load_run
from modalign.stages.phase_run import PhaseRun

STEPS = "stages.align.steps=6"


def save_model(folder, tokenizer_file, seed=0, vocab=1024):
    torch.manual_seed(seed)
    config = LlamaConfig(vocab_size=vocab, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
                         num_attention_heads=2, max_position_embeddings=256)  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_file=str(tokenizer_file), bos_token="<s>", eos_token="</s>").save_pretrained(
        folder
    )
    return folder


@pytest.fixture(scope="module")
def tokenizer_file(backbones):
    (file,) = backbones.runs.glob("pretrain_text-*/tokenizer/tokenizer.json")
    return file


@pytest.fixture
def own(own_shop, tmp_path, tokenizer_file):
    """The shop, the model's folder, and the words that name it."""
    folder = save_model(tmp_path / "llama", tokenizer_file)
    words = ("stage=align", "modality=image", STEPS, f"model.language_model.source={folder}")
    return own_shop(), folder, words


def test_no_language_model_is_trained_where_one_is_named(own):
    shop, folder, words = own
    before = set(shop.runs.glob("pretrain_text-*"))
    run = shop.train(*words)
    assert run.manifest().status == "finished"
    assert set(shop.runs.glob("pretrain_text-*")) == before
    assert [spec.stage for spec in shop.specs(*words)] == ["pretrain_contrast", "align"]
    with pytest.raises(ModalignError, match="stage=pretrain_text trains a language model from scratch, and"):
        shop.specs("stage=pretrain_text", f"model.language_model.source={folder}")


def test_weights_that_change_in_their_folder_are_noticed(own, tokenizer_file, told_to_stop):
    shop, folder, words = own
    shop.train("stage=pretrain_contrast", words[-1])
    with told_to_stop(3), pytest.raises(Interrupted):
        shop.train(*words)
    kept = folder.with_name("kept")
    shutil.copytree(folder, kept)
    save_model(folder, tokenizer_file, seed=1)
    with pytest.raises(ModalignError, match=r"llm is not what it was in align-image-.*: the weights .* have changed"):
        shop.train(*words)
    shutil.rmtree(folder)
    shutil.copytree(kept, folder)
    run = shop.train(*words)
    (llm,) = [part for part in run.manifest().parts if part["name"] == "llm"]
    assert llm["unchanged"]
    assert len(llm["digest"]) == 64
    assert load_run(run.path).manifest.name == run.name
    save_model(folder, tokenizer_file, seed=1)
    with pytest.raises(ModalignError, match="llm is not what it was in"):
        load_run(run.path)
    with pytest.raises(ModalignError, match=r"llm is not what it was in .*, or make align-image-.* again"):
        shop.train("stage=align", "modality=audio", *words[2:])


def test_a_run_that_left_no_checkpoint_begins_anew_with_what_is_there(own, tokenizer_file, monkeypatch):
    shop, folder, words = own
    shop.train("stage=pretrain_contrast", words[-1])
    with monkeypatch.context() as patch:
        patch.setattr(PhaseRun, "_train", broken)
        with pytest.raises(OSError, match="full"):
            shop.train(*words)
    save_model(folder, tokenizer_file, seed=1)
    assert shop.train(*words).manifest().status == "finished"


def broken(*_):
    raise OSError("the disk is full")


@pytest.mark.parametrize(
    ("breaks", "told"),
    [
        (lambda f: (f / "model.safetensors").unlink(), "no weights in that folder"),
        (lambda f: (f / "tokenizer.json").unlink(), "cannot load the text tokenizer .* .model.language_model.source."),
        (lambda f: shutil.rmtree(f), r"\(model.language_model.source\): there is no such folder; mend the path"),
    ],
)
def test_what_a_folder_lacks_is_told_before_anything_trains(own, breaks, told):
    shop, folder, words = own
    breaks(folder)
    before = {path.name for path in shop.runs.iterdir()}
    with pytest.raises(ModalignError, match=told):
        shop.train(*words)
    assert {path.name for path in shop.runs.iterdir()} <= before


def test_adapters_that_nothing_trains_are_told(own, caplog):
    shop, _, words = own
    shop.train(*words, "model.language_model.lora={rank: 4}")
    assert "model.language_model.lora is declared, but no run of this command trains it" in caplog.text


def test_adapters_and_tokens_that_cannot_be_are_told_before_anything_trains(own, tokenizer_file):
    shop, folder, words = own
    before = {path.name for path in shop.runs.iterdir()}
    with pytest.raises(ModalignError, match=r"unknown linear map 'query' in model.language_model.lora.targets"):
        shop.train("stage=instruct", "modality=image", *words[2:], "stages.instruct.train=[llm.lora]",
                   "model.language_model.lora={rank: 4, targets: [query]}")  # fmt: skip
    save_model(folder, tokenizer_file, vocab=64)
    with pytest.raises(ModalignError, match="the language model embeds 64: take the tokenizer of that language model"):
        shop.train(*words)
    assert {path.name for path in shop.runs.iterdir()} <= before
