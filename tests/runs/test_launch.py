"""Which of how many processes this is, as torchrun, srun, a first process or the settings say."""

import pytest

from modalign.errors import ModalignError
from modalign.runs.launch import Launch, environment_of, meeting_point, read_launch

TORCHRUN = {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4", "MASTER_ADDR": "a"}
SRUN = {
    "SLURM_STEP_ID": "0", "SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NUM_NODES": "2", "SLURM_NTASKS": "9",
}  # fmt: skip


def test_without_a_word_in_the_environment_there_is_one_process():
    assert read_launch({}) == Launch()
    assert read_launch({}, "auto").world_size >= 1
    assert read_launch({"CUDA_VISIBLE_DEVICES": "0,3"}, "auto").world_size == 2
    assert read_launch({"CUDA_VISIBLE_DEVICES": ""}, "auto").world_size == 1


def test_torchrun_numbers_its_processes():
    launch = read_launch(TORCHRUN)
    assert launch == Launch(5, 1, 8, 4, "torchrun")
    assert (launch.num_nodes, launch.node_rank) == (2, 1)
    assert read_launch(TORCHRUN, 4, 2) == read_launch(TORCHRUN, "auto") == launch


def test_a_task_of_srun_is_a_process_and_a_job_script_is_not():
    launch = read_launch(SRUN)
    assert launch == Launch(3, 1, 4, 2, "slurm")
    assert launch.node_rank == 1
    script = {name: value for name, value in SRUN.items() if name != "SLURM_STEP_ID"}
    assert read_launch(script) == Launch()
    assert (
        read_launch(SRUN | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_NUM_NODES": "1", "SLURM_PROCID": "0"}) == Launch()
    )


def test_a_first_process_starts_the_others_of_its_node_which_know_themselves():
    first = read_launch({}, 3)
    assert first == Launch(0, 0, 3, 3, to_start=2)
    assert read_launch(environment_of(first, 2), 3) == Launch(2, 2, 3, 3)
    nodes = {"MASTER_ADDR": "a", "MASTER_PORT": "1", "NODE_RANK": "1"}
    second_node = read_launch(nodes, 2, 2)
    assert second_node == Launch(2, 0, 4, 2, to_start=1)
    assert read_launch(nodes | environment_of(second_node, 1), 2, 2) == Launch(3, 1, 4, 2)


@pytest.mark.parametrize(
    ("environment", "devices", "nodes", "message"),
    [
        (TORCHRUN, 2, 1, r"trainer\.devices=2, but torchrun started 4 processes a node"),
        (TORCHRUN, 1, 3, r"trainer\.num_nodes=3, but torchrun started 2 nodes"),
        (TORCHRUN | {"WORLD_SIZE": "7"}, 1, 1, "torchrun started 7 processes, 4 of them on this node"),
        (SRUN | {"SLURM_STEP_NUM_TASKS": "3"}, 1, 1, "slurm started 3 tasks on 2 nodes"),
        ({}, 1, 2, r"trainer\.num_nodes=2, but nothing says where the nodes meet: .*MASTER_ADDR"),
    ],
)
def test_settings_and_launcher_that_disagree_are_an_error_of_one_line(environment, devices, nodes, message):
    with pytest.raises(ModalignError, match=message):
        read_launch(environment, devices, nodes)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("n1", "n1"), ("n[1-2]", "n1"), ("gpu[007,009-012]", "gpu007"), ("a,b", "a"), ("rack[3-4]-ib,b7", "rack3-ib")],
)
def test_tasks_of_slurm_meet_on_their_first_node(nodes, first):
    launch = read_launch(SRUN)
    found = meeting_point(launch, SRUN | {"SLURM_STEP_NODELIST": nodes, "SLURM_JOB_ID": "41"})
    assert found["MASTER_ADDR"] == first
    again = meeting_point(launch, SRUN | {"SLURM_STEP_NODELIST": nodes, "SLURM_JOB_ID": "42"})
    assert 15000 <= int(found["MASTER_PORT"]) < 30000
    assert again["MASTER_PORT"] != found["MASTER_PORT"]
    assert meeting_point(read_launch(TORCHRUN), TORCHRUN) == {}
