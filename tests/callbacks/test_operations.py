"""What is read from a trace: time by itself, backward or not, by operation and by shapes."""

from modalign.callbacks.operations import ON_GPU, ON_HOST, operations, table


def event(name, begin, length, tid=1, cat="cpu_op", dims=None):
    return {"ph": "X", "cat": cat, "name": name, "pid": 1, "tid": tid, "ts": begin, "dur": length,
            "args": {} if dims is None else {"Input Dims": dims}}  # fmt: skip


EVENTS = [
    {"ph": "M", "name": "process_name"},
    event("linear", 0, 100, dims=[[2, 3], [], [3, 4]]),
    event("mm", 10, 80, dims=[[2, 3], [3, 4]]),
    event("autograd::engine::evaluate_function: MmBackward0", 100, 50),
    event("mm", 110, 30, dims=[[4, 2], [2, 3]]),
    event("mm", 0, 500, tid=2, dims=[[2, 3], [3, 4]]),
    event("gemm", 20, 60, tid=7, cat="kernel"),
]


def test_an_operation_has_the_time_that_it_took_by_itself():
    found = {entry.name: entry for entry in operations(EVENTS, ON_HOST, shapes=False)}
    assert sorted(found) == ["autograd::engine::evaluate_function", "linear", "mm"]
    assert (found["mm"].own_us, found["mm"].backward_us, found["mm"].calls) == (610, 30, 3)
    assert found["linear"].own_us == 20
    assert found["autograd::engine::evaluate_function"].backward_us == 20


def test_shapes_are_told_apart_and_the_gpu_from_the_host():
    found = operations(EVENTS, ON_HOST, shapes=True)
    assert [(e.name, e.shapes, e.own_us) for e in found[:2]] == [("mm", "2x3 3x4", 580), ("mm", "4x2 2x3", 30)]
    assert [(e.name, e.own_us) for e in operations(EVENTS, ON_GPU, shapes=True)] == [("gemm", 60)]
    assert not operations([], ON_HOST, shapes=True)


def test_the_table_adds_up_to_all_that_was_seen():
    told = table(operations(EVENTS, ON_HOST, shapes=True), steps=2, wall_us=1300, rows=1).splitlines()
    assert told[1].split() == ["0.29", "44.6%", "0%", "1.0", "mm", "2x3", "3x4"]
    assert told[2].split() == ["0.04", "5.4%", "1.5", "3", "other", "kinds"]
