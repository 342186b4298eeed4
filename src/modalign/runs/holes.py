"""Bad samples of a run: counted and named for the manifest, and an error above a stated share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modalign.errors import ModalignError

NUM_EXAMPLES = 20


class Holes:
    """Counts samples that could not be used, each time one is read, by recipe, with the first ones named once each.

    `max_share` (0 to 1) of a recipe's samples may be bad; `grace` samples are read before the share is judged. `once`
    counts a sample when it is read first, for those that are measured again and again.
    """

    def __init__(
        self,
        max_share: float,
        grace: int = 100,
        earlier: Mapping[str, Mapping[str, Any]] | None = None,
        once: bool = False,
    ) -> None:
        if not 0 <= max_share <= 1:
            raise ModalignError(f"data.max_bad_share={max_share}: it must be from 0 to 1")
        self.max_share = max_share
        self.grace = grace
        self._counted: set[tuple[str, str]] | None = set() if once else None
        self._by_recipe: dict[str, dict[str, Any]] = {
            recipe: {"count": entry["count"], "examples": list(entry["examples"])}
            for recipe, entry in (earlier or {}).items()
        }

    def add(self, recipe: str, key: str, reason: str) -> None:
        """Count one bad sample."""
        if self._counted is not None:
            if (recipe, key) in self._counted:
                return
            self._counted.add((recipe, key))
        entry = self._by_recipe.setdefault(recipe, {"count": 0, "examples": []})
        entry["count"] += 1
        if len(entry["examples"]) < NUM_EXAMPLES and all(example["key"] != key for example in entry["examples"]):
            entry["examples"].append({"key": key, "reason": reason})

    def check(self, consumed: Mapping[str, int], ended: bool = False) -> None:
        """An error naming the recipe whose bad samples exceed the share of `consumed` (by recipe, bad included).

        `ended` judges a run that is over, however few samples it read.
        """
        for recipe, entry in self._by_recipe.items():
            read = max(consumed.get(recipe, 0), entry["count"])
            if (ended or read >= self.grace) and entry["count"] > self.max_share * read:
                first = entry["examples"][0]
                raise ModalignError(
                    f"recipe {recipe}: {entry['count']} of {read} reads could not be used, above data.max_bad_share="
                    f"{self.max_share:g}; the first was {first['key']} ({first['reason']}); run "
                    f"`modalign verify {recipe.partition(',')[0]} --decode`, which names all"
                )

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Plain values for the manifest and the checkpoint; `earlier` takes them back."""
        return {
            recipe: {"count": entry["count"], "examples": [dict(example) for example in entry["examples"]]}
            for recipe, entry in self._by_recipe.items()
        }
