"""The ledger: a hand-computed curriculum of three phases."""

from dataclasses import replace

import pytest
from rich.console import Console

from modalign.evaluation.ledger import build_ledger
from modalign.evaluation.ledger_table import ledger_table, summary_line
from modalign.evaluation.scores import Results, Score, TextLoss


def results(text_loss=None, split="test", **values):
    scores = [Score(m, "caption", split, "attribute_accuracy", v, v, v, 0.25, 300) for m, v in values.items()]
    return Results("run", 1, tuple(scores), None if text_loss is None else TextLoss(text_loss, 100))


ENTRIES = [
    ("align image", ["image"], results(0.10, image=0.95, audio=0.30)),
    ("align audio", ["audio"], results(0.10, image=0.90, audio=0.80)),
    ("align imu", ["imu"], results(0.10, image=0.93, audio=0.85, imu=0.90)),
    ("instruct all", [], results(0.11, image=0.94, audio=0.70, imu=0.91)),
]


def test_changes_are_against_each_modalitys_own_phase():
    ledger = build_ledger(ENTRIES)
    assert ledger.modalities == ("image", "audio", "imu")
    assert ledger.change(0, "image") is None
    assert ledger.change(1, "image") == pytest.approx(-0.05)
    assert ledger.change(3, "audio") == pytest.approx(-0.10)
    assert ledger.change(0, "audio") is None
    assert ledger.final_change("imu") == pytest.approx(0.01)


def test_worst_forgetting_and_transfers():
    ledger = build_ledger(ENTRIES)
    worst = ledger.worst_forgetting()
    assert (worst.modality, worst.phase) == ("audio", "instruct all")
    assert worst.change == pytest.approx(-0.10)
    assert ledger.backward_transfer() == pytest.approx((-0.01 - 0.10 + 0.01) / 3)
    assert ledger.forward_transfer() == pytest.approx(0.30 - 0.25)
    assert ledger.text_loss_change(3) == pytest.approx(0.10)
    assert ledger.text_loss_change(0) is None


def test_a_loss_on_other_texts_is_no_change_and_other_items_are_told():
    """A phase measured with another number of items sees other texts: a frozen model's loss moves with them."""
    fewer = Results("run", 1, ENTRIES[1][2].scores, TextLoss(0.12, 40))
    again = Results("run", 1, ENTRIES[2][2].scores, TextLoss(0.15, 40))
    ledger = build_ledger([ENTRIES[0], (*ENTRIES[1][:2], fewer), (*ENTRIES[2][:2], again), ENTRIES[3]])
    assert ledger.text_loss_change(1) is None
    assert ledger.text_loss_change(2) is None
    assert ledger.text_loss_change(3) == pytest.approx(0.10)
    assert not ledger.other_items
    short = replace(fewer, scores=tuple(replace(score, n=40) for score in fewer.scores))
    uneven = build_ledger([ENTRIES[0], (*ENTRIES[1][:2], short)])
    assert uneven.other_items
    assert "not all phases were measured on the same items" in summary_line(uneven)


def below_the_rule(told):
    lines = told.splitlines()
    return lines[next(place for place, line in enumerate(lines) if line.startswith("──")) + 1 :]


def test_transfer_is_that_of_lopez_paz_and_ranzato_by_hand():
    """R[last, j] - R[j, j] for all but the last phase's; R[j - 1, j] - b[j] for all but the first."""
    r = [[0.90, None, None], [0.85, 0.80, None], [0.88, 0.70, 0.60]]
    before = [None, 0.35, 0.20]
    names, entries = ("image", "audio", "imu"), []
    for phase, row in enumerate(r):
        found = results(**{m: v for m, v in zip(names, row, strict=True) if v is not None})
        zero = results(**{names[phase]: before[phase]}).scores if before[phase] is not None else ()
        entries.append((f"phase {phase}", [names[phase]], replace(found, before=zero)))
    ledger = build_ledger(entries)
    assert ledger.backward_transfer() == pytest.approx(((0.88 - 0.90) + (0.70 - 0.80)) / 2)
    assert ledger.forward_transfer() == pytest.approx(((0.35 - 0.25) + (0.20 - 0.25)) / 2)
    assert ledger.head_start("image") is None
    assert ledger.as_dict()["beforehand"] == {"audio": 0.35, "imu": 0.20}
    assert "backward transfer -6.0 points; forward transfer +2.5 points" in summary_line(ledger)
    console = Console(width=140, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(ledger_table(ledger))
    rows = below_the_rule(console.export_text())
    assert "(35.0)" in rows[0]
    assert "(20.0)" not in rows[0]


def test_captions_without_attributes_are_followed_by_rouge():
    def rouge(**values):
        scores = [Score(m, "caption", "test", "rougeL", v, v, v, None, 9) for m, v in values.items()]
        return Results("run", 1, tuple(scores))

    ledger = build_ledger([("a", ["image"], rouge(image=0.6)), ("b", ["audio"], rouge(image=0.5, audio=0.4))])
    assert ledger.metric == "rougeL"
    assert ledger.change(1, "image") == pytest.approx(-0.1)
    assert build_ledger(ENTRIES).metric == "attribute_accuracy"


def test_one_phase_has_nothing_to_forget():
    ledger = build_ledger(ENTRIES[:1])
    assert ledger.worst_forgetting() is None
    assert ledger.backward_transfer() is None
    assert "nothing can have been forgotten" in summary_line(ledger)


def test_modalities_of_a_parent_outside_the_list_count_from_their_first_score():
    ledger = build_ledger(ENTRIES[1:])
    assert ledger.own_phase == {"image": 0, "audio": 0, "imu": 1}
    assert ledger.change(1, "image") == pytest.approx(0.03)


def test_results_may_be_plain_dicts_and_other_splits_may_be_asked_for():
    ledger = build_ledger([("a", ["image"], results(split="test_unseen", image=0.5).as_dict())], split="test_unseen")
    assert ledger.value(0, "image") == 0.5
    assert build_ledger([("a", ["image"], results(image=0.5).as_dict())], split="val").value(0, "image") is None


def test_the_table_shows_scores_changes_and_what_was_not_measured():
    console = Console(width=140, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(ledger_table(build_ledger(ENTRIES)))
    text = console.export_text()
    assert "95.0" in text
    assert "70.0 -10.0" in text
    assert "0.1100 +10.0 %" in text
    assert "·" in text
    assert "worst forgetting: audio -10.0 points after instruct all" in text


def test_the_ledger_as_data_holds_the_matrix_and_the_summary():
    data = build_ledger(ENTRIES).as_dict()
    assert data["values"][0] == [0.95, 0.30, None]
    assert data["worst_forgetting"][:2] == ["audio", "instruct all"]
    assert data["text_loss"] == [0.10, 0.10, 0.10, 0.11]


def test_a_row_is_named_by_what_its_phase_added_or_by_its_stage():
    both = results(audio=0.5, image=0.5)
    runs = [
        ("align-audio-1a", ["audio"], results(audio=0.5)),
        ("align-image-2b", ["image"], both),
        ("instruct-audio+image-3c", ["audio", "image"], both),
    ]
    console = Console(width=140, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(ledger_table(build_ledger(runs)))
    rows = [line.split()[0] for line in below_the_rule(console.export_text())]
    assert rows[:3] == ["audio", "image", "instruct"]


def test_no_number_of_eight_senses_is_cut_in_eighty_columns():
    names = ("image", "audio", "video", "point", "depth", "normal", "imu", "fmri")
    entries = []
    for phase, name in enumerate(names):
        seen = names[: phase + 1]
        entries.append((f"align-{name}", [name], results(**{m: 0.9 + 0.01 * phase for m in seen})))
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(ledger_table(build_ledger(entries)))
    told = console.export_text()
    header, last = (" ".join(line.split()) for line in (told.splitlines()[2], told.splitlines()[-3]))
    assert header.startswith("after phase image audio video point depth normal imu fmri"), told
    assert last.startswith("fmri 97.0 97.0 97.0 97.0 97.0 97.0 97.0 97.0"), told
    assert "…" not in told


def test_a_phase_without_results_is_in_the_ledger_and_said_to_be_unknown():
    ledger = build_ledger([("a", ["image"], results(image=0.9)), ("b", ["audio"], None)])
    assert ledger.modalities == ("image", "audio")
    assert ledger.value(1, "image") is None
    told = summary_line(ledger)
    assert told == "no results of b: what was forgotten there is not known (modalign evaluate)"
    later = build_ledger([("a", ["image"], results(image=0.9)), ("b", ["audio"], None),
                          ("c", ["imu"], results(image=0.8, audio=0.5, imu=0.5))])  # fmt: skip
    assert "worst forgetting: image -10.0 points after c" in summary_line(later)
    assert "no results of b" in summary_line(later)


def test_other_items_of_the_same_number_are_told_too():
    def scored(items, value):
        return Results("r", 1, (Score("image", "caption", "test", "attribute_accuracy", value, value, value, 0.2, 9,
                                      items=items),))  # fmt: skip

    assert not build_ledger([("a", ["image"], scored("x", 0.5)), ("b", [], scored("x", 0.4))]).other_items
    assert not build_ledger([("a", ["image"], scored("", 0.5)), ("b", [], scored("x", 0.4))]).other_items
    assert build_ledger([("a", ["image"], scored("x", 0.5)), ("b", [], scored("y", 0.4))]).other_items
