"""The page of a run: whole, self-contained, honest about what is missing."""

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from modalign.errors import ModalignError
from modalign.evaluation.report import write_run_report
from modalign.evaluation.report.samples import marked
from modalign.evaluation.scores import ShownSample, read_results, results_bytes

VOID = {"meta", "img", "br", "input", "hr", "link"}


class Balance(HTMLParser):
    """Fails on a tag that is closed out of order, and keeps every id and every reference."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.references = [], [], []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.ids += [values["id"]] if "id" in values else []
        self.references += [values[name] for name in ("src", "href") if values.get(name)]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag


def check_page(path):
    html = path.read_text(encoding="utf-8")
    parser = Balance()
    parser.feed(html)
    parser.close()
    assert parser.open == []
    assert len(parser.ids) == len(set(parser.ids))
    for reference in parser.references:
        assert reference.startswith(("data:", "#")) or (path.parent / reference).exists(), reference[:80]
    assert {r[1:] for r in parser.references if r.startswith("#")} <= set(parser.ids)
    assert not re.search(r"https?://", html)
    assert "url(http" not in html
    assert "Content-Security-Policy" in html
    return html


@pytest.fixture
def chain(run_maker, tmp_path):
    first = run_maker(tmp_path, "align", ("image",), ())
    second = run_maker(tmp_path, "align", ("audio", "imu"), ("image",), first)
    return first, second


def test_the_page_is_self_contained_and_well_formed(chain):
    path = write_run_report(chain[1])
    assert path == chain[1] / "report.html"
    html = check_page(path)
    for title in ("What this run shows", "Scores", "The forgetting ledger", "Samples", "Losses", "Router and experts",
                  "What trained", "Data", "Lineage", "Time", "How to do it again"):  # fmt: skip
        assert f"<h2>{title}</h2>" in html


def test_the_summary_says_in_words_what_was_measured(chain):
    html = write_run_report(chain[1]).read_text()
    assert "Stage align added audio and imu to image: 250 optimizer steps over 12,000 samples" in html
    assert "Audio captions: attribute accuracy 94.1 % (95 % interval 92.1 to 96.1) on 320 test items" in html
    assert "; chance is 22.0 %; 91.1 % on combinations never seen in training." in html
    assert "Nothing notable was forgotten: the largest fall of an earlier modality is 0.8 points" in html
    assert "loss on plain text is unchanged to the last digit" in html
    assert "all proved to be the same to the bit" in html
    assert "2 of the samples read could not be used; the section on data names 1 that differ" in html


def test_what_the_run_warned_of_stands_in_its_summary(run_maker, tmp_path):
    starts = [{"rule": "map_at_random", "target": "tokenizers.eeg.linears.default", "source": "3 captions are too few",
               "tensors": 2}]  # fmt: skip
    extra = {"unspeakable": [["world_audio", 17.31, 0.52]]}
    run = run_maker(tmp_path, "align", ("audio",), (), start_values=starts, extra=extra)
    html = write_run_report(run).read_text()
    assert "may not be able to say the captions of world_audio" in html
    assert "17.31 nats a token, against 0.52" in html
    assert "linears.default began at random, not from its captions: 3 captions are too few." in html
    learned = run_maker(tmp_path, "instruct", (), ("audio",), extra=extra)
    assert "may not be able to say" not in write_run_report(learned).read_text()


def test_phases_measured_on_other_items_are_told(run_maker, tmp_path):
    first = run_maker(tmp_path, "align", ("image",), ())
    second = run_maker(tmp_path, "align", ("audio",), ("image",), parent=first)
    path = second / "results.json"
    results = json.loads(path.read_text())
    for score in results["scores"]:
        score["n"] = 40
    results["text_loss"] = {"value": 0.2, "tokens": 90}
    path.write_text(json.dumps(results))
    html = write_run_report(second).read_text()
    assert "Not all phases were measured on the same items" in html
    assert "plain-text loss" not in html
    assert "loss on plain text" not in html


def test_the_ledger_spans_the_run_and_its_parents(chain):
    html = write_run_report(chain[1]).read_text()
    assert 'class="own" style="--fill:0.900">96.0</td>' in html
    assert "<th>align audio + imu</th>" in html
    assert "\u22120.8" in html


def test_a_parent_is_found_beside_a_run_that_was_moved(chain, tmp_path):
    for run in chain:
        shutil.copytree(run, tmp_path / "moved" / run.name)
    manifest = json.loads((chain[1] / "manifest.json").read_text())
    manifest["parent"]["path"] = f"../../elsewhere/{chain[0].name}"
    moved = tmp_path / "moved" / chain[1].name
    (moved / "manifest.json").write_text(json.dumps(manifest))
    assert "<h2>The forgetting ledger</h2>" in write_run_report(moved).read_text()


def test_a_parent_that_is_gone_leaves_its_name(chain):
    shutil.rmtree(chain[0])
    html = write_run_report(chain[1]).read_text()
    assert f"{chain[0].name}</td><td>(not found here)" in html
    assert "<h2>The forgetting ledger</h2>" not in html


def test_a_run_without_results_and_metrics_still_has_a_page(run_maker, tmp_path):
    run = run_maker(tmp_path, "align", ("image",), (), status="failed", reason="loss is not finite at step 7", parts=[])
    (run / "results.json").unlink()
    (run / "metrics.csv").unlink()
    html = check_page(write_run_report(run))
    assert "This run is <strong>failed</strong>: loss is not finite at step 7." in html
    assert "<h2>Scores</h2>" not in html


def test_broken_proofs_are_named_first(run_maker, tmp_path):
    parts = [
        {"name": "encoders.clip", "parameters": 10, "trains": False, "gradient": None, "unchanged": False},
        {"name": "projectors.upm.experts.2", "parameters": 10, "trains": True, "gradient": "none", "unchanged": None},
    ]
    html = write_run_report(run_maker(tmp_path, "align", ("image",), (), parts=parts)).read_text()
    assert "Frozen but CHANGED: encoders.clip." in html
    assert "Trained without a usable gradient: projectors.upm.experts.2." in html
    assert "no gradient: never used" in html


def test_hostile_text_stays_text(run_maker, tmp_path):
    run = run_maker(tmp_path, "align", ("image",), ())
    results = read_results(run)
    evil = ShownSample("<b>image", "test", '"><script>', {}, "<script>alert(1)</script>", "<img src=x>", "<i>q</i>")
    (run / "results.json").write_bytes(results_bytes(type(results)("a", 1, samples=(evil,))))
    html = check_page(write_run_report(run))
    assert html.count("<script>") == 1
    assert "&lt;truncated&gt; JPEG" in html
    assert "<img src=x>" not in html


def test_samples_are_marked_right_or_wrong(run_maker, tmp_path):
    run = run_maker(tmp_path, "instruct", (), ("image", "audio"))
    html = write_run_report(run).read_text()
    assert html.count("✓ right") == 2
    assert html.count("✗ wrong") == 2
    assert "one small red <mark>ball</mark> at the left" in html
    assert "what is its shape?" in html


def test_what_is_right_in_other_words_is_not_marked(run_maker, tmp_path):
    run = run_maker(tmp_path, "align", ("image",), ())
    sample = ShownSample("image", "test", "1", {}, "a red cube", "there is a red cube", right=True)
    (run / "results.json").write_bytes(results_bytes(type(read_results(run))("a", 1, samples=(sample,))))
    html = write_run_report(run).read_text()
    assert "✓ right, in other words" in html
    assert "<mark>" not in html


def test_words_are_marked_by_what_the_reference_lacks():
    assert marked("A red, cube.", "a red cube") == "A red, cube."
    assert marked("red red cube", "red cube") in ("<mark>red</mark> red cube", "red <mark>red</mark> cube")
    assert marked("", "a") == ""


def test_a_folder_without_a_run_is_an_error(tmp_path):
    with pytest.raises(ModalignError, match="holds no run"):
        write_run_report(tmp_path)


def test_a_report_is_written_without_torch():
    code = "import sys, modalign.evaluation.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
