"""Recipes as a plan sees them: what is missing is noted, not refused."""

from __future__ import annotations

from typing import Any

from modalign.config.recipes import RecipeBook
from modalign.config.schema import Settings
from modalign.config.specs import RunSpec
from modalign.errors import ModalignError

UNKNOWN = "????????"


class PlanningBook(RecipeBook):
    """A recipe book for plans: data that are not there have the declared size, or one sample where none is declared.

    `unmade` holds what stands in the way of each recipe's identity; `unsized` names recipes of unknown size.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.unmade: dict[str, str] = {}
        self.unsized: set[str] = set()

    def num_samples(self, name: str, split: str) -> int:
        """Samples of a split, as known."""
        found = super().num_samples(name, split)
        if not found and split == "train" and not self.is_generated(name):
            self.unsized.add(name)
            return 1
        return found

    def meaning(self, name: str) -> dict[str, Any]:
        """What identifies a recipe's data; without data, its declaration."""
        try:
            return super().meaning(name)
        except ModalignError as error:
            self.unmade[name] = str(error)
            return {"recipe": name}

    def name(self, spec: RunSpec, known: str | None = None) -> str:
        """The run's name (`known`), without its digits where data that decide them are missing, also further up."""
        ancestor: RunSpec | None = spec
        while ancestor is not None:
            if set(ancestor.recipes) & set(self.unmade):
                return f"{spec.name.rpartition('-')[0]}-{UNKNOWN}"
            ancestor = ancestor.parent
        return known or spec.name
