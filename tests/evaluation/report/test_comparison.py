"""Any set of runs on one page, and the workspace that W&B would show of them."""

import importlib.util
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from modalign.cli.main import run_verb
from modalign.errors import ModalignError
from modalign.evaluation.report.comparison import labels_of, run_folders, write_comparison
from modalign.evaluation.report.source import read_run
from modalign.runs.manifest import read_manifest, write_manifest
from modalign.runs.record import CurriculumRecord, write_record


def maker():
    """The maker of fabricated runs that lies beside this file."""
    path = Path(__file__).with_name("conftest.py")
    spec = importlib.util.spec_from_file_location("fabricated_runs", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.make_run


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Image, then audio after it in two ways."""
    make = maker()
    root = tmp_path_factory.mktemp("runs")
    image = make(root, "align", ("image",), ())
    config = {"stage": {"name": "align"}, "seed": 1, "note": "hot"}
    spec = {"experts": 3, "stage": ["align", {"replay": "balanced"}], "parent": "a" * 64}
    audio = make(root, "align", ("audio",), ("image",), parent=image, spec=spec)
    other = make(
        root / "elsewhere", "align", ("audio",), ("image",), fall=0.2, identity="cd" * 32, config=config,
        spec={"experts": 3, "stage": ["align", {"replay": "none"}], "parent": "b" * 64, "noise": 0.1},
    )  # fmt: skip
    return image, audio, other


@pytest.fixture(scope="module")
def page(three, tmp_path_factory):
    return write_comparison(three, tmp_path_factory.mktemp("page") / "page.html", "Replay or none").read_text()


def section(page, anchor):
    return re.search(rf'<section id="{anchor}">(.*?)</section>', page, re.DOTALL)[1]


class Balanced(HTMLParser):
    """Fails on a tag that is closed but not open."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in {"meta", "img", "br", "link", "input", "source"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_asks_the_network_for_nothing(page):
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert not re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', page)
    assert "default-src 'none'" in page
    assert "<h1>Replay or none</h1>" in page


def test_it_has_scores_losses_ledger_router_freeze_map_settings_and_samples(page):
    for anchor in ("summary", "scores", "ledger", "losses", "router", "parts", "settings", "samples", "numbers"):
        assert len(section(page, anchor)) > 100, anchor


def test_runs_of_one_phase_are_told_apart_by_their_identities(three, page):
    names = list(labels_of([read_run(path) for path in three]))
    assert names == ["align image", "align audio abababab", "align audio cdcdcdcd"]
    assert all(name in section(page, "scores") for name in names)


def test_a_difference_beyond_the_intervals_is_bold_and_a_small_one_is_not(three, tmp_path):
    _, audio, other = three
    page = write_comparison([audio, other], tmp_path / "page.html").read_text()
    rows = re.findall(
        r"<tr>(.*?)</tr>",
        section(page, "scores").partition("attribute accuracy, in points")[2] or section(page, "scores"),
    )
    image = next(row for row in rows if ">image<" in row)
    assert re.search(r'<strong class="bad">\u2212\d', image)
    assert "<strong" not in next(row for row in rows if ">audio<" in row)


def test_only_settings_that_differ_are_listed_and_those_that_some_lack_are_folded(page, three, tmp_path):
    html = section(write_comparison(three[1:], tmp_path / "page.html").read_text(), "settings")
    assert re.search(r"stage\.1\.replay</code></td><td>balanced</td><td>none", html)
    assert "experts" not in html
    assert "aaaaaaaaaaaa<" in html  # digests are cut
    assert "noise" in html.partition("settings that not every run has")[2]


def test_the_freeze_map_names_what_only_one_run_has_or_trains(page):
    html = section(page, "parts")
    assert re.search(
        r"<td>tokenizers.audio</td><td><span class=\"soft\">·</span></td><td><span class=\"good\">trained", html
    )
    assert "parts alike in all runs" in html


def test_the_same_sample_stands_once_with_what_each_run_said(page):
    html = section(page, "samples")
    assert html.count('class="card"') == 4  # two of image, two of audio
    assert html.count("<dt>align audio cdcdcdcd</dt>") == 4


def test_a_curriculum_stands_for_its_phases_and_no_run_is_taken_twice(three, tmp_path):
    image, audio, _ = three
    record = CurriculumRecord("by_size")
    for path, new, seen in ((image, ("image",), ()), (audio, ("audio",), ("image",))):
        record.add(tmp_path, path, "align", new, seen)
    write_record(tmp_path, record)
    assert [path.resolve() for path in run_folders([tmp_path, audio])] == [image.resolve(), audio.resolve()]


def test_one_run_alone_has_a_page_too_but_no_run_has_none(three, tmp_path):
    page = write_comparison(three[:1], tmp_path / "page.html").read_text()
    assert "differences against" not in page
    assert section(page, "scores")
    write_record(tmp_path, CurriculumRecord("by_size"))
    with pytest.raises(ModalignError, match="no phase has run there yet"):
        write_comparison([tmp_path], tmp_path / "page.html")


def test_the_verb_writes_where_it_is_told(three, tmp_path, capsys):
    assert run_verb("page", [*map(str, three), "--to", str(tmp_path / "a.html")]) == 0
    assert (tmp_path / "a.html").read_text().startswith("<!doctype html>")
    assert capsys.readouterr().out.strip().endswith("a.html")


def test_a_group_that_no_run_was_logged_under_is_told(three, tmp_path, capsys):
    pytest.importorskip("wandb_workspaces")
    logged = shutil.copytree(three[0], tmp_path / "logged")
    manifest = read_manifest(logged)
    manifest.config["logger"] = {"name": "wandb", "group": "replay"}
    write_manifest(logged, manifest)
    words = [str(three[1]), str(logged), "--entity", "me", "--to", str(tmp_path / "workspace.json")]
    assert run_verb("wandb-report", ["replay", *words]) == 0
    assert "group" not in capsys.readouterr().err
    assert run_verb("wandb-report", ["replai", *words]) == 0
    told = capsys.readouterr().err
    assert "none of these runs was logged under the group 'replai' (the groups that they name: replay)" in told


def test_the_workspace_of_an_experiment_is_built_without_a_network(three, tmp_path):
    pytest.importorskip("wandb_workspaces")
    file = tmp_path / "workspace.json"
    assert run_verb("wandb-report", ["replay", *map(str, three), "--entity", "me", "--to", str(file)]) == 0
    view = json.loads(file.read_text())
    assert (view["entity"], view["project"], view["displayName"]) == ("me", "modalign", "modalign replay")
    sections = {s["name"]: s["panels"] for s in view["spec"]["section"]["panelBankConfig"]["sections"]}
    assert list(sections) == [
        "Scores", "Losses by modality", "Losses by step", "Ledger", "Router", "Samples", "What trained", "Speed",
    ]  # fmt: skip
    losses = {panel["config"]["xAxis"]: panel["config"]["metrics"] for panel in sections["Losses by modality"]}
    assert losses["samples/audio"] == ["train/loss/audio", "val/loss/audio"]
    router = [panel["config"]["metrics"] for panel in sections["Router"]]
    assert ["router/audio/expert_1", "router/audio/expert_2", "router/audio/expert_3"] in router
    assert "replay" in json.dumps(view["spec"]["section"]["runSets"])


def test_a_report_says_what_was_found_and_then_shows_the_panels(three):
    reports = pytest.importorskip("wandb_workspaces.reports.v2")
    from modalign.evaluation.report.wandb_workspace import build_report

    report = build_report([read_run(path) for path in three], "me", "modalign", "replay")
    told = next(block for block in report.blocks if isinstance(block, reports.MarkdownBlock)).text
    assert "| align image | image | 250 | image caption 96.0 % (94.0 to 98.0) |" in told
    grids = [block for block in report.blocks if isinstance(block, reports.PanelGrid)]
    assert len(grids) == 8
    assert all(grid.runsets[0].name == "replay" for grid in grids)


def test_saving_needs_to_know_whose_project_it_is(three, monkeypatch):
    monkeypatch.delenv("WANDB_ENTITY", raising=False)
    with pytest.raises(ModalignError, match="--entity"):
        run_verb("wandb-report", ["replay", str(three[0])])
