"""Somebody who types what a page shows: the fenced blocks of a page, followed in order, in a folder of its own."""

import ast
import contextlib
import hashlib
import importlib.util
import json
import re
import shlex
import shutil
import sys
from dataclasses import asdict, dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from modalign.cli import ablate, ask, bench, evaluate
from modalign.cli.arguments import TrainArguments
from modalign.cli.help import train_help
from modalign.cli.main import VERBS, help_text, run_verb
from modalign.config import places
from modalign.config.build import build
from modalign.config.compose import compose_settings, options
from modalign.config.recipes import RecipeBook
from modalign.config.schema import ModalitySettings
from modalign.config.specs import Planner
from modalign.config.study import find_study, load_study
from modalign.data.licences import remember_accepted
from modalign.data.manifest import ShardEntry, split_digest
from modalign.data.recipes import load_recipe
from modalign.data.templates import caption_of, turns_of
from modalign.errors import ModalignError
from modalign.evaluation.scores import results_from_dict
from modalign.runs.manifest import Manifest
from modalign.runs.metrics import HEADER
from modalign.stages.assemble import build_tokenizers
from modalign.targets import VARIABLE

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "experiments").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What a page may ask a person to type that says nothing of this project.
ELSEWHERE = {"git", "cd", "source", "sbatch", "scancel"}
# Verbs that are run as they stand; of others the command line alone is read where the run that they name is not there.
DATA_VERBS = {"recipes", "shards", "index", "verify", "show", "plan", "new-modality", "world", "slurm-script"}
TINY = ["debug=tiny", "trainer.progress=false", "trainer.threads=2"]


@dataclass(frozen=True)
class Block:
    """A fenced example: where it stands, its language, its text."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self):
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def file(self) -> str:
        """The file that a YAML block is, named in its first line."""
        first = re.sub(r"^# @package .+\n", "", self.text).partition("\n")[0]
        return first.removeprefix("# ").partition(",")[0].strip() if first.startswith("# ") else ""


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text()
    return [Block(page, text[: m.start()].count("\n") + 1, m[1], m[2]) for m in FENCE.finditer(text)]


def commands_of(block: Block) -> list[str]:
    """The commands of a block, without comments; a backslash joins lines."""
    lines = block.text.replace("\\\n", " ").splitlines()
    return [" ".join(line.split()) for line in lines if line.strip() and not line.lstrip().startswith("#")]


@dataclass
class Reader:
    """Follows pages in `folder`; `trains` runs training commands instead of planning them."""

    folder: Path
    train: object = None
    names: dict = field(default_factory=dict)
    page: str = ""

    def follow(self, page: Path) -> int:
        """Do what a page's blocks say, from top to bottom; how many there were."""
        self.page = page.name
        if "model=onellm_7b" in page.read_text():
            lay_out_shards()
        blocks = list(blocks_of(page))
        for block in blocks:
            try:
                getattr(self, f"do_{block.language}")(block)
            except Exception as error:
                raise AssertionError(f"{block}: {error}") from error
        return len(blocks)

    def do_text(self, block: Block) -> None:
        """Figures and output: what they say of errors has a test of its own."""

    def do_python(self, block: Block) -> None:
        """Where no page before has made the runs that it opens, it is read alone."""
        made = any((self.folder / "runs").glob("instruct-*"))
        if not made and self.page == "use-from-python.md":
            ast.parse(block.text)
            return
        if block.file.endswith(".py"):
            (self.folder / block.file).write_text(block.text)
        exec(compile(block.text, str(block), "exec"), self.names)  # a page's own lines

    def do_csv(self, block: Block) -> None:
        assert tuple(block.text.partition("\n")[0].split(",")) == HEADER

    def do_json(self, block: Block) -> None:
        """A manifest, results, or a sample's words: read as the program reads them."""
        content = json.loads(block.text)
        if "scores" in content:
            results_from_dict(content)
        elif "identity" in content:
            assert not Manifest.from_dict(content).extra.keys() - {"attention_kernels", "caption_loss", "skipped_steps"}
        elif "phases" not in content:
            assert caption_of(content)
            assert turns_of(content)

    def do_yaml(self, block: Block) -> None:
        """A file of its own is written and checked; of one that ships, the block must be a part."""
        path = self.folder / block.file
        content = yaml.safe_load(block.text)
        assert path.suffix == ".yaml", "a YAML block names its file in its first line"
        if path.exists():
            assert_part(content, yaml.safe_load(path.read_text()))
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text)
        if "recipes" in path.parent.name:
            load_recipe(path)
        elif path.name == "study.yaml":
            assert load_study(path.parent).arms
        elif "modalities" in path.parts:
            settings = ModalitySettings.model_validate(content)
            build_tokenizers({path.stem: settings})
            build(settings.decoder, str(path))
        else:
            group = path.parent.name
            assert path.stem in options(group, path.parents[1])

    def do_bash(self, block: Block) -> None:
        for command in commands_of(block):
            try:
                with pytest.MonkeyPatch.context() as environ:
                    self.type(shlex.split(command, comments=True), environ)
            except (ModalignError, SystemExit) as error:
                raise AssertionError(f"`{command}`: {error}") from error

    def type(self, words: list[str], environ: pytest.MonkeyPatch) -> None:
        while re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            name, _, value = words.pop(0).partition("=")
            if name == VARIABLE:
                environ.setenv(name, value)
        words = words[: words.index(">")] if ">" in words else words
        words = [found for word in words for found in (expand(self.folder, word) if "*" in word else [word])]
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:.*##", (ROOT / "Makefile").read_text(), re.MULTILINE), "no such target"
            if words[1] == "demo":
                self.training([])
        elif words[:2] == ["python", "train.py"]:
            self.training(words[2:])
        elif words[0] == "torchrun":
            self.training(words[words.index("train.py") + 1 :])
        elif words[0] == "modalign":
            self.verb(words[1:])
        elif words[0] == "python":
            script = (ROOT / words[1]).read_text()
            assert all(word in script for word in words[2:] if word.startswith("-"))
        else:
            assert words[0] in ELSEWHERE, f"nobody knows what {words[0]} does"

    def training(self, arguments: list[str]) -> None:
        """Planned, or run at debug size."""
        parsed = TrainArguments.parse(arguments)
        if parsed.help:
            assert train_help()
        elif self.train is not None and not parsed.multirun and "fresh=true" not in arguments:
            assert self.train([*arguments, *TINY]) == 0
        else:
            settings, _ = compose_settings([one_value(word) for word in parsed.overrides], parsed.config_dir)
            assert Planner(settings, RecipeBook(settings)).plan()

    def verb(self, words: list[str]) -> None:
        verb, arguments = words[0] if words else "--help", words[1:]
        assert verb in VERBS or verb == "--help"
        if verb == "--help" or "--help" in arguments:
            assert help_text()
        elif verb == "shards" and self.train is not None and (self.folder / "data" / arguments[0]).exists():
            return  # an earlier page has made them
        elif verb == "shards" and any(word.startswith("make.folder=raw/") for word in arguments):
            self.lay_out_raw(arguments)
            assert run_verb(verb, [*arguments, *([] if "--workers" in arguments else ["--workers", "1"])]) == 0
        elif verb == "ablate":
            self.study(arguments)
        elif verb in DATA_VERBS or (verb == "benchmark" and (not arguments or "=" in arguments[0])):
            generated = verb == "world" or any(word.startswith("world_") for word in arguments)
            small = ["--world", "tiny"] if generated and "--world" not in arguments else []
            # What runs would cost is worked out where a page is about that.
            small += ["--runs"] if verb == "plan" and self.page != "plan.md" and "--runs" not in arguments else []
            assert run_verb(verb, [*arguments, *small]) == 0
        elif any((self.folder / word).exists() for word in arguments[:2]) and "--world" not in arguments:
            self.lay_out(arguments)
            assert run_verb(verb, arguments) == 0
        else:
            read_only(verb, arguments)

    def study(self, arguments: list[str]) -> None:
        """The studies that a command names exist, with the arms that it names; what they plan has tests of its own."""
        options = ablate._parser().parse(arguments)
        for name in (word for word in options.words if "=" not in word):
            found = load_study(find_study(name, ROOT / "experiments"))
            assert set(options.arm or ()) <= set(found.arms)

    def lay_out_raw(self, arguments: list[str]) -> None:
        """Put a miniature of a published dataset, and a small model, where a command names their folders."""
        given = dict(word.removeprefix("make.").split("=", 1) for word in arguments if word.startswith("make."))
        if not (self.folder / given["folder"]).exists():
            measured = arguments[0].startswith("eval_")
            load(f"data/sources/test_{'benchmark_layouts' if measured else 'published'}.py").MINIATURES[arguments[0]](
                self.folder / given["folder"], media().Media
            )
        if "model" in given and not (self.folder / given["model"]).exists():
            media().save_tiny_dpt(self.folder / given["model"])

    def lay_out(self, arguments: list[str]) -> None:
        """Put a sample of the sense where a command names a file that only a reader would have."""
        for option, name in pairwise(arguments):
            if option.startswith("--") and Path(name).suffix and not (self.folder / name).exists():
                found = sorted(self.folder.glob(f"runs/*/samples/*-{option[2:]}.*"))
                if found:
                    shutil.copy(found[0], self.folder / name)


def lay_out_shards() -> None:
    """What another page's commands have left: manifests of the paper's datasets, at their declared sizes."""
    for choice in ("model=onellm_7b", "experiment=onellm_released"):
        book = RecipeBook(compose_settings((choice,))[0])
        data = book.settings.data
        for name in {*data.instruct, *(name for names in data.align.values() for name in names)}:
            folder = Path("data") / name / "train"
            folder.mkdir(parents=True, exist_ok=True)
            count = book.get(name).splits.get("train") or 1000
            shard = ShardEntry("shard-000000.tar", count, 1, hashlib.sha256(name.encode()).hexdigest(), 1, "0" * 64)
            content = {"samples": count, "digest": split_digest([shard]), "shards": [asdict(shard)]}
            (folder / "manifest.json").write_text(json.dumps(content))
            remember_accepted(book.get(name), folder.parent)


@cache
def load(name: str):
    """Another test's module, by its path below tests/."""
    spec = importlib.util.spec_from_file_location(Path(name).stem + "_of_docs", ROOT / "tests" / name)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def media():
    """Makers of small media files, and of a small depth model."""
    return load("data/sources/conftest.py")


def read_only(verb: str, arguments: list[str]) -> None:
    """Parse the command line of a verb that needs a finished run."""
    if verb == "ask":
        known = sorted({path.stem for path in (places.conf_folder() / "modalities").glob("*/*.yaml")})
        ask._parser(Manifest("run", "", "instruct", {"new": [], "seen": known})).parse(arguments)
    elif verb == "bench":
        bench._parser().parse(arguments)
    elif verb == "evaluate":
        evaluate._parser().parse(arguments)
    else:
        with contextlib.suppress(SystemExit), pytest.raises(ModalignError) as told:
            run_verb(verb, arguments)
        missing = [word for word in arguments if not Path(word).exists()]
        assert any(Path(word).name in str(told.value) for word in missing), told.value


def expand(folder: Path, word: str) -> list[str]:
    found = sorted(path.relative_to(folder) for path in folder.glob(word))
    return [str(path) for path in found[-1:]] or [word]


def one_value(word: str) -> str:
    """An override of a sweep with the first of its values."""
    override = OverridesParser.create().parse_override(word)
    return f"{override.key_or_group}={next(override.sweep_string_iterator())}" if override.is_sweep_override() else word


def assert_part(part, whole, where="") -> None:
    """Every leaf of `part` stands in `whole`."""
    if not isinstance(part, dict):
        assert part == whole, f"{where}: {part!r} is {whole!r} in the file"
        return
    for key, value in part.items():
        assert key in whole, f"{where}.{key} is not in the file"
        assert_part(value, whole[key], f"{where}.{key}")


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """A reader in a folder with copies of what a checkout holds; nothing is written to the checkout."""
    for name in ("conf", "data_recipes"):
        shutil.copytree(ROOT / name, tmp_path / name)
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    monkeypatch.setattr(places, "share", lambda name: tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield Reader(tmp_path)
    for name in {path.stem for path in tmp_path.glob("*.py")} & sys.modules.keys():
        del sys.modules[name]


def pytest_generate_tests(metafunc):
    """`page`: each page; `block`: each fenced example of any page."""
    if "page" in metafunc.fixturenames:
        metafunc.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
    if "block" in metafunc.fixturenames:
        found = [block for page in PAGES for block in blocks_of(page)]
        metafunc.parametrize("block", found, ids=str)
