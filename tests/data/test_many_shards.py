"""A thousand million samples in a hundred thousand shards: a process starts on them in seconds and in little memory."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import asdict, replace

import numpy as np
import pytest

from modalign.data.manifest import MANIFEST_NAME, ShardEntry, index_name, read_manifest, split_digest
from modalign.data.shards import ShardWriter

SHARDS, SAMPLES = 100_000, 10_000
LINKS = 30_000  # a file system limits how many names one file has
START_S, PEAK_BYTES = 30.0, 1e9  # seconds of processor time, imports included: the machine may be shared

START = """
import json, os, sys, time
from fractions import Fraction
from torch.utils.data import DataLoader
from modalign.curriculum.schedule import SliceSchedule
from modalign.data.collate import Collator
from modalign.data.dataset import Source
from modalign.data.slices import SliceDataset
from modalign.data.decoders import VectorDecoder
from modalign.data.order import Stream
from modalign.data.reader import ShardReader
from modalign.data.recipes import Recipe
from modalign.data.templates import CaptionTemplate

recipe = Recipe(name="many", title="t", source="s", licence="l", task="caption", media={"fmri": "npy"}, folder="many")
reader = ShardReader(sys.argv[1])
stream = Stream(len(reader), seed=0, block=64, window=16)
source = Source(recipe, reader, {"fmri": VectorDecoder()}, CaptionTemplate(), stream)
collate = Collator(lambda text: [ord(letter) for letter in text], 1, 2, 64)
slices = SliceDataset({"many": source}, SliceSchedule({"many": Fraction(1)}, 0), 32, 0, 1, collate)

def peak():
    # Of this program alone: ru_maxrss begins at that of the process that forked it.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024

class Peaks:
    def __len__(self):
        return 8
    def __getitem__(self, n):
        batch = slices[n]
        return len(batch.keys), len(batch.holes), peak()

found = list(DataLoader(Peaks(), batch_size=None, num_workers=2))
spent = os.times()
started = spent.user + spent.system + spent.children_user + spent.children_system
last = slices[len(reader) // 32 - 1]
print(json.dumps({
    "samples": len(reader), "started_s": started, "read": [kept for kept, _, _ in found],
    "holes": sum(holes for _, holes, _ in found), "last": len(last.keys),
    "worker_bytes": max(peak for _, _, peak in found),
    "bytes": peak(),
}))
"""


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """The real format: one shard of ten thousand samples under a hundred thousand names, and the manifest of all."""
    root = tmp_path_factory.mktemp("many")
    vector = np.arange(8, dtype=np.float32)
    with ShardWriter(root / "one", SAMPLES) as writer:
        head = (
            b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '<f4', 'fortran_order': False, 'shape': (8,), }".ljust(117) + b"\n"
        )
        for number in range(SAMPLES):
            words = json.dumps({"caption": f"sample {number} of its shard"}).encode()
            writer.write(f"{number:08d}", {"npy": head + vector.tobytes(), "json": words})
    (one,) = read_manifest(root / "one").shards
    folder = root / "train"
    folder.mkdir()
    entries = []
    for number in range(SHARDS):
        name = f"shard-{number:06d}.tar"
        sources = [root / f"copy-{number // LINKS}.{kind}" for kind in ("tar", "json")]
        if number % LINKS == 0:
            sources[0].write_bytes((root / "one" / one.name).read_bytes())
            sources[1].write_bytes((root / "one" / index_name(one.name)).read_bytes())
        os.link(sources[0], folder / name)
        os.link(sources[1], folder / index_name(name))
        sha256 = hashlib.sha256(name.encode()).hexdigest()
        entries.append(replace(one, name=name, sha256=sha256))
    write(folder, entries)
    return folder


def write(folder, entries: list[ShardEntry]):
    shards = [asdict(entry) for entry in entries]
    content = {"samples": SHARDS * SAMPLES, "digest": split_digest(entries), "shards": shards}
    (folder / MANIFEST_NAME).write_text(json.dumps(content))


@pytest.mark.slow
@pytest.mark.alone
def test_a_process_starts_on_a_thousand_million_samples_within_half_a_minute_and_a_gigabyte(many):
    result = subprocess.run([sys.executable, "-c", START, many], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    found = json.loads(result.stdout)
    sys.stderr.write(result.stdout)
    assert found["samples"] == 10**9
    assert found["read"] == [32] * 8
    assert found["holes"] == 0
    assert found["last"] == 32
    assert found["started_s"] < START_S
    assert found["worker_bytes"] < PEAK_BYTES
    assert found["bytes"] < PEAK_BYTES


def test_the_real_format_keeps_a_shard_s_index_small(tmp_path):
    """What a process holds of each open shard: about a hundred bytes a sample, whatever the JSON takes."""
    from modalign.data.manifest import SampleTable

    samples = [(f"{n:08d}", {"jpg": (n * 4096, 4000, n), "json": (n * 4096 + 4608, 200, n)}) for n in range(1000)]
    table = SampleTable(samples)
    held = sum(sys.getsizeof(key) for key in table.keys) + sum(sys.getsizeof(p) for p in table._members.values())
    assert held < 120 * len(samples)
    assert [table.places(row) for row in range(1000)] == [places for _, places in samples]
    assert table.num_members() == {"jpg": 1000, "json": 1000}
