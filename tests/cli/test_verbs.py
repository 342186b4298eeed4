"""The command itself: its help, its errors, and how fast it says them."""

import os
import resource
import subprocess
import sys

import pytest

from modalign.cli.main import VERBS

HEAVY = ("torch", "lightning", "transformers", "open_clip", "av", "soundfile")


def test_help_lists_every_verb_with_what_it_does(modalign):
    said = modalign("--help")
    assert said.code == 0
    for verb, summary in VERBS.items():
        assert verb in said.out
        assert summary in said.out


def test_no_verb_at_all_shows_the_help_and_fails(modalign):
    said = modalign()
    assert said.code == 2
    assert "usage: modalign" in said.out


def test_an_unknown_verb_names_the_nearest_one(modalign):
    assert "unknown verb 'reciepes' in modalign: did you mean 'recipes'?" in modalign("reciepes").error


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(modalign, verb):
    said = modalign(verb, "--help")
    assert said.code == 0
    assert f"usage: modalign {verb}" in said.out
    assert f"\n  modalign {verb}" in said.out.replace("examples\n", "\n")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_names_the_nearest_option_for_an_unknown_one(modalign, verb):
    assert "did you mean '--help'?" in modalign(verb, "--hepl").error


def test_a_missing_argument_is_told_in_one_line(modalign):
    assert "modalign ledger: the following arguments are required: CURRICULUM" in modalign("ledger").error


def test_one_word_too_many_is_told_in_one_line(modalign):
    assert "'extra' is one word too many (" in modalign("ledger", "somewhere", "extra").error


def test_a_pattern_that_fits_several_folders_is_told_as_such(modalign, tmp_path):
    told = modalign("ledger", tmp_path, tmp_path).error
    assert f"'{tmp_path}' is one word too many; if it comes from a pattern (runs/align-*), several folders fit" in told
    assert "last written" not in told


def test_of_several_runs_the_one_written_last_is_named(modalign, tmp_path):
    for number, name in enumerate(("old", "new", "older")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text("{}")
        os.utime(tmp_path / name / "manifest.json", (1000, (200, 300, 100)[number]))
    told = modalign("ledger", *(tmp_path / name for name in ("old", "new", "older"))).error
    assert f"name one (the last written is {tmp_path / 'new'})" in told


def test_a_setting_without_a_value_is_told_in_one_line(modalign):
    assert "'digit': settings are given as key=value" in modalign("recipes", "digit").error


def test_help_and_errors_of_all_verbs_come_without_heavy_libraries(tmp_path):
    """In one process, with those libraries made impossible to import."""
    code = (
        "import sys\n"
        f"for heavy in {HEAVY!r}: sys.modules[heavy] = None\n"
        "from modalign.cli.main import VERBS, main\n"
        "for verb in VERBS:\n"
        "    for words in ([verb, '--help'], [verb, '--hepl']):\n"
        "        try: main(words)\n"
        "        except SystemExit as ended: assert ended.code in (0, 2, None), (words, ended.code)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("words", [["--help"], ["show", "--help"], ["shards", "digitz"]])
def test_the_console_script_answers_within_two_seconds_of_work(words):
    """Seconds of the processor, since other processes share the machine."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "modalign.cli.main", *words]
    subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2
