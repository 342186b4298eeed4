"""The house rules, held to by looking at the sources: who may import whom, what is never written, how long it is."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "modalign"
SOURCES = sorted(PACKAGE.rglob("*.py"))
ENTRY = ROOT / "train.py"
TREES = {path: ast.parse(path.read_text()) for path in [*SOURCES, ENTRY]}
NODES = {path: list(ast.walk(tree)) for path, tree in TREES.items()}

# Which packages of ours each may import: dependencies point one way.
MAY_IMPORT = {
    "errors": set(),
    "types": {"errors"},
    "targets": {"errors"},
    "models": {"errors", "types"},
    "curriculum": {"errors"},
    "data": {"errors", "targets", "types"},
    "runs": {"errors"},
    "world": {"data", "errors"},
    "evaluation": {"data", "errors", "runs", "types"},
    "config": {"curriculum", "data", "errors", "runs", "targets", "world"},
    "callbacks": {"config", "errors", "evaluation", "runs", "types"},
    "stages": {
        "callbacks",
        "config",
        "curriculum",
        "data",
        "errors",
        "evaluation",
        "models",
        "runs",
        "targets",
        "types",
        "world",
    },
    "bench": {"callbacks", "config", "data", "errors", "models", "runs", "stages", "types"},
    "cli": {
        "bench",
        "config",
        "curriculum",
        "data",
        "errors",
        "evaluation",
        "models",
        "runs",
        "stages",
        "types",
        "world",
    },
}
# Where libraries that shape a whole program may be known, as package or package/file.
MAY_KNOW = {
    "hydra": {"config", "cli", "train"},
    "omegaconf": {"config", "cli", "train"},
    "lightning": {"stages", "callbacks", "bench/loops"},
    "wandb": {
        "callbacks/wandb_dashboard",
        "callbacks/wandb_history",
        "callbacks/wandb_lineage",
        "callbacks/wandb_media",
        "callbacks/wandb_results",
    },
    "transformers": {
        "models/language_model",
        "models/packed_attention",
        "models/pretrained",
        "models/text_tokenizer",
        "bench/hub_trainer",
        "data/sources/derived",
    },
    "wandb_workspaces": {"evaluation/report/wandb_workspace"},
    "huggingface_hub": {"models/hub"},
    "peft": {"models/adapters"},
    "timm": {"models/encoders/timm_tower"},
    "open_clip": {"models/encoders/open_clip_tower"},
    "webdataset": {"data", "bench/loading"},
}
MODALITIES = {path.stem for path in (ROOT / "conf" / "modalities").glob("*/*.yaml")} | {
    "image", "video", "audio", "point", "depth", "normal", "imu", "fmri",
}  # fmt: skip
DRAWERS = {"utils", "util", "misc", "common", "helpers", "helper"}
WITHOUT_TORCH = {
    "config": "*",
    "curriculum": "*",
    "world": "*",
    "data/sources": "*",
    "data": "recipes shards order index manifest reader verify make convert pieces report licences remote "
    "cache benchmark",
    "evaluation": "gate ledger ledger_table scores chain probes/findings",
    "runs": "identity folder manifest files finished metrics checks interrupt slurm record sealed lineage holes timing "
    "redaction",
    "bench": "rows sizes",
    "cli": "bench arguments environment help main parser terminal multirun slurm_script ablate ablate_jobs "
    "ablate_beside",
}


def name_of(path: Path) -> str:
    """`models/aligned` for a module of the package, `train` for the entry point."""
    return "train" if path == ENTRY else str(path.relative_to(PACKAGE).with_suffix("")).removesuffix("/__init__")


def places(path: Path) -> set[str]:
    """The names under which a module may be listed: its own and those of the folders above it."""
    words = name_of(path).split("/")
    return {"/".join(words[:count]) for count in range(1, len(words) + 1)}


def imports(nodes: list[ast.AST]) -> Iterator[str]:
    """Every dotted name that a module imports, wherever in it."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the direction of dependencies"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def functions(nodes: list[ast.AST]) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in nodes if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))


def where(path: Path, node: ast.AST | None = None) -> str:
    line = getattr(node, "lineno", 1)
    return f"{path.relative_to(ROOT)}:{line}"


def tracked() -> list[Path]:
    """Files under version control, or none outside a checkout (an unpacked archive)."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    names = listing.stdout.decode().split("\0") if listing.returncode == 0 else []
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def test_every_package_is_listed_with_what_it_may_import():
    assert {name_of(path).split("/")[0] for path in SOURCES} - {"", "__init__", "."} == set(MAY_IMPORT)


def test_packages_import_only_those_below_them():
    wrong = []
    for path in SOURCES:
        own = name_of(path).split("/")[0]
        for imported in imports(NODES[path]):
            words = [*imported.split("."), own]
            if words[0] == "modalign" and words[1] not in {own, "__version__", *MAY_IMPORT.get(own, set())}:
                wrong.append(f"{where(path)} imports {imported}")
    assert not wrong, "\n".join(wrong)


def test_the_bench_is_imported_by_its_verb_alone():
    users = {name_of(path) for path in SOURCES if any(n.startswith("modalign.bench") for n in imports(NODES[path]))}
    assert {name for name in users if not name.startswith("bench/")} == {"cli/bench"}


def test_no_two_packages_import_each_other():
    pairs = [(a, b) for a, below in MAY_IMPORT.items() for b in below if a in MAY_IMPORT[b]]
    assert not pairs


@pytest.mark.parametrize("library", MAY_KNOW)
def test_a_library_is_known_only_where_it_belongs(library):
    wrong = [
        where(path)
        for path, nodes in NODES.items()
        if any(name.split(".")[0] == library for name in imports(nodes)) and not places(path) & MAY_KNOW[library]
    ]
    assert not wrong, f"{library} is known in {', '.join(wrong)}"


def test_modules_that_answer_fast_import_without_torch():
    names = ["train", "modalign.errors", "modalign.targets"]
    for folder, members in WITHOUT_TORCH.items():
        files = (PACKAGE / folder).rglob("*.py") if members == "*" else [PACKAGE / folder / m for m in members.split()]
        names += [".".join(("modalign", *f.relative_to(PACKAGE).with_suffix("").parts)) for f in files]
    code = (
        "import importlib, sys\n"
        "for heavy in ('torch', 'lightning', 'transformers', 'open_clip'): sys.modules[heavy] = None\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
    )
    result = subprocess.run([sys.executable, "-c", code, *names], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]


def test_every_file_begins_by_saying_what_it_is():
    wrong = []
    for path, tree in TREES.items():
        said = ast.get_docstring(tree)
        if not said or tree.body[0].lineno != 1 or len(said.splitlines()[0].split()) < 3:
            wrong.append(where(path))
    assert not wrong, f"the first line does not say it: {', '.join(wrong)}"


def test_no_file_is_longer_than_300_lines_and_the_entry_point_no_longer_than_80():
    long = [f"{where(path)} has {n}" for path in SOURCES if (n := len(path.read_text().splitlines())) > 300]
    assert not long, "\n".join(long)
    assert len(ENTRY.read_text().splitlines()) <= 80


def test_no_function_is_longer_than_60_lines():
    long = [
        f"{where(path, f)} {f.name} has {f.end_lineno - f.lineno + 1}"
        for path, nodes in NODES.items()
        for f in functions(nodes)
        if f.end_lineno is not None and f.end_lineno - f.lineno + 1 > 60
    ]
    assert not long, "\n".join(long)


def test_public_functions_are_annotated_in_full():
    wrong = []
    for path, nodes in NODES.items():
        for f in functions(nodes):
            if f.name.startswith("_") and not f.name.startswith("__"):
                continue
            a = f.args
            given = [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, [a.vararg, a.kwarg])]
            bare = [g.arg for g in given if g.annotation is None and g.arg not in {"self", "cls"}]
            if bare or (f.returns is None and f.name != "__init__"):
                wrong.append(f"{where(path, f)} {f.name}: {', '.join(bare) or 'what it returns'}")
    assert not wrong, "\n".join(wrong)


def test_public_functions_and_classes_say_what_they_are_for():
    wrong = []
    for path, tree in TREES.items():
        for node in tree.body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                wrong += [] if ast.get_docstring(node) else [f"{where(path, node)} {node.name}"]
    assert not wrong, "\n".join(wrong)


def test_no_except_is_bare():
    wrong = [
        where(path, node)
        for path, nodes in NODES.items()
        for node in nodes
        if isinstance(node, ast.ExceptHandler) and node.type is None
    ]
    assert not wrong, ", ".join(wrong)


def test_nothing_prints_or_stops_in_a_debugger():
    forbidden = {"print", "pprint", "breakpoint"}
    wrong = [
        where(path, node)
        for path, nodes in NODES.items()
        for node in nodes
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in forbidden
    ]
    assert not wrong, ", ".join(wrong)


def compared_constants(nodes: list[ast.AST]) -> Iterator[tuple[ast.AST, str]]:
    """Text that is compared with something: by an operator, in a match, or as the start or end of a string."""
    for node in nodes:
        inside: list[ast.AST] = []
        if isinstance(node, ast.Compare):
            inside = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            inside = [node.value]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            inside = list(node.args) if node.func.attr in {"startswith", "endswith"} else []
        for outer in inside:
            # In `x["audio"] == y` the name is a key, and a key is what a modality's name is.
            keys = {id(c) for s in ast.walk(outer) if isinstance(s, ast.Subscript) for c in ast.walk(s.slice)}
            for child in ast.walk(outer):
                if isinstance(child, ast.Constant) and isinstance(child.value, str) and id(child) not in keys:
                    yield node, child.value


def test_the_name_of_a_modality_is_never_compared():
    wrong = [
        f"{where(path, node)} '{text}'"
        for path, nodes in NODES.items()
        for node, text in compared_constants(nodes)
        if text.lower() in MODALITIES
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "code",
    ['m == "audio"', 'm in {"audio", "imu"}', 'm != ("imu")', 'm.startswith("fmri")', "match m:\n case 'depth': pass"],
)
def test_the_rule_about_names_sees_every_way_of_comparing(code):
    assert any(text in MODALITIES for _, text in compared_constants(list(ast.walk(ast.parse(code)))))
    innocent = ast.parse('x["audio"] == y; y = {"audio": 1}; z(m, "audio")')
    assert not list(compared_constants(list(ast.walk(innocent))))


def test_no_module_is_a_drawer():
    drawers = [where(path) for path in SOURCES if DRAWERS & {path.stem, *path.relative_to(PACKAGE).parts}]
    assert not drawers, ", ".join(drawers)


def test_nothing_is_left_to_be_done_later():
    later = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b|NotImplemented" + "Error")
    pages = [*(ROOT / "conf").rglob("*.yaml"), *(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "Makefile"]
    wrong = [
        f"{where(path)} line {number}"
        for path in [*SOURCES, ENTRY, *pages]
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if later.search(line)
    ]
    assert not wrong, ", ".join(wrong)


def test_nothing_tracked_names_a_machine():
    """No absolute path of somebody's disk, no private address, no package index other than the public one."""
    machine = re.compile(
        r"(?<![\w.}])/(home|root|Users|mnt|scratch|work)/\w"
        r"|\b(10\.\d+|192\.168|172\.(1[6-9]|2\d|3[01]))\.\d+\.\d+\b"
        r"|--(extra-)?index-url(?! https://download\.pytorch\.org)|--trusted-host"
    )
    wrong = []
    for path in tracked():
        if path == Path(__file__).resolve():
            continue
        try:
            lines = path.read_text().splitlines()
        except UnicodeDecodeError:
            continue
        wrong += [f"{where(path)} line {n}: {line[:100]}" for n, line in enumerate(lines, 1) if machine.search(line)]
    assert not wrong, "\n".join(wrong)


def test_nothing_large_or_made_is_tracked():
    kinds = {".pyc", ".tar", ".ckpt", ".pt", ".log"}
    made = [path for path in tracked() if path.suffix in kinds or path.stat().st_size > 12 * 2**20]
    assert not made, ", ".join(where(path) for path in made)


def test_tests_lie_where_their_sources_lie():
    allowed = {"parity", "resume", "docs", "slurm"}  # whole runs rather than one module
    folders = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    wrong = [str(f) for f in folders if f.parts and f.parts[0] not in allowed and not (PACKAGE / f).is_dir()]
    assert not wrong, f"no such folder under src/modalign: {', '.join(wrong)}"


def test_every_test_is_named_as_a_sentence():
    short = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for f in functions(list(ast.walk(ast.parse(path.read_text())))):
            if f.name.startswith("test_") and f.name.count("_") < 3:
                short.append(where(path, f) + " " + f.name)
    assert not short, "\n".join(short)


def test_every_setting_file_begins_with_a_comment_or_says_what_it_is_by_its_keys():
    """A group file of more than ten lines opens with a sentence; a shorter one may speak for itself."""
    silent = [
        where(path)
        for path in (ROOT / "conf").rglob("*.yaml")
        if len(path.read_text().splitlines()) > 10 and not path.read_text().startswith("#")
    ]
    assert not silent, ", ".join(silent)


def test_an_experiment_has_a_page_and_a_page_its_config():
    """Where a page under experiments/ names a config, both are there."""
    for page in (ROOT / "experiments").glob("*/README.md"):
        for name in re.findall(r"experiment=([\w/]+)", page.read_text()):
            assert (ROOT / "conf" / "experiment" / f"{name}.yaml").is_file(), f"{page.parent.name}: experiment={name}"


def test_the_citation_and_the_changelog_are_about_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    version = re.search(r'__version__ = "([^"]+)"', (PACKAGE / "__init__.py").read_text())
    assert version is not None
    assert str(citation.get("version", version[1])) == version[1]
    assert version[1] in (ROOT / "CHANGELOG.md").read_text()
