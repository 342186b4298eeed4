"""The forgetting ledger on a terminal: one row a phase, one column a modality, what was lost in red."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text

from modalign.evaluation.ledger import Ledger

NOTABLE_FALL = 0.02
LONGEST_LABEL = 14


def ledger_table(ledger: Ledger) -> Table:
    """A rich table of scores in percent, each with its change in points against the modality's own phase.

    In brackets: what a modality scored before its own phase began, its parts at their start values.
    """
    table = Table(
        title=f"{ledger.metric.replace('_', ' ')} on {ledger.split}, % (change since its own phase, points)",
        box=box.SIMPLE_HEAD, show_edge=False, padding=0,
    )  # fmt: skip
    table.add_column("after phase", no_wrap=True, min_width=8)
    for modality in ledger.modalities:
        table.add_column(modality, justify="right", overflow="fold", min_width=6)  # no number is cut
    table.add_column("text loss", justify="right", overflow="fold", min_width=6)
    for phase in range(len(ledger.phases)):
        cells = [_cell(ledger, phase, modality) for modality in ledger.modalities]
        table.add_row(_label(ledger, phase), *cells, _text_cell(ledger, phase))
    table.caption = summary_line(ledger)
    return table


def summary_line(ledger: Ledger) -> str:
    """The ledger in one sentence: the worst forgetting, and the transfers that were measured."""
    worst = ledger.worst_forgetting()
    unknown = unmeasured_words(ledger)
    if worst is None:
        return unknown or "one phase so far: nothing can have been forgotten yet"
    if worst.change >= 0:
        line = "no modality ever fell below its own phase's score"
    else:
        line = f"worst forgetting: {worst.modality} {100 * worst.change:+.1f} points after {worst.phase}"
    backward, forward = ledger.backward_transfer(), ledger.forward_transfer()
    if backward is not None:
        line += f"; backward transfer {100 * backward:+.1f} points"
    if forward is not None:
        line += f"; forward transfer {100 * forward:+.1f} points"
    if ledger.other_items:
        line += "; not all phases were measured on the same items, so changes between them are rough"
    return f"{line}; {unknown}" if unknown else line


def unmeasured_words(ledger: Ledger) -> str:
    """Of which phases no results are there, and what that means; nothing where all are."""
    if not ledger.unmeasured:
        return ""
    return f"no results of {', '.join(ledger.unmeasured)}: what was forgotten there is not known (modalign evaluate)"


def _label(ledger: Ledger, phase: int) -> str:
    """What tells a phase's row from the others: the modalities that it added, or its stage where none or many."""
    added = "+".join(m for m in ledger.modalities if ledger.own_phase[m] == phase)
    return added if 0 < len(added) <= LONGEST_LABEL else ledger.phases[phase].partition("-")[0]


def _cell(ledger: Ledger, phase: int, modality: str) -> Text:
    value = ledger.value(phase, modality)
    if value is None:
        soon = ledger.own_phase[modality] == phase + 1 and modality in ledger.beforehand
        return Text(f"({100 * ledger.beforehand[modality].value:.1f})" if soon else "·", style="dim")
    change = ledger.change(phase, modality)
    style = "bold" if ledger.own_phase[modality] == phase else ""
    cell = Text(f"{100 * value:.1f}", style=style)
    if change is not None:
        colour = "red" if change < -NOTABLE_FALL else "dim" if change < 0 else "green"
        cell.append(f" {100 * change:+.1f}", style=colour)
    return cell


def _text_cell(ledger: Ledger, phase: int) -> Text:
    loss = ledger.text_loss[phase]
    if loss is None:
        return Text("·", style="dim")
    change = ledger.text_loss_change(phase)
    if change is None:
        return Text(f"{loss:.4f}")
    return Text(f"{loss:.4f} ").append(f"{100 * change:+.1f} %", style="red" if change > NOTABLE_FALL else "dim")
