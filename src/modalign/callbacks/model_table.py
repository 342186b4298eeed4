"""The table of a model's parts, printed before training: what each holds and whether it trains."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table


def model_table(rows: Iterable[Mapping[str, Any]], title: str = "parts") -> Table:
    """A rich table with sums of parts: mappings with `name`, `parameters` and `trains`, as the manifest keeps them."""
    parts = list(rows)
    total = sum(part["parameters"] for part in parts)
    training = sum(part["parameters"] for part in parts if part["trains"])
    table = Table(title=title, title_justify="left", show_footer=True)
    table.add_column("part", footer=f"{len(parts)} parts, {training:,} of {total:,} parameters train")
    table.add_column("parameters", justify="right", footer=f"{total:,}")
    table.add_column("", footer=f"{training / total:.1%}" if total else "")
    for part in parts:
        state, style = ("trains", "bold green") if part["trains"] else ("frozen", "dim")
        row_style = None if part["trains"] else "dim"
        table.add_row(part["name"], f"{part['parameters']:,}", f"[{style}]{state}[/]", style=row_style)
    return table
