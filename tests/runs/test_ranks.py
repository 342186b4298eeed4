"""What one process does by itself; what several do together is tested with them (stages/parallel)."""

import pytest
import torch

from modalign.errors import ModalignError
from modalign.runs.launch import Launch
from modalign.runs.ranks import ALONE, joined


def test_one_process_does_everything_by_itself():
    assert ALONE.first
    assert ALONE.alone
    assert ALONE.gather("a") == ["a"]
    assert ALONE.from_first(3) == ALONE.of_first(lambda: 3) == ALONE.first_then_all(lambda: 3) == 3
    assert ALONE.maximum([1, 5]) == [1, 5]
    tensor = torch.ones(2)
    assert ALONE.add(tensor) is tensor
    assert ALONE.rows(tensor) is tensor


def test_its_errors_are_its_own():
    def fails():
        raise ModalignError("no")

    for do in (ALONE.together, ALONE.of_first, ALONE.first_then_all):
        with pytest.raises(ModalignError, match="no") as told, ALONE.telling():
            do(fails)
        assert not told.value.only_here


def test_a_single_process_joins_nothing_unless_a_group_is_asked_for():
    with joined(Launch()) as ranks:
        assert ranks.group is None
        assert not torch.distributed.is_initialized()
    with joined(Launch(), grouped=True) as ranks:
        assert torch.distributed.get_world_size() == 1
        assert ranks.alone
    assert not torch.distributed.is_initialized()
