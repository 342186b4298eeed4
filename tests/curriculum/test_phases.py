"""Which phases a curriculum has, and which of them a command asks for."""

import pytest

from modalign.curriculum.phases import plan_phases, select
from modalign.errors import ModalignError

# The groups of the paper.
GROUPS = (("image",), ("video", "audio", "point"), ("depth", "normal", "imu", "fmri"))
EIGHT = tuple(name for group in GROUPS for name in group)


@pytest.fixture
def phases():
    return plan_phases(GROUPS)


def test_each_group_is_aligned_after_the_earlier_ones_and_then_all_are_instructed(phases):
    assert [phase.stage for phase in phases] == ["align", "align", "align", "instruct"]
    assert [phase.new for phase in phases] == [*GROUPS, ()]
    assert [phase.parent for phase in phases] == [None, 0, 1, 2]
    assert phases[2].seen == ("image", "video", "audio", "point")
    assert phases[3].modalities == EIGHT


def test_names_are_deterministic_and_differ():
    names = [phase.name for phase in plan_phases(GROUPS)]
    assert names == [phase.name for phase in plan_phases(GROUPS)]
    assert names[:2] == ["align-image", "align-video+audio+point"]
    assert len(set(names)) == len(names)


def test_further_joint_stages_follow_one_another():
    phases = plan_phases(GROUPS, ("align", "instruct", "prefer"))
    assert phases[-1].stage == "prefer"
    assert phases[-1].parent == len(phases) - 2
    selection = select(phases, "prefer", "audio")
    assert [phase.name for phase in selection.phases[1:]] == [
        "align-video+audio+point",
        "instruct-audio",
        "prefer-audio",
    ]
    assert [phase.parent for phase in selection.phases] == [None, 0, 1, 2]
    assert selection.num_ancestors == 3


def test_without_a_stage_the_whole_curriculum_runs(phases):
    assert select(phases).wanted == phases
    assert select(phases).ancestors == ()


def test_one_modality_is_aligned_without_its_siblings_on_what_came_before_its_phase(phases):
    selection = select(phases, "align", "audio")
    (wanted,) = selection.wanted
    assert wanted.new == ("audio",)
    assert wanted.seen == ("image",)
    assert selection.phases[wanted.parent].new == ("image",)
    assert selection.ancestors == phases[:1]


def test_a_list_is_aligned_jointly_before_the_earliest_phase_that_holds_any_of_it(phases):
    selection = select(phases, "align", ["imu", "point"])
    (wanted,) = selection.wanted
    assert wanted.new == ("point", "imu")
    assert wanted.seen == ("image",)
    assert selection.ancestors == phases[:1]


def test_the_order_and_repeats_on_the_command_line_make_no_other_phase(phases):
    assert select(phases, "align", ["imu", "point", "imu"]) == select(phases, "align", ["point", "imu"])


def test_the_first_modality_has_no_parent(phases):
    selection = select(phases, "align", "image")
    assert selection.wanted == phases[:1]
    assert selection.ancestors == ()


def test_naming_a_whole_group_is_the_curriculum_s_own_phase(phases):
    assert select(phases, "align", ["video", "audio", "point"]).wanted == (phases[1],)


def test_a_stage_alone_runs_all_its_phases(phases):
    assert select(phases, "align").wanted == phases[:3]
    selection = select(phases, "instruct")
    assert selection.wanted == phases[3:]
    assert selection.ancestors == phases[:3]


def test_instruct_is_narrowed_and_follows_the_phase_that_holds_the_latest(phases):
    selection = select(phases, "instruct", ["audio", "image"])
    (wanted,) = selection.wanted
    assert wanted.new == ()
    assert wanted.seen == ("image", "audio")
    assert selection.ancestors == phases[:2]
    assert selection.phases[wanted.parent] == phases[1]


@pytest.mark.parametrize("stage", ["align", "instruct", None])
@pytest.mark.parametrize("modality", [None, "image", "fmri", ["depth", "video"]])
def test_parents_always_come_first_and_hold_everything_seen(phases, stage, modality):
    if stage is None and modality is not None:
        return
    selection = select(phases, stage, modality)
    for index, phase in enumerate(selection.phases):
        if phase.parent is None:
            assert phase.seen == ()
        else:
            assert phase.parent < index
            assert set(phase.seen) <= set(selection.phases[phase.parent].modalities)


@pytest.mark.parametrize(
    ("stage", "modality", "message"),
    [
        (None, "audio", "modality=audio without a stage: .*`stage=align modality=audio`"),
        ("alignn", None, "unknown stage 'alignn' in the curriculum: did you mean 'align'"),
        ("align", "adio", "unknown modality 'adio' in the curriculum: did you mean 'audio'"),
        ("instruct", ["image", "smell"], "unknown modality 'smell'"),
        ("align", [], "names nothing"),
    ],
)
def test_a_wrong_request_is_told_in_one_line(phases, stage, modality, message):
    with pytest.raises(ModalignError, match=message) as caught:
        select(phases, stage, modality)
    assert "\n" not in str(caught.value)


def test_a_curriculum_needs_groups_and_stages():
    with pytest.raises(ModalignError, match="0 groups and 2 stages"):
        plan_phases(())
    with pytest.raises(ModalignError, match="1 groups and 0 stages"):
        plan_phases((("image",),), ())
