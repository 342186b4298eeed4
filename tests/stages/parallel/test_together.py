"""Several processes as one: what each says reaches all, and one of them tells an error that any of them meets."""


def test_values_are_exchanged_and_rows_gathered_with_their_gradients(world):
    results = world(3, "exchange")
    for rank, result in enumerate(results):
        assert result["gathered"] == ["0", "1", "2"]
        assert result["from_first"] == 0
        assert result["maximum"] == [2, 0]
        assert result["sum"] == 3.0
        assert result["rows"] == [0.0, 1.0, 1.0, 2.0, 2.0, 2.0]
        # Each rank asks for (its number + 1) times the sum of all rows: every row gets 1 + 2 + 3.
        assert result["gradient"] == [6.0] * (rank + 1)


def test_an_error_that_one_meets_ends_all_and_is_told_by_one(world):
    results = world(3, "meet_an_error")
    assert [result["together"] for result in results] == [
        ("ToldElsewhere", "rank 1 has no disk"), ("ModalignError", "rank 1 has no disk"),
        ("ToldElsewhere", "rank 1 has no disk"),
    ]  # fmt: skip
    assert [result["nested"][0] for result in results] == ["ToldElsewhere", "ToldElsewhere", "ModalignError"]
    assert [result["first"] for result in results] == [("ModalignError", "locked")] + [("ToldElsewhere", "locked")] * 2
    assert [result["order"] for result in results] == [["made"], ["found"], ["found"]]
