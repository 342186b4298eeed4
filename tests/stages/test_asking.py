"""A finished run in Python: files in, answers and soft tokens out, and every misuse in one line."""

from types import SimpleNamespace

import pytest
import torch

from modalign.cli.main import run_verb
from modalign.errors import ModalignError
from modalign.stages.asking import MediaFile, decode, open_run

TOLD = torch.zeros(3)


@pytest.fixture(scope="module")
def asked(tiny_runs):
    return open_run(tiny_runs.instruct)


def sample(run, modality):
    """A file of the run's own samples."""
    return sorted(run.glob(f"samples/*-{modality}.*"))[0]


def test_it_answers_as_the_command_does_one_by_one_and_in_batches(asked, tiny_runs, capsys):
    picture, film = (MediaFile(m, sample(tiny_runs.instruct, m)) for m in ("image", "video"))
    assert run_verb("ask", [str(tiny_runs.instruct), "--image", str(picture.content), "what colour is it?"]) == 0
    told = capsys.readouterr().out.strip()
    alone = asked.answer([picture], "what colour is it?")
    assert told in (alone, "(nothing: the model ended its answer at once)")
    several = asked.answers([([picture], "what colour is it?"), ([picture, film], "how big is it?"), ([film], None)])
    assert several[0] == alone
    assert several[2] == asked.answer([film], asked.loaded.settings.modalities["video"].prompts[0])


def test_soft_tokens_are_those_of_the_model_whatever_a_file_comes_as(asked, tiny_runs):
    path = sample(tiny_runs.instruct, "image")
    tokens = asked.soft_tokens([MediaFile("image", path), MediaFile("image", path.read_bytes())])
    assert tokens.shape[0] == 2
    assert tokens.shape[2] == asked.loaded.model.llm.width
    assert torch.equal(tokens[0], tokens[1])
    assert not tokens.requires_grad


def test_a_run_of_align_says_a_caption(tiny_runs):
    run = open_run(tiny_runs.video)
    assert run.modalities == ("image", "video")
    assert not run.converses
    film = MediaFile("video", sample(tiny_runs.video, "video"))
    assert isinstance(run.answer([film]), str)
    with pytest.raises(ModalignError, match="says captions and takes no question"):
        run.answer([film], "how fast is it?")


@pytest.mark.parametrize(
    ("file", "told"),
    [
        (MediaFile("imagge", b""), "unknown modality 'imagge' in instruct-.*did you mean 'image'"),
        (MediaFile("image", "nowhere.jpg"), "image nowhere.jpg: cannot be read, no such file"),
        (MediaFile("image", b"no picture"), "image given as bytes: the file does not decode as image"),
    ],
)
def test_a_file_that_cannot_be_read_is_told(asked, file, told):
    with pytest.raises(ModalignError, match=told):
        asked.answer([file], "what is it?")


def test_nothing_to_ask_about_and_files_of_several_senses_are_told(asked, tiny_runs):
    with pytest.raises(ModalignError, match="nothing to ask about"):
        asked.answer([])
    files = [MediaFile(m, sample(tiny_runs.instruct, m)) for m in ("image", "video")]
    for wrong in ([], files):
        with pytest.raises(ModalignError, match="files of one modality"):
            asked.soft_tokens(wrong)


def test_a_file_must_say_of_which_subject_it_is_where_there_are_several():
    vector = {"sizes": {"one": 3, "two": 4}, "part": "vector"}
    sources = SimpleNamespace(sizes=lambda modality: vector["sizes"], decoder=lambda modality: lambda content, _: TOLD)
    for variant, told in ((None, "fmri given as bytes: of which variant is it.* variant='one'"), ("on", "mean 'one'")):
        with pytest.raises(ModalignError, match=told):
            decode([MediaFile("fmri", b"", variant)], sources)
    with pytest.raises(ModalignError, match="3 values where the tokenizer's variant 'two' takes 4"):
        decode([MediaFile("fmri", b"", "two")], sources)
