"""Slices by number: the same whatever world size, workers and restarts; bad samples leave counted holes."""

import json
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from modalign.data.collate import Collator
from modalign.data.dataset import Source, check_length
from modalign.data.decoders import DepthDecoder, ImageDecoder, StackDecoder, VectorDecoder
from modalign.data.order import Stream
from modalign.data.reader import ShardReader
from modalign.data.shards import ShardWriter
from modalign.data.slices import DataError, SliceDataset
from modalign.data.sources.encode import encode_array
from modalign.data.templates import CaptionTemplate, ChatTemplate
from modalign.errors import BadSample, ModalignError
from modalign.types import MediaSpan

SLICE = 8


class TakingTurns:
    """A schedule that gives slice n to the sources in turn."""

    def __init__(self, *names):
        self.names = names

    def at(self, n):
        return self.names[n % len(self.names)], n // len(self.names)


def encode(text):
    return [ord(letter) for letter in text]


def make_dataset(source, rank=0, world_size=1, slice_size=SLICE):
    sources = source if isinstance(source, dict) else {"greys": source}
    return SliceDataset(sources, TakingTurns(*sources), slice_size, rank, world_size, Collator(encode, 1, 2))


@pytest.fixture
def make_source(tmp_path, make_split, make_recipe_object):
    """A source of pictures with random crops, so that its samples' randomness shows."""

    def make(folder=None, template=None, count=50, seed=0, **changes):
        folder = folder or make_split(tmp_path / "train", count)
        reader = ShardReader(folder)
        decoders = {"image": ImageDecoder(8, scale=(0.3, 1.0)), "depth": DepthDecoder(8, max_m=5)}
        stream = Stream(len(reader), seed, block=8, window=2)
        prompts = {"image": ["Describe it.", "What is it?"]}
        recipe = make_recipe_object(**changes)
        return Source(recipe, reader, decoders, template or CaptionTemplate(), stream, prompts, seed)

    return make


@pytest.fixture
def noisy_source(tmp_path, make_recipe_object):
    """A source whose pictures are noise, so that another crop is another tensor."""
    from modalign.data.sources.encode import encode_png

    rng = np.random.default_rng(0)
    with ShardWriter(tmp_path / "noise", 16) as writer:
        for number in range(40):
            picture = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
            words = json.dumps({"captions": [f"noise {number}", f"snow {number}"]}).encode()
            writer.write(f"n{number}", {"png": encode_png(picture), "json": words})
    reader = ShardReader(tmp_path / "noise")
    decoders = {"image": ImageDecoder(8, scale=(0.3, 1.0))}
    return Source(make_recipe_object(), reader, decoders, CaptionTemplate(), Stream(40, 3, 8, 2), seed=3)


def content(batches):
    """Everything of some batches that training sees, sample by sample."""
    rows = []
    for batch in batches:
        for number, key in enumerate(batch.keys):
            text = [i for s in batch.layout[number] if s.modality is None for i in range(s.start, s.start + s.length)]
            picture = batch.media["image"].values[number].numpy().tobytes()
            rows.append((key, picture, batch.text_ids[text].tolist(), batch.loss_weights[text].tolist()))
    return rows


@pytest.mark.parametrize("world_size", [1, 2, 4, 8])
def test_a_slice_is_the_same_whatever_the_world_size(noisy_source, world_size):
    whole = make_dataset(noisy_source)
    for n in (0, 3, 11):
        parts = [make_dataset(noisy_source, rank, world_size)[n] for rank in range(world_size)]
        assert content(parts) == content([whole[n]])


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("start", [0, 1, 4, 9])
def test_resuming_at_any_slice_is_continuing(noisy_source, workers, start):
    dataset = make_dataset(noisy_source)
    unbroken = [content([dataset[n]]) for n in range(12)]
    loader = DataLoader(dataset, batch_size=None, sampler=range(start, 12), num_workers=workers)
    assert [content([batch]) for batch in loader] == unbroken[start:]


def test_a_pickled_dataset_gives_the_same(noisy_source):
    dataset = make_dataset(noisy_source)
    expected = content([dataset[5]])
    assert content([pickle.loads(pickle.dumps(dataset))[5]]) == expected


@pytest.mark.slow
def test_a_spawned_worker_gives_the_same(noisy_source):
    dataset = make_dataset(noisy_source)
    dataset[5]
    loader = DataLoader(dataset, batch_size=None, sampler=range(2), num_workers=1, multiprocessing_context="spawn")
    assert [content([batch]) for batch in loader] == [content([dataset[n]]) for n in range(2)]


def test_randomness_is_keyed_by_sample_and_position(noisy_source):
    first = {noisy_source.sample(p).key: noisy_source.sample(p) for p in range(40)}
    second = {noisy_source.sample(p).key: noisy_source.sample(p) for p in range(40, 80)}
    assert first.keys() == second.keys()
    differing = sum(not torch.equal(first[key].spans[0].value, second[key].spans[0].value) for key in first)
    assert differing > 35
    assert {sample.meta["epoch"] for sample in second.values()} == {1}


def test_evaluation_draws_nothing(noisy_source):
    one, other = noisy_source.at(7), noisy_source.at(7)
    assert torch.equal(one.spans[0].value, other.spans[0].value)
    assert one.spans[1].text == "noise 7"
    key, media, record = noisy_source.media(7)
    assert (key, record["captions"][0]) == ("n7", "noise 7")
    assert torch.equal(media[0].value, one.spans[0].value)


def test_sources_take_turns_by_the_schedule(make_source, noisy_source):
    dataset = make_dataset({"greys": make_source(), "noise": noisy_source})
    assert [dataset[n].source for n in range(4)] == ["greys", "noise", "greys", "noise"]
    assert dataset[2].metas[0]["position"] == SLICE
    assert set(dataset[0].keys).isdisjoint(dataset[1].keys)


def test_a_slice_that_does_not_divide_names_both_numbers(make_source):
    with pytest.raises(ModalignError, match="a slice of 6 samples does not divide among 4 processes"):
        make_dataset(make_source(), world_size=4, slice_size=6)


def test_bad_samples_leave_counted_holes(tmp_path, make_source, png):
    good = json.dumps({"caption": "fine"}).encode()
    members = {
        "good": {"png": png(9), "json": good},
        "torn": {"png": png(9)[:40], "json": good},
        "nojson": {"png": png(9), "json": b"{not json"},
        "list": {"png": png(9), "json": b"[1]"},
        "nopicture": {"jpg": png(9), "json": good},
        "nowords": {"png": png(9), "json": b"{}"},
    }
    with ShardWriter(tmp_path / "bad") as writer:
        for key, content in members.items():
            writer.write(key, content)
    source = make_source(tmp_path / "bad")
    batch = make_dataset(source, slice_size=6)[0]
    assert batch.keys == ("good",)
    holes = {key: reason for _, key, reason in batch.holes}
    assert holes.keys() == members.keys() - {"good"}
    assert {recipe for recipe, _, _ in batch.holes} == {"greys"}
    assert "does not decode as image: not a readable picture" in holes["torn"]
    assert ".json is not JSON" in holes["nojson"]
    assert "holds a list" in holes["list"]
    assert holes["nopicture"] == "no .png member (it has: json)"
    assert "no caption in the record" in holes["nowords"]


def test_damage_in_a_tar_is_a_hole_of_that_sample(tmp_path, make_source, make_split):
    folder = make_split(tmp_path / "train", 16)
    index = json.loads((folder / "shard-000000.index.json").read_text())
    data = bytearray((folder / "shard-000000.tar").read_bytes())
    data[index["samples"][2][1]["png"][0] + 30] ^= 1
    (folder / "shard-000000.tar").write_bytes(bytes(data))
    batches = [make_dataset(make_source(folder))[n] for n in range(2)]
    assert sum(len(batch.keys) + len(batch.holes) for batch in batches) == 16
    assert [key for batch in batches for _, key, _ in batch.holes] == ["s0002"]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_sample_without_supervised_token_stops_with_its_name_in_one_line(tmp_path, make_split, make_source, workers):
    folder = make_split(tmp_path / "train", 8, words=lambda n: {"caption": "" if n == 5 else "x"})
    loader = DataLoader(make_dataset(make_source(folder)), batch_size=None, sampler=range(1), num_workers=workers)
    with pytest.raises(DataError) as caught:
        list(loader)
    assert str(caught.value) == (
        "sample s0005 of recipe greys has no supervised token: its caption or answer is empty: mend or remove it"
    )


@pytest.mark.parametrize("world_size", [1, 2, 8])
def test_a_question_that_leaves_no_room_for_its_answer_is_a_counted_hole(tmp_path, make_split, make_source, world_size):
    def words(number):
        question = "Why? " * (20 if number in (0, 4) else 1)
        return {"conversation": [{"question": question, "answer": "So."}]}

    source = make_source(make_split(tmp_path / "train", 8, words=words), ChatTemplate())
    collator = Collator(encode, 1, 2, max_text_tokens=60)
    ranks = [
        SliceDataset({"greys": source}, TakingTurns("greys"), SLICE, rank, world_size, collator, stand_in=True)[0]
        for rank in range(world_size)
    ]
    reason = "max_text_tokens=60 cut off all that it is to learn: raise it, or shorten its text"
    cut = {"s0000", "s0004"}
    assert {hole for batch in ranks for hole in batch.holes} == {("greys", key, reason) for key in cut}
    keys = [key for batch in ranks if not batch.idle for key in batch.keys]
    assert keys == [key for p in range(8) if (key := source.sample(p).key) not in cut]  # each stays in its place
    assert sum(batch.idle for batch in ranks) == (2 if world_size == SLICE else 0)


def test_variants_come_from_the_record(tmp_path, make_split, make_source):
    folder = make_split(tmp_path / "train", 8, words=lambda n: {"caption": "x", "subject": f"s{n % 2}"})
    batch = make_dataset(make_source(folder, variant_key="subject"))[0]
    assert set(batch.media["image"].variants) == {"s0", "s1"}
    with pytest.raises(BadSample, match="lacks 'session'"):
        make_source(folder, variant_key="session").sample(0)


def test_several_members_can_be_one_medium(tmp_path, make_recipe_object):
    from modalign.data.sources.encode import encode_png

    rng = np.random.default_rng(0)
    with ShardWriter(tmp_path / "train") as writer:
        photo = encode_png(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
        depth = encode_png(rng.integers(0, 5000, (16, 16), dtype=np.uint16))
        writer.write("k", {"photo.png": photo, "depth.png": depth, "json": b'{"caption": "x"}'})
    reader = ShardReader(tmp_path / "train")
    stacked = StackDecoder([ImageDecoder(8, scale=(0.3, 1)), ImageDecoder(8, scale=(0.3, 1))])
    recipe = make_recipe_object(media={"depth": "photo.png+photo.png"})
    source = Source(recipe, reader, {"depth": stacked}, CaptionTemplate(), Stream(1, 0))
    value = source.sample(0).spans[0].value
    assert value.shape == (2, 3, 8, 8)
    assert torch.equal(value[0], value[1]), "both decoders must draw the same crop"
    recipe = make_recipe_object(media={"depth": "photo.png+depth.png"})
    source = Source(
        recipe, reader, {"depth": StackDecoder([ImageDecoder(8), DepthDecoder(8, 5)])}, CaptionTemplate(), Stream(1, 0)
    )
    assert isinstance(source.sample(0).spans[0], MediaSpan)


def test_a_vector_of_another_length_than_its_variant_is_a_bad_sample(tmp_path, make_recipe_object):
    with ShardWriter(tmp_path / "train") as writer:
        for key, length, subject in (("a", 4, "one"), ("b", 6, "two"), ("c", 6, "one"), ("d", 3, "two")):
            record = json.dumps({"caption": "x", "subject": subject}).encode()
            writer.write(key, {"npy": encode_array(np.zeros(length, np.float32), "npy", None, None), "json": record})
    recipe = make_recipe_object(media={"fmri": "npy"}, variant_key="subject")
    lengths = {"fmri": {"one": 4, "two": 6}}
    source = Source(
        recipe, ShardReader(tmp_path / "train"), {"fmri": VectorDecoder()}, CaptionTemplate(), Stream(4, 0),
        lengths=lengths,
    )  # fmt: skip
    assert [len(source.at(index).spans[0].value) for index in (0, 1)] == [4, 6]
    with pytest.raises(BadSample, match=r"c: .npy does not decode as fmri: 6 values where .* variant 'one' takes 4"):
        source.at(2)
    with pytest.raises(BadSample, match=r"d: .* 3 values where the tokenizer's variant 'two' takes 6"):
        source.media(3)


@pytest.mark.parametrize("lengths", [{"default": 4}, {"only": 4}, {"default": 4, "wide": 9}])
def test_a_vector_without_a_variant_is_the_default_or_the_only_one(lengths):
    check_length(lengths, torch.zeros(4), None)
    with pytest.raises(ValueError, match="5 values where"):
        check_length(lengths, torch.zeros(5), None)
    check_length(lengths, torch.zeros(5, 2), None)  # no vector
    check_length({}, torch.zeros(5), None)


def test_a_source_is_checked_when_it_is_built(make_source, tmp_path, make_split):
    folder = make_split(tmp_path / "train")
    with pytest.raises(ModalignError, match="unknown modality 'imgae' in recipe greys: did you mean 'image'"):
        make_source(folder, media={"imgae": "png"})
    with pytest.raises(ModalignError, match="no caption prompts are declared for 'depth'"):
        make_source(folder, media={"depth": "png"}, template=ChatTemplate())
    make_source(folder, media={"depth": "png"}, template=ChatTemplate(), task="conversation")
    with pytest.raises(ModalignError, match="unknown source 'nowhere'"):
        SliceDataset({"greys": make_source(folder)}, TakingTurns("nowhere"), 4, 0, 1, Collator(encode, 1, 2))[0]


def test_a_recipe_without_a_usable_sample_is_told_with_what_names_them(tmp_path, make_source, make_split):
    source = {"greys": make_source(make_split(tmp_path / "some", 8), media={"depth": "png"})}
    idle = SliceDataset(source, TakingTurns("greys"), 4, 0, 1, Collator(encode, 1, 2), stand_in=True)
    with pytest.raises(DataError, match=r"recipe greys has no usable sample: .*run `modalign verify greys --decode`"):
        idle[0]


def test_members_of_types_that_are_never_decoded_are_never_read(tmp_path, make_source, png):
    """A .pyd member, which webdataset's own decoder would unpickle, lies beside the others and is left alone."""
    trap = b"cos\nsystem\n(S'touch " + str(tmp_path / "ran").encode() + b"'\ntR."
    with ShardWriter(tmp_path / "trap") as writer:
        writer.write("k", {"png": png(1), "json": b'{"caption": "x"}', "pyd": trap, "pkl": trap})
    assert make_source(tmp_path / "trap").sample(0).key == "k"
    assert not (tmp_path / "ran").exists()
    with pytest.raises(ModalignError, match=r"type .pyd are refused"):
        make_source(tmp_path / "trap", media={"image": "pyd"})
