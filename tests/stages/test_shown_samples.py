"""The samples that a report shows have files of their own, whatever their keys."""

from types import SimpleNamespace

import torch

from modalign.evaluation.items import Item
from modalign.stages.measure import Measure


def shown(folder, key, label, files):
    item = Item(key, (), ("a cone",), {}, (), files)
    asked = SimpleNamespace(item=item, references=("a cone",), generated="a cone", question=None)
    modalities = {sense: SimpleNamespace(display={}) for sense in files}
    measure = SimpleNamespace(
        settings=SimpleNamespace(modalities=modalities), _right=lambda *_: None, _kinds={label: {}}
    )
    return Measure._show(measure, SimpleNamespace(path=folder), label, "test", asked)


def test_samples_of_several_recipes_with_one_key_do_not_share_a_file(tmp_path):
    alone = shown(tmp_path, "test-000000", "image", {"image": ("jpg", b"cone")})
    pair = shown(tmp_path, "test-000000", "image+audio", {"image": ("jpg", b"cube"), "audio": ("flac", b"knock")})
    again = shown(tmp_path, "test-000000", "image", {"image": ("jpg", b"cone")})
    assert (tmp_path / alone.media["image"]).read_bytes() == b"cone"
    assert (tmp_path / pair.media["image"]).read_bytes() == b"cube"
    assert (tmp_path / pair.media["audio"]).read_bytes() == b"knock"
    assert again.media == alone.media
    assert alone.media["image"].endswith("-image.jpg")


def test_a_key_with_folders_in_it_is_one_file(tmp_path):
    made = shown(tmp_path, "part0/000", "image", {"image": ("left.jpg", b"x")})
    assert (tmp_path / made.media["image"]).read_bytes() == b"x"
    assert [path.parent.name for path in (tmp_path / "samples").iterdir()] == ["samples"]


def test_a_modality_without_items_of_the_first_split_has_no_router_weights():
    model = SimpleNamespace(
        projectors={"upm": SimpleNamespace(num_experts=3)}, paths={"image": SimpleNamespace(projector="upm")},
        parameters=lambda: iter([torch.zeros(1)]),
    )  # fmt: skip
    measure = SimpleNamespace(
        sources=SimpleNamespace(book=SimpleNamespace(alignment_recipes=lambda _: ("mine", "other"))),
        settings=SimpleNamespace(evaluation=SimpleNamespace(splits=("test",))), items=lambda name, split: [],
    )  # fmt: skip
    assert Measure._router(measure, SimpleNamespace(modalities=("image",), stage="align"), model) == ({}, ())


def asked_of(tuned, there, captions=("eeg",)):
    """The recipes whose questions are asked, of `tuned` by what they carry, where `there` have a held-out split."""
    book = SimpleNamespace(
        media=lambda name: dict.fromkeys(tuned[name]), alignment_recipes=lambda _: captions,
        is_there=lambda name, split: name in there, num_samples=lambda name, split: 9 if name in there else 0,
    )  # fmt: skip
    settings = SimpleNamespace(data=SimpleNamespace(instruct=dict.fromkeys(tuned, 1.0)))
    return Measure.asked_of(SimpleNamespace(sources=SimpleNamespace(book=book), settings=settings), "eeg", "test")


def test_every_recipe_of_tuning_that_has_the_split_is_asked_about():
    tuned = {"eeg": ("eeg",), "eeg_side": ("eeg",), "pairs": ("eeg", "image"), "chat": ()}
    assert asked_of(tuned, {"eeg", "eeg_side", "pairs", "chat"}) == ["eeg", "eeg_side"]
    assert asked_of(tuned, {"eeg"}) == ["eeg"]
    assert asked_of({"eeg_qa": ("eeg",)}, {"eeg_qa", "eeg"}) == ["eeg_qa"]
    assert asked_of({"image": ("image",)}, {"eeg"}) == ["eeg"]
