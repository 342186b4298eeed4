"""Every fenced example of the README and of docs/ is typed: what can run runs, the rest is read by what it is for."""

import ast
import importlib.util
import re
import sys
from functools import cache
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
LANGUAGES = {"bash", "python", "yaml", "json", "csv", "text"}
LINK = re.compile(r"\]\(([^)\s]+)\)")


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def test_the_language_of_every_example_is_known(block):
    assert block.language in LANGUAGES


def test_a_page_can_be_typed_from_top_to_bottom(page, reader):
    fences = [line for line in page.read_text().splitlines() if line.lstrip().startswith("```")]
    assert reader.follow(page) == len(fences) / 2


@pytest.mark.slow
def test_the_tutorials_can_be_followed_to_their_results(reader):
    """One reader, one folder, all trained at debug size: the demonstration, own data, a ninth sense, the report."""
    reader.train = load_train().main
    for page in (
        "README.md",
        "docs/align-your-own-data.md",
        "docs/add-a-modality.md",
        "docs/read-the-report.md",
        "docs/use-from-python.md",
        "docs/choose-projector-and-fusion.md",
        "docs/spot-check.md",
    ):
        reader.follow(ROOT / page)
    runs = {path.name.rsplit("-", 1)[0] for path in Path("runs").glob("align-*")}
    assert runs >= {"align-image", "align-audio", "align-imu", "align-radar", "align-sonar"}


def test_every_link_leads_somewhere(page):
    anchors = {slug(line.lstrip("# ")) for line in page.read_text().splitlines() if line.startswith("#")}
    for target in LINK.findall(page.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        place, _, anchor = target.partition("#")
        found = (page.parent / place).resolve() if place else page
        assert found.exists(), target
        if anchor:
            known = anchors if found == page else {slug(h) for h in headings(found)}
            assert anchor in known, target


def test_the_readme_leads_to_every_page():
    readme = (ROOT / "README.md").read_text()
    assert [page.name for page in DOCS.glob("*.md") if f"docs/{page.name}" not in readme] == []


def test_messages_that_a_page_quotes_are_those_of_the_program(page):
    quoted = re.findall(r"^(?:error|warning): (.+)$", page.read_text(), re.MULTILINE)
    strange = [line for line in quoted if not any(template.fullmatch(line) for template in messages())]
    assert strange == []


def test_the_figure_is_drawn_and_its_folders_exist(tmp_path):
    spec = importlib.util.spec_from_file_location("draw_pipeline", DOCS / "images" / "draw_pipeline.py")
    figure = importlib.util.module_from_spec(spec)
    sys.modules["draw_pipeline"] = figure
    spec.loader.exec_module(figure)
    figure.draw(tmp_path / "pipeline.svg")
    assert (tmp_path / "pipeline.svg").read_text().count("<path") > 50
    for box in (*figure.PIPELINE, *figure.ROOMS):
        assert (ROOT / "src" / "modalign" / box.folder).exists(), box


def load_train():
    spec = importlib.util.spec_from_file_location("train", ROOT / "train.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def headings(page):
    return [line.lstrip("# ") for line in page.read_text().splitlines() if line.startswith("#")]


def slug(heading: str) -> str:
    """The anchor that a heading gets."""
    words = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return words.replace(" ", "-")


@cache
def messages() -> tuple[re.Pattern, ...]:
    """What the sources may say, as patterns: every text of some length, with its placeholders open."""
    found = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node] if is_text(node) else []
            texts = [part.value if is_text(part) else None for part in parts]
            if sum(len(text) for text in texts if text) >= 15:
                found.add(".*".join(re.sub(r"%(\\\.\d)?[sdf]", ".*", re.escape(t)) if t else "" for t in texts))
    return tuple(re.compile(text.replace(".*.*", ".*")) for text in found)


def is_text(node) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)
