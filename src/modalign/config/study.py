"""A study as its file declares it: arms that differ in a few settings, each run with every seed, against a baseline."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, Field, PositiveFloat, ValidationError, model_validator

from modalign.config.schema import Strict
from modalign.errors import ModalignError, unknown_name

FILE = "study.yaml"
Overrides = tuple[str, ...]
SPLITS = ("val", "test", "test_unseen")
METRICS = ("attribute_accuracy", "exact_match", "cider", "bleu4", "rougeL")
# By task, the metric that tells of each item how much of it was right, by which arms are compared.
BY_ITEM = {"caption": "attribute_accuracy", "answer": "exact_match", "pair": "exact_match"}
_WORDS = {
    "tuple_type": "should be a list, as in [a, b]",
    "dict_type": "should be a mapping",
    "model_type": "should be a mapping",
}


class Arm(Strict):
    """What one arm sets over the study's base; with `parts` it is several commands, whose scores are taken together."""

    settings: Overrides = ()
    parts: tuple[Overrides, ...] = ((),)

    @model_validator(mode="before")
    @classmethod
    def _a_list_is_its_settings(cls, given: Any) -> Any:
        if given is None or isinstance(given, dict):
            return given or {}
        if not isinstance(given, (list, tuple)):
            raise ValueError(f"an arm is a list of settings, as in [{given}], or a mapping of settings and parts")
        return {"settings": given}


class Curve(Strict):
    """One line of a picture: arms by where they stand on the axis."""

    points: dict[PositiveFloat, str]


class Curves(Strict):
    """A picture of scores over a number that arms differ by; `modality` is the one whose score is drawn."""

    axis: str
    modality: str
    lines: dict[str, Curve]


class ScoreName(Strict):
    """Which of a run's scores a study compares."""

    task: str = "caption"
    split: str = "test"
    metric: str = "attribute_accuracy"

    @model_validator(mode="before")
    @classmethod
    def _words_by_slashes(cls, given: Any) -> Any:
        if not isinstance(given, str):
            return given
        words = given.split("/")
        if len(words) != 3:
            raise ValueError(f"'{given}' is no score: write task/split/metric, as in caption/test/attribute_accuracy")
        return dict(zip(("task", "split", "metric"), words, strict=True))

    @model_validator(mode="after")
    def _is_compared_by_item(self) -> ScoreName:
        for kind, known in (("task", tuple(BY_ITEM)), ("split", SPLITS), ("metric", METRICS)):
            _require(kind, getattr(self, kind), known, str(self))
        if self.metric != BY_ITEM[self.task]:
            raise ValueError(
                f"{self}: arms are compared item by item, which {self.metric} does not tell of a {self.task}: write "
                f"{self.task}/{self.split}/{BY_ITEM[self.task]}"
            )
        return self

    def __str__(self) -> str:
        return f"{self.task}/{self.split}/{self.metric}"


def _require(kind: str, name: str, known: Collection[str], where: str) -> None:
    """A ValueError, which pydantic gives its place, for a name that is not known."""
    if name not in known:
        raise ValueError(str(unknown_name(kind, name, known, where)))


def _as_tuple(given: Any) -> Any:
    return (given,) if isinstance(given, str) else given


class Study(Strict):
    """One experiments/<id>/study.yaml. `base` are the settings of all arms; `quick` names the arms of the quick set.

    `scores` are the ones compared, as task/split/metric; `modalities` restricts them to some (all where empty).
    """

    title: str
    base: Overrides
    baseline: str
    arms: Annotated[dict[str, Arm], Field(min_length=1)]
    quick: tuple[str, ...] = ()
    scores: Annotated[tuple[ScoreName, ...], BeforeValidator(_as_tuple)] = (ScoreName(),)
    modalities: tuple[str, ...] = ()
    curves: Curves | None = None

    @model_validator(mode="after")
    def _names_its_arms(self) -> Study:
        named = [("baseline", self.baseline), *(("quick", name) for name in self.quick)]
        for label, line in self.curves.lines.items() if self.curves else ():
            named += [(f"curves.lines.{label}", name) for name in line.points.values()]
        for where, name in named:
            _require("arm", name, self.arms, where)
        settings = [*self.base, *(word for arm in self.arms.values() for part in arm.parts for word in part)]
        settings += [word for arm in self.arms.values() for word in arm.settings]
        if any(word.startswith("seed=") for word in settings):
            raise ValueError("'seed' is no setting of an arm: all arms have the same seeds (--seeds)")
        return self


@dataclass(frozen=True, slots=True)
class Command:
    """One training command of a study: an arm's part with a seed, as overrides of train.py."""

    study: str
    arm: str
    part: int
    seed: int
    overrides: Overrides

    @property
    def without_seed(self) -> Overrides:
        """The overrides that commands of other seeds share."""
        return tuple(word for word in self.overrides if word != f"seed={self.seed}")

    def __str__(self) -> str:
        return f"{self.study}, arm {self.arm}, seed {self.seed}"


def load_study(folder: Path) -> Study:
    """The study in `folder`; ModalignError names the file and the key that is wrong."""
    file = folder / FILE
    try:
        with file.open(encoding="utf-8") as stream:
            given = yaml.load(stream, _EachKeyOnce)
        return Study.model_validate(given)
    except FileNotFoundError:
        raise ModalignError(f"{folder} holds no study: there is no {FILE} in it (docs/run-an-ablation.md)") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{file} line {mark.line + 1}" if mark else str(file)
        raise ModalignError(f"{where} is not valid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise ModalignError(f"{file} is not valid YAML: {str(error).splitlines()[0]}") from None
    except ValidationError as error:
        raise _told(error, file) from None


class _EachKeyOnce(yaml.SafeLoader):
    """YAML in which a key that is there twice is an error: YAML itself keeps the last without a word."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in lines:
                raise ModalignError(
                    f"{key.start_mark.name} line {line}: the key '{key.value}' is already on line {lines[key.value]}: "
                    f"give one of the two another name, or delete it"
                )
            lines[key.value] = line
        return node


def _told(error: ValidationError, file: Path) -> ModalignError:
    """The first error; a key that is not known goes first, since what it stands for is then missing, too."""
    errors = error.errors()
    first = next((each for each in errors if each["type"] == "extra_forbidden"), errors[0])
    place = [str(part) for part in first["loc"] if part != "[key]"]
    if first["type"] == "extra_forbidden":
        room = ".".join(place[:-1])
        return unknown_name("key", place[-1], _keys_at(place[:-1]), f"{file}, {room}" if room else str(file))
    message = first["msg"].removeprefix("Value error, ").replace("Input should be", "should be")
    message = _WORDS.get(first["type"], message[0].lower() + message[1:])
    given = "" if first["type"] in ("missing", "value_error") else f", got {first['input']!r}"
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return ModalignError(": ".join([str(file), *([".".join(place)] if place else []), f"{message}{given}{more}"]))


def _keys_at(place: Sequence[str]) -> list[str]:
    """The keys that are known at a place; parts of it that are names or numbers lead into what they are names of."""
    model: type[BaseModel] = Study
    for part in place:
        if part in model.model_fields:
            model = _model_in(model.model_fields[part].annotation) or model
    return list(model.model_fields)


def _model_in(kind: Any) -> type[BaseModel] | None:
    """The first group of keys within a type."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind
    return next((found for inner in get_args(kind) if (found := _model_in(inner)) is not None), None)


def check_modalities(study: Study, known: Collection[str], where: str) -> None:
    """ModalignError where the study `where` names a modality that is not among the `known` ones of its settings.

    The scores of a pair have both names, joined by a plus; the label of a curve may go on after the name.
    """
    drawn = [study.curves.modality.partition(" ")[0]] if study.curves else []
    for label in (*study.modalities, *drawn):
        for name in label.split("+"):
            if name not in known:
                raise unknown_name("modality", name, known, where)


def find_study(name: str, root: Path) -> Path:
    """The folder of a study by its name under `root`, or by its own path."""
    for folder in (root / name, Path(name)):
        if (folder / FILE).is_file():
            return folder
    raise unknown_name("study", name, studies_of(root), str(root))


def studies_of(root: Path) -> list[str]:
    """Names of the studies under `root`."""
    return sorted(path.parent.name for path in root.glob(f"*/{FILE}"))


def commands_of(name: str, study: Study, arms: Sequence[str], seeds: Sequence[int], extra: Overrides) -> list[Command]:
    """Every command of a study, seed by seed, so that a study that is stopped has whole comparisons."""

    def each() -> Iterator[Command]:
        for seed in seeds:
            for arm in arms:
                if arm not in study.arms:
                    raise unknown_name("arm", arm, study.arms, f"the study {name}")
                for number, part in enumerate(study.arms[arm].parts):
                    own = (*study.base, *study.arms[arm].settings, *part, f"seed={seed}", *extra)
                    yield Command(name, arm, number, seed, own)

    return list(each())
