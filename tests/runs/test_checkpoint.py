"""Checkpoints that are whole or not there, and what is noticed of damage."""

import errno
import logging
import os
import random
import shutil
import signal
import subprocess
import time
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from modalign.errors import ModalignError
from modalign.runs.checkpoint import (
    checkpoint_digest,
    list_checkpoints,
    load_checkpoint,
    newest_valid,
    prune,
    restore,
    save_checkpoint,
    verify_checkpoint,
)


def tensors(step):
    """Two parts, whose values tell which step they are of."""
    return {
        "tokenizers.audio": {"tokenizers.audio.weight": torch.full((50, 40), float(step))},
        "projectors.upm.experts.0": {
            "projectors.upm.experts.0.w": torch.arange(600.0).reshape(20, 30) * step,
            "projectors.upm.experts.0.half": torch.full((7,), step, dtype=torch.bfloat16),
        },
    }


def state(step):
    return {"step": step, "optimizer": {"state": {0: {"exp_avg": torch.full((9,), float(step))}}, "lr": [1e-3, None]}}


def save(folder, step, **options):
    return save_checkpoint(folder, step, tensors(step), state(step), **options)


def assert_is_step(path, step):
    read = load_checkpoint(path)
    assert read.step == step
    assert read.state["step"] == step
    for part, named in tensors(step).items():
        assert read.tensors[part].keys() == named.keys()
        assert all(torch.equal(read.tensors[part][name], value) for name, value in named.items())
        assert all(read.tensors[part][name].dtype == value.dtype for name, value in named.items())


def flip_bit(file, position, bit=3):
    data = bytearray(file.read_bytes())
    data[position] ^= 1 << bit
    file.write_bytes(bytes(data))


def test_a_checkpoint_reads_back_to_the_bit(tmp_path):
    path = save(tmp_path, 12)
    assert path.name == "step-00000012"
    assert_is_step(path, 12)
    read = load_checkpoint(path)
    assert torch.equal(read.state["optimizer"]["state"][0]["exp_avg"], torch.full((9,), 12.0))
    assert set(read.flat()) == {name for part in tensors(12).values() for name in part}
    assert read.digest == checkpoint_digest(path) == verify_checkpoint(path)


def test_parts_are_read_alone_and_an_unknown_one_is_named(tmp_path):
    path = save(tmp_path, 1)
    read = load_checkpoint(path, parts=["tokenizers.audio"], with_state=False)
    assert set(read.tensors) == {"tokenizers.audio"}
    assert read.state == {}
    with pytest.raises(ModalignError, match=r"unknown part 'tokenizers.adio' .*did you mean 'tokenizers.audio'"):
        load_checkpoint(path, parts=["tokenizers.adio"])


def test_a_large_part_is_cut_into_several_files(tmp_path):
    named = {f"llm.{i}": torch.full((100,), float(i)) for i in range(5)}
    path = save_checkpoint(tmp_path, 1, {"llm": named}, {}, max_file_bytes=900)
    assert len(list(path.glob("llm-*-of-00003.safetensors"))) == 3
    read = load_checkpoint(path).flat()
    assert all(torch.equal(read[name], value) for name, value in named.items())


def test_tied_views_and_parameters_are_saved_as_they_look(tmp_path):
    weight = torch.nn.Parameter(torch.arange(12.0).reshape(3, 4))
    named = {"a": weight, "b": weight, "turned": weight.t(), "row": weight[1]}
    read = load_checkpoint(save_checkpoint(tmp_path, 1, {"part": named}, {})).flat()
    assert all(torch.equal(read[name], value) for name, value in named.items())


def test_the_digest_is_of_the_weights_and_not_of_the_state_or_the_step(tmp_path):
    first = save_checkpoint(tmp_path / "a", 5, tensors(5), {"when": 1})
    again = save_checkpoint(tmp_path / "b", 6, tensors(5), {"when": 2}, final=True)
    other = save_checkpoint(tmp_path / "c", 5, tensors(6), {"when": 1})
    assert checkpoint_digest(first) == checkpoint_digest(again) != checkpoint_digest(other)


@pytest.mark.parametrize("name", ["tokenizers.audio.safetensors", "state.pt", "digests.json"])
def test_any_flipped_bit_is_noticed_and_the_file_named(tmp_path, name):
    path = save(tmp_path, 3)
    size = (path / name).stat().st_size
    for position in random.Random(0).sample(range(size), 20):
        flip_bit(path / name, position)
        for check in (verify_checkpoint, load_checkpoint):
            with pytest.raises(ModalignError, match=rf"step-00000003 is damaged: {name}") as caught:
                check(path)
            assert "\n" not in str(caught.value)
        flip_bit(path / name, position)
    assert_is_step(path, 3)


@pytest.mark.parametrize("name", ["tokenizers.audio.safetensors", "state.pt", "digests.json"])
@pytest.mark.parametrize("left", [0.0, 0.5, 0.999])
def test_a_truncated_file_is_noticed(tmp_path, name, left):
    path = save(tmp_path, 3)
    os.truncate(path / name, int((path / name).stat().st_size * left))
    for check in (verify_checkpoint, load_checkpoint, lambda p: verify_checkpoint(p, quick=True)):
        with pytest.raises(ModalignError, match=f"damaged: {name}"):
            check(path)


@pytest.mark.parametrize("name", ["projectors.upm.experts.0.safetensors", "state.pt", "digests.json"])
def test_a_missing_file_is_noticed(tmp_path, name):
    path = save(tmp_path, 3)
    (path / name).unlink()
    with pytest.raises(ModalignError, match=f"damaged: {name}"):
        verify_checkpoint(path, quick=True)
    with pytest.raises(ModalignError, match=f"damaged: {name}"):
        load_checkpoint(path)


def test_the_newest_whole_one_is_used_and_a_damaged_one_named_in_a_warning(tmp_path, caplog):
    for step in (1, 2, 10):
        save(tmp_path, step, keep=None)
    assert_is_step(newest_valid(tmp_path), 10)
    flip_bit(tmp_path / "step-00000010" / "state.pt", 100)
    with caplog.at_level(logging.WARNING):
        assert_is_step(newest_valid(tmp_path), 2)
    assert "step-00000010 is damaged: state.pt was altered" in caplog.text
    shutil.rmtree(tmp_path / "step-00000001")
    (tmp_path / "step-00000002" / "digests.json").unlink()
    assert newest_valid(tmp_path) is None
    assert newest_valid(tmp_path / "nowhere") is None


def test_the_newest_and_the_final_ones_are_kept(tmp_path):
    save(tmp_path, 1, final=True)
    for step in range(2, 7):
        save(tmp_path, step, keep=2)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000001", "step-00000005", "step-00000006"]


def test_those_at_multiples_of_so_many_steps_are_kept_besides(tmp_path):
    for step in range(1, 9):
        save(tmp_path, step, keep=1, keep_every=3)
    names = ["step-00000003", "step-00000006", "step-00000008"]
    assert [path.name for path in list_checkpoints(tmp_path)] == names
    save(tmp_path, 10, final=True, keep=0, keep_every=3)
    assert [path.name for path in list_checkpoints(tmp_path)] == [*names[:2], "step-00000010"]


def test_pruning_keeps_a_whole_one_before_a_damaged_newer_one(tmp_path):
    for step in (1, 2, 3):
        save(tmp_path, step, keep=None)
    os.truncate(tmp_path / "step-00000003" / "state.pt", 10)
    assert [path.name for path in prune(tmp_path, keep=1)] == ["step-00000001", "step-00000003"]
    assert_is_step(newest_valid(tmp_path), 2)


def test_pruning_deletes_nothing_while_none_is_whole(tmp_path):
    path = save(tmp_path, 1)
    (path / "state.pt").unlink()
    assert prune(tmp_path) == []
    assert path.exists()


def test_a_step_saved_again_never_overwrites_the_earlier_one(tmp_path):
    first = save(tmp_path, 4)
    flip_bit(first / "state.pt", 50)
    second = save_checkpoint(tmp_path, 4, tensors(4), state(4), keep=None)
    assert (first.name, second.name) == ("step-00000004", "step-00000004.2")
    assert newest_valid(tmp_path) == second
    third = save(tmp_path, 4)
    assert third.name == "step-00000004.3"
    assert list_checkpoints(tmp_path) == [third]


def test_a_step_beyond_eight_digits_is_still_the_newest(tmp_path):
    save(tmp_path, 99_999_999, keep=None)
    save(tmp_path, 100_000_000, keep=None)
    assert newest_valid(tmp_path).name == "step-100000000"


def save_forever(folder):
    """A run's child: saves step after step, each from the newest that is whole."""
    newest = newest_valid(folder)
    step = 0 if newest is None else load_checkpoint(newest).step
    while True:
        step += 1
        save(folder, step)


def test_a_save_killed_at_any_moment_leaves_a_complete_step(tmp_path):
    torch.set_num_threads(1)
    generator = random.Random(0)
    last = caught_in_the_act = 0
    for _ in range(30):
        child = os.fork()
        if child == 0:
            save_forever(tmp_path)
        time.sleep(generator.uniform(0.005, 0.08))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        caught_in_the_act += any(tmp_path.glob(".unfinished-*"))
        newest = newest_valid(tmp_path)
        if newest is not None:
            step = int(newest.name.removeprefix("step-"))
            assert step >= last
            assert_is_step(newest, step)
            assert all(verify_checkpoint(path) for path in list_checkpoints(tmp_path))
            last = step
    assert last > 0
    assert caught_in_the_act > 0
    save(tmp_path, last + 1)
    assert not list(tmp_path.glob(".unfinished-*"))


@pytest.mark.parametrize("fails_at", [1, 2, 3, 4])
def test_a_disk_that_fills_during_a_save_is_one_line_and_costs_nothing(tmp_path, monkeypatch, fails_at):
    save(tmp_path, 1)
    real, calls = os.write, []

    def full(descriptor, data):
        calls.append(1)
        if len(calls) == fails_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(ModalignError, match=r"disk full while writing .*step-00000002") as caught:
        save(tmp_path, 2)
    monkeypatch.undo()
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == ["step-00000001"]
    assert_is_step(newest_valid(tmp_path), 1)


def test_a_really_full_disk_keeps_the_earlier_checkpoint(tmp_path):
    mount = shutil.which("mount")
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", "size=200k", "none", tmp_path]).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        save(tmp_path, 1)
        with pytest.raises(ModalignError, match="disk full while writing"):
            save_checkpoint(tmp_path, 2, {"llm": {"llm.w": torch.zeros(100_000)}}, {})
        assert os.listdir(tmp_path) == ["step-00000001"]
        assert_is_step(newest_valid(tmp_path), 1)
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_a_folder_that_cannot_be_written_is_an_error_and_not_silence(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ModalignError, match="cannot write"):
        save(tmp_path / "file" / "checkpoints", 1)


@pytest.mark.parametrize("value", [object(), Path("x"), {1, 2}, torch.device("cpu")])
def test_a_state_that_could_not_be_loaded_again_is_refused_before_it_is_written(tmp_path, value):
    with pytest.raises(TypeError, match=r"state\['loops'\]\[1\] is"):
        save_checkpoint(tmp_path, 1, {}, {"loops": [0, value]})
    assert os.listdir(tmp_path) == []


def test_plain_states_load_without_running_code(tmp_path):
    kept = {
        "ordered": OrderedDict(a=1),
        "none": None,
        "bytes": b"x",
        "nested": [(1, 2.5), {"t": torch.ones(2)}],
        "dtype": torch.bfloat16,
        3: True,
    }
    read = load_checkpoint(save_checkpoint(tmp_path, 1, {}, kept)).state
    assert torch.equal(read["nested"][1].pop("t"), torch.ones(2))
    del kept["nested"][1]["t"]
    assert read == kept


def test_restore_copies_every_tensor_in_place_and_says_which(tmp_path):
    weight = torch.nn.Parameter(torch.zeros(2, 3))
    copied = restore({"a": weight, "b": torch.zeros(1)}, {"a": torch.ones(2, 3), "b": torch.ones(1)}, "there")
    assert copied == ["a", "b"]
    assert torch.equal(weight, torch.ones(2, 3))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"a": torch.ones(2)}, r"there lacks tensor b \(1 there, 2 in the model\)"),
        ({}, "there lacks tensor a and 1 more"),
        ({"a": torch.ones(2), "b": torch.ones(2), "c": torch.ones(2)}, "holds, unknown to the model, tensor c"),
        ({"a": torch.ones(2), "b": torch.ones(3)}, r"tensor b has shape \[3\], the model's has \[2\]"),
    ],
)
def test_restore_refuses_what_does_not_fit_and_changes_nothing(source, message):
    target = {"a": torch.zeros(2), "b": torch.zeros(2)}
    with pytest.raises(ModalignError, match=message):
        restore(target, source, "there")
    assert not any(tensor.any() for tensor in target.values())


def test_weights_without_a_state_are_whole_and_have_the_same_digest(tmp_path):
    full = save_checkpoint(tmp_path / "full", 5, tensors(5), {"step": 5}, final=True)
    bare = save_checkpoint(tmp_path / "bare", 5, tensors(5), None, final=True)
    assert not (bare / "state.pt").exists()
    verify_checkpoint(bare)
    assert checkpoint_digest(bare) == checkpoint_digest(full)
    assert load_checkpoint(bare).state == {}
