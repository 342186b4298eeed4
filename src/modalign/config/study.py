"""A study as its file declares it: arms that differ in a few settings, each run with every seed, against a baseline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BeforeValidator, Field, PositiveFloat, ValidationError, model_validator

from modalign.config.schema import Strict
from modalign.errors import ModalignError, unknown_name

FILE = "study.yaml"
Overrides = tuple[str, ...]


class Arm(Strict):
    """What one arm sets over the study's base; with `parts` it is several commands, whose scores are taken together."""

    settings: Overrides = ()
    parts: tuple[Overrides, ...] = ((),)

    @model_validator(mode="before")
    @classmethod
    def _a_list_is_its_settings(cls, given: Any) -> Any:
        return {"settings": given} if isinstance(given, (list, tuple)) else given or {}


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
        return (
            dict(zip(("task", "split", "metric"), given.split("/"), strict=True)) if isinstance(given, str) else given
        )


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
        drawn = [arm for line in self.curves.lines.values() for arm in line.points.values()] if self.curves else []
        for name in (self.baseline, *self.quick, *drawn):
            if name not in self.arms:
                raise ValueError(f"'{name}' is no arm: there are {', '.join(self.arms)}")
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
        return Study.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ModalignError(f"{folder} holds no study: there is no {FILE} in it (docs/run-an-ablation.md)") from None
    except yaml.YAMLError as error:
        raise ModalignError(f"{file} is not valid YAML: {str(error).splitlines()[0]}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ModalignError(f"{file}: {where}: {first['msg'].removeprefix('Value error, ')}") from None


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
