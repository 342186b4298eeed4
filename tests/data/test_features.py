"""Kept outputs: whole or not at all, within their bound, told where damaged, and never a slice of both kinds."""

import logging
import multiprocessing
from dataclasses import dataclass

import pytest
import torch

from modalign.data.augment import Augmented, Noise
from modalign.data.collate import Collator
from modalign.data.dataset import Source
from modalign.data.decoders import ImageDecoder
from modalign.data.features import FeatureStore, Shelf, pack, unpack
from modalign.data.order import Stream
from modalign.data.reader import ShardReader
from modalign.data.shards import ShardWriter
from modalign.data.slices import SliceDataset
from modalign.data.templates import CaptionTemplate
from modalign.errors import ModalignError
from modalign.types import DECODED, SOFT_TOKENS

CONTEXT = "00" * 32
ROWS = 4


def output(seed, dtype=torch.float32):
    return torch.randn(3, 5, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_an_output_comes_back_to_the_bit(tmp_path, dtype):
    store, value = FeatureStore(tmp_path, 10**6), output(0, dtype)
    assert store.read("one") is None
    store.write("one", value)
    found = store.read("one")
    assert found.dtype == dtype
    assert torch.equal(found, value)


@pytest.mark.parametrize("place", [0, 40, -1])
def test_a_flipped_bit_is_told_and_the_output_is_gone(tmp_path, caplog, place):
    store = FeatureStore(tmp_path, 10**6)
    store.write("one", output(0))
    content = bytearray((tmp_path / "one").read_bytes())
    content[place] ^= 4
    (tmp_path / "one").write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert store.read("one") is None
    assert "is damaged" in caplog.text
    assert not (tmp_path / "one").exists()


@pytest.mark.parametrize("length", [0, 10, 60])
def test_a_file_cut_short_or_under_another_name_is_no_output(length):
    content = pack("one", output(0))
    with pytest.raises(ValueError, match="another digest"):
        unpack("one", content[:length])
    with pytest.raises(ValueError, match="another digest"):
        unpack("two", content)


def test_the_store_stays_below_its_bound_and_keeps_what_was_read_last(tmp_path):
    size = len(pack("00", output(0)))
    store = FeatureStore(tmp_path, 10 * size)
    for number in range(40):
        store.write(f"{number:02d}", output(number))
        assert store.read("00") is not None
        assert sum(file.stat().st_size for file in tmp_path.iterdir() if file.is_file()) <= 10 * size + 20
    assert store.read("39") is not None
    assert store.read("01") is None


def test_an_output_larger_than_the_store_is_not_kept(tmp_path):
    store = FeatureStore(tmp_path, 10)
    store.write("one", output(0))
    assert store.read("one") is None


def test_a_disk_that_refuses_is_told_once_and_ends_nothing(tmp_path, monkeypatch, caplog):
    store = FeatureStore(tmp_path, 10**6)

    def refuse(name, content):
        raise ModalignError("cannot write: the disk is full")

    monkeypatch.setattr(store.files, "write", refuse)
    with caplog.at_level(logging.WARNING):
        for number in range(3):
            store.write(str(number), output(number))
    assert caplog.text.count("the disk is full") == 1


def fill(folder, first):
    store = FeatureStore(folder, 30_000)
    for number in range(first, first + 120):
        store.write(str(number), output(number))
        found = store.read(str(number % 60))
        assert found is None or torch.equal(found, output(number % 60))


def test_several_processes_share_one_folder(tmp_path):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=fill, args=(tmp_path, first)) for first in (0, 60, 90)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    store = FeatureStore(tmp_path, 30_000)
    names = [file.name for file in tmp_path.iterdir() if file.name.isdigit()]
    assert names
    assert all(torch.equal(store.read(name), output(int(name))) for name in names)
    assert sum((tmp_path / name).stat().st_size for name in names) <= 30_000


@dataclass
class Fixed:
    """A schedule of one source."""

    name: str = "greys"

    def at(self, n):
        return self.name, n


@pytest.fixture
def greys(tmp_path, make_split, make_recipe_object):
    """A source of pictures with a shelf, by its decoder."""

    def make(decoder, count=12):
        folder = make_split(tmp_path / "train", count)
        reader = ShardReader(folder)
        source = Source(make_recipe_object(), reader, {"image": decoder}, CaptionTemplate(), Stream(count, 0, 2, 2), {})
        source.shelves = {"image": Shelf(FeatureStore(tmp_path / "kept", 10**6), CONTEXT, SOFT_TOKENS)}
        return source

    return make


def slices(source, count=3):
    dataset = SliceDataset({"greys": source}, Fixed(), ROWS, 0, 1, Collator(lambda text: [*text.encode()], 1, 2))
    return [dataset[n].to("cpu") for n in range(count)]


def keep(source, batch):
    """Stands for what a model makes of a slice: two tokens that say which picture it was."""
    media = batch.media["image"]
    values = media.values.flatten(1)[:, None, :4].expand(-1, 2, -1)
    source.shelves["image"].keep(media.kept_as, values)
    return values


def test_a_slice_is_read_where_all_of_it_is_kept_and_else_decoded_whole(greys, tmp_path):
    source = greys(ImageDecoder(8))
    first = slices(source)
    assert [b.media["image"].reached for b in first] == [DECODED] * 3
    values = keep(source, first[0])
    again = slices(source)
    assert [b.media["image"].reached for b in again] == [SOFT_TOKENS, DECODED, DECODED]
    assert torch.equal(again[0].media["image"].values, values)
    assert again[0].keys == first[0].keys
    assert torch.equal(again[0].text_ids, first[0].text_ids)
    one, *_ = (tmp_path / "kept").glob("[0-9a-f]*")
    one.unlink()
    mixed = slices(source)[0].media["image"]
    assert mixed.reached == DECODED
    assert torch.equal(mixed.values, first[0].media["image"].values)
    assert all(mixed.kept_as)


@pytest.mark.parametrize(
    "decoder", [ImageDecoder(8, scale=(0.3, 1.0)), Augmented(ImageDecoder(8), [Noise(0.1)])], ids=["crop", "augment"]
)
def test_what_randomness_went_into_is_never_kept(greys, decoder):
    assert all(batch.media["image"].kept_as == () for batch in slices(greys(decoder)))


def test_another_context_or_another_content_is_another_name(greys, png):
    shelf = greys(ImageDecoder(8)).shelves["image"]
    other = Shelf(shelf.store, "01" * 32, SOFT_TOKENS)
    assert shelf.name((png(1),)) == shelf.name((png(1),))
    assert len({shelf.name((png(1),)), shelf.name((png(2),)), other.name((png(1),)), shelf.name((png(1), b""))}) == 4


def test_a_slice_with_a_hole_is_decoded_and_not_kept(tmp_path, greys, make_recipe_object, png):
    with ShardWriter(tmp_path / "holed", 16) as writer:
        for number in range(8):
            content = b"no picture" if number == 2 else png(number)
            writer.write(f"s{number}", {"png": content, "json": b'{"caption": "a grey"}'})
    reader = ShardReader(tmp_path / "holed")
    decoders = {"image": ImageDecoder(8)}
    source = Source(make_recipe_object(), reader, decoders, CaptionTemplate(), Stream(8, 0, 1, 1, shuffle=False))
    source.shelves = greys(ImageDecoder(8)).shelves
    holed, whole = slices(source, 2)
    assert [key for _, key, _ in holed.holes] == ["s2"]
    assert holed.media["image"].kept_as == ()
    assert len(whole.media["image"].kept_as) == ROWS


def test_without_shelves_nothing_has_a_name(greys):
    source = greys(ImageDecoder(8))
    source.shelves = {}
    assert all(batch.media["image"].kept_as == () for batch in slices(source))
