"""Verbs on runs that exist: evaluate, ask, report, ledger, compare, plan."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from PIL import Image

from modalign.cli.run_settings import changed_settings
from modalign.config.variants import DEFAULT, check_variant, variant_sizes
from modalign.errors import ModalignError
from modalign.runs.manifest import read_manifest, write_manifest
from modalign.stages import load_run
from modalign.types import DEFAULT_VARIANT


@pytest.fixture
def copy(tiny_runs, tmp_path):
    """A copy of the runs, which a test may change."""
    shutil.copytree(tiny_runs.runs, tmp_path / "runs")
    return type(tiny_runs)(tmp_path / "runs", tiny_runs.data)


@pytest.fixture
def files(tmp_path, tiny_runs):
    """One file of each sense that the runs have."""
    Image.fromarray(np.full((40, 60, 3), 99, np.uint8)).save(tmp_path / "grey.jpg")
    (film,) = (tiny_runs.instruct / "samples").glob("test-*-video.mp4")
    return {"image": tmp_path / "grey.jpg", "video": film}


def test_a_run_evaluated_again_gives_the_same_results_to_the_bit(modalign, tiny_runs, tmp_path):
    said = modalign("evaluate", tiny_runs.instruct, "--out", tmp_path)
    assert said.code == 0, said.err
    again = json.loads((tmp_path / tiny_runs.instruct.name / "results.json").read_text())
    assert again == json.loads((tiny_runs.instruct / "results.json").read_text())
    assert "exact_match" in said.out
    assert "nats a token" in said.out


def test_other_items_are_measured_on_request_and_noted_in_the_manifest(modalign, copy):
    before = (copy.video / "report.html").read_bytes()
    said = modalign("evaluate", copy.video, "evaluation.num_items=3", "evaluation.splits=[test]", "--all")
    assert said.code == 0, said.err
    results = json.loads((copy.video / "results.json").read_text())
    assert {score["n"] for score in results["scores"]} == {3}
    assert "cider" in said.out
    (noted,) = read_manifest(copy.video).extra["evaluated_again"]
    assert noted["evaluation"]["num_items"] == 3
    assert (copy.video / "report.html").read_bytes() != before


def test_what_another_evaluation_noted_while_this_one_loaded_is_kept(modalign, copy, monkeypatch):
    load = load_run.load_run

    def meanwhile(*arguments):
        manifest = read_manifest(copy.video)
        manifest.extra["evaluated_again"] = [{"command": ["another"]}]
        write_manifest(copy.video, manifest)
        return load(*arguments)

    monkeypatch.setattr(load_run, "load_run", meanwhile)
    said = modalign("evaluate", copy.video, "evaluation.num_items=3", "evaluation.splits=[test]")
    assert said.code == 0, said.err
    commands = [noted["command"] for noted in read_manifest(copy.video).extra["evaluated_again"]]
    assert commands[0] == ["another"]
    assert commands[1][:2] == ["modalign", "evaluate"]


def test_a_curriculum_report_that_a_measurement_leaves_behind_is_told_with_what_renews_it(modalign, copy):
    few = ("evaluation.num_items=3", "evaluation.splits=[test]")
    (whole,) = [folder for folder in copy.curricula if copy.instruct.name in (folder / "curriculum.json").read_text()]
    before = (whole / "report.html").read_bytes()
    said = modalign("evaluate", copy.instruct, *few)
    (told,) = [line for line in said.out.splitlines() if line.startswith("older than these results")]
    assert told == f"older than these results: {whole / 'report.html'}; `modalign report {whole}` renews it"
    assert modalign("report", whole).code == 0
    assert (whole / "report.html").read_bytes() != before
    (whole / "report.html").unlink()
    assert "older than these results" not in modalign("evaluate", copy.instruct, *few).out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluation.num_item=3"], "did you mean 'num_items'?"),
        (["+evaluation.num_item=3"], "unknown setting 'num_item' in evaluation: did you mean 'num_items'?"),
        (["+data.align.video=3"], "data.align.video: should be a valid tuple"),
        (["+seed.x=3"], "cannot be changed for a run that is finished"),
        (["evaluation.num_items=0"], "should be greater than 0"),
        (["evaluation.num_items=many"], "should be a valid integer"),
        (["seed=3"], "cannot be changed for a run that is finished"),
        (["model.fusion.x=3"], "cannot be changed for a run that is finished"),
        (["evaluation.num_items"], "settings are given as key=value"),
        (["evaluation.num_items=[3"], "cannot read"),
        (["--world", "hard"], "add --out DIR"),
        (["--world", "hart", "--out", "x"], "did you mean 'hard'?"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_before_anything_is_loaded(modalign, tiny_runs, words, message):
    assert message in modalign("evaluate", tiny_runs.video, *words).error


def test_a_name_that_is_not_there_yet_is_added_with_a_plus(tiny_runs):
    manifest = read_manifest(tiny_runs.video)
    with pytest.raises(ModalignError, match=r"unknown setting 'video' in data\.align"):
        changed_settings(manifest, ["data.align.video=[world_video]"])
    for plus in ("+", "++"):
        assert changed_settings(manifest, [f"{plus}data.align.video=[digits]"]).data.align["video"] == ("digits",)


def test_a_run_without_results_is_neither_evaluated_nor_asked(modalign, tiny_runs):
    for words in (["evaluate", tiny_runs.text], ["ask", tiny_runs.contrast, "what?"]):
        assert "made a backbone" in modalign(*words).error


def test_an_unfinished_run_says_which_command_continues_it(modalign, copy):
    manifest = read_manifest(copy.video)
    manifest.status = "interrupted"
    manifest.command += ["curriculum.groups=[[image],[video]]"]
    write_manifest(copy.video, manifest)
    told = modalign("evaluate", copy.video).error
    assert "interrupted, not finished: `python train.py stage=align modality=video " in told
    assert " 'curriculum.groups=[[image],[video]]'` continues it" in told


def test_a_folder_that_is_no_run_is_told_in_one_line(modalign, tmp_path):
    for verb in ("evaluate", "ask", "compare"):
        assert "holds no run" in modalign(verb, tmp_path, *([tmp_path] if verb == "compare" else [])).error
    assert "neither a run" in modalign("report", tmp_path).error
    assert "no curriculum" in modalign("ledger", tmp_path).error


def test_a_parent_that_is_gone_is_told_in_one_line(modalign, copy):
    shutil.rmtree(copy.image)
    assert "parent gone" in modalign("evaluate", copy.video).error


def test_a_damaged_checkpoint_is_told_in_one_line(modalign, copy):
    (file,) = copy.video.glob("checkpoints/*/projectors.upm.experts.0.safetensors")
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    assert "projectors.upm.experts.0.safetensors was altered" in modalign("evaluate", copy.video).error


def test_asking_about_any_mix_of_senses_gives_one_text(modalign, tiny_runs, files):
    words = ["--image", files["image"], "--video", files["video"], "--image", files["image"]]
    said = modalign("ask", tiny_runs.instruct, *words, "what is it?", "--max-new-tokens", "3")
    assert said.code == 0, said.err
    assert said.err == ""
    assert said.out.strip()


def test_asking_in_words_alone_is_answered_by_a_run_that_learned_questions(modalign, tiny_runs):
    said = modalign("ask", tiny_runs.instruct, "what kind of word is ball?")
    assert said.code == 0
    assert said.err == "note: no file was given: the answer comes from the words alone\n"
    assert said.out.strip()


def test_a_run_that_learned_no_questions_says_a_caption_and_says_so(modalign, tiny_runs, files):
    said = modalign("ask", tiny_runs.video, "--video", files["video"])
    assert said.code == 0
    assert "says a bare caption" in said.err
    assert "learns captions and no questions" in modalign(
        "ask", tiny_runs.video, "--video", files["video"], "what is it?"
    ).error  # fmt: skip


def test_asking_without_a_question_uses_the_prompt_of_the_sense(modalign, tiny_runs, files):
    said = modalign("ask", tiny_runs.instruct, "--image", files["image"])
    assert "asked is 'Provide a one-sentence caption for the provided image.'" in said.err


def test_the_options_of_ask_are_the_senses_of_the_run(modalign, tiny_runs, files):
    said = modalign("ask", tiny_runs.video, "--help")
    assert "--image FILE" in said.out
    assert "--video FILE" in said.out
    assert "--audio FILE" not in said.out
    assert "did you mean '--video'?" in modalign("ask", tiny_runs.video, "--vidoe", files["video"]).error
    assert "unknown option '--audio'" in modalign("ask", tiny_runs.video, "--audio", "a.flac").error


def test_files_that_cannot_be_decoded_are_told_in_one_line(modalign, tiny_runs, files, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(files["image"].read_bytes()[:200])
    (tmp_path / "words.jpg").write_text("no picture")
    (tmp_path / "model.pkl").write_bytes(b"x")
    soundfile.write(tmp_path / "sound.flac", np.zeros(800), 8000)
    expected = {
        "broken.jpg": "does not decode as image", "words.jpg": "does not decode as image",
        "sound.flac": "does not decode as image", "model.pkl": "are refused", "none.jpg": "cannot be read",
    }  # fmt: skip
    for name, message in expected.items():
        told = modalign("ask", tiny_runs.instruct, "--image", tmp_path / name, "what?").error
        assert message in told
        assert str(tmp_path / name) in told
        assert "_io." not in told


def test_nothing_to_ask_about_and_two_questions_are_refused(modalign, tiny_runs, files):
    assert "give --image FILE or --video FILE" in modalign("ask", tiny_runs.video).error
    assert "put one in quotes" in modalign("ask", tiny_runs.instruct, "what", "is").error
    assert "several folders fit: name one" in modalign("ask", tiny_runs.video, tiny_runs.instruct).error
    wrong = modalign("ask", tiny_runs.instruct, "--image", files["image"], "--variant", "vidoe=a", "what?")
    assert "did you mean 'video'?" in wrong.error


def test_reports_of_runs_and_curricula_are_written_again(modalign, copy):
    for folder in (copy.video, copy.text, copy.curricula[0]):
        (folder / "report.html").unlink(missing_ok=True)
        said = modalign("report", folder)
        assert said.code == 0, said.err
        assert said.out.strip() == str(folder / "report.html")
        assert (folder / "report.html").read_text().startswith("<!")


def test_the_ledger_has_a_row_a_phase(modalign, tiny_runs):
    curriculum = max(tiny_runs.curricula, key=lambda path: len((path / "curriculum.json").read_text()))
    said = modalign("ledger", curriculum)
    assert said.code == 0
    _, _, rows = said.out.partition("──\n")
    assert [line.split()[0] for line in rows.splitlines() if line[:1].strip()][:3] == ["image", "video", "instruct"]


def test_two_runs_are_compared_in_settings_and_scores(modalign, tiny_runs):
    said = modalign("compare", tiny_runs.image, tiny_runs.video)
    assert said.code == 0
    assert "new: ['image'] != ['video']" in said.out
    assert "points" in said.out
    assert "equal" in modalign("compare", tiny_runs.image, tiny_runs.image).out


def test_a_plan_names_the_runs_and_what_is_there_already(modalign, tiny_runs):
    said = modalign("plan", "stage=align", "modality=video", *tiny_runs.settings)
    assert said.code == 0, said.err
    assert tiny_runs.video.name in said.out
    assert "all are finished" in said.out
    more = modalign("plan", "stage=align", *tiny_runs.settings)
    assert "to be made below" in more.out
    assert "missing" in more.out
    assert "did you mean 'audio'?" in modalign("plan", "stage=align", "modality=audoi").error


def test_a_file_of_a_sense_with_variants_must_say_of_which_it_is():
    sizes, option = {"one": 320, "two": 384}, "--variant fmri={}"
    check_variant(sizes, "two", "--fmri scan.npy", option)
    with pytest.raises(ModalignError, match=r"^--fmri scan.npy: .*Add --variant fmri=one or --variant fmri=two$"):
        check_variant(sizes, None, "--fmri scan.npy", option)
    with pytest.raises(ModalignError, match=r"unknown variant 'tow' in --variant fmri=NAME: did you mean 'two'\?"):
        check_variant(sizes, "tow", "--fmri scan.npy", option)
    check_variant({**sizes, "default": 100}, None, "--fmri scan.npy", option)
    assert DEFAULT == DEFAULT_VARIANT
    check_variant({"one": 320}, None, "--fmri scan.npy", option)
    check_variant({}, None, "--image a.jpg", "--variant image={}")


def test_a_tokenizer_that_is_shared_has_the_sizes_that_one_of_its_modalities_declares():
    shared = {
        "fmri": SimpleNamespace(tokenizer={"part": "vector", "sizes": {"one": 320}}),
        "eeg": SimpleNamespace(tokenizer={"part": "vector"}),
        "image": SimpleNamespace(tokenizer={"part": "map"}),
    }
    assert variant_sizes(shared, "eeg") == {"one": 320}
    assert variant_sizes(shared, "image") == {}
