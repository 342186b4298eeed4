"""Where the shipped configuration lies: beside the sources in a checkout, inside the package when installed."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def share(name: str) -> Path:
    """The shipped folder `name` (conf, data_recipes): of the checkout if there is one, else the package's copy."""
    checkout = PACKAGE.parents[1] / name
    return checkout if checkout.is_dir() else PACKAGE / "_share" / name


def conf_folder() -> Path:
    """The folder of Hydra groups."""
    return share("conf")


def recipe_folder() -> Path:
    """The folder of shipped recipes."""
    return share("data_recipes")


def shipped_runs() -> Path:
    """Finished runs that ship with the package (the embedded backbones)."""
    return PACKAGE / "world" / "backbones"
