"""Streaming through webdataset: samples for ever, damage counted, no shell."""

import functools
import http.server
import itertools
import logging
import threading

import pytest
from torch.utils.data import DataLoader, IterableDataset

from modalign.data.recipes import recipe_digest
from modalign.data.stream import StreamReader, check_urls, open_stream
from modalign.errors import BadSample, ModalignError


def urls_of(folder):
    return sorted(str(path) for path in folder.glob("*.tar"))


def read_all(reader, count):
    keys, bad = [], []
    for index in range(count):
        try:
            keys.append(reader.read(index, ["png", "json"]).key)
        except BadSample as error:
            bad.append((error.key, error.reason))
    return keys, bad


def test_a_stream_gives_every_sample_in_the_end(tmp_path, make_split):
    reader = StreamReader(urls_of(make_split(tmp_path / "train")), num_samples=20, shuffle=10)
    keys, bad = read_all(reader, 400)
    assert len(reader) == 20
    assert set(keys) == {f"s{number:04d}" for number in range(20)}
    assert bad == []
    assert keys[:20] != sorted(keys[:20])


def test_the_members_are_those_of_the_shards(tmp_path, make_split, png):
    raw = StreamReader(urls_of(make_split(tmp_path / "train")), 20).read(0)
    assert raw.members["png"] == png(int(raw.key[1:]))


def test_shards_are_streamed_over_http(tmp_path, make_split):
    make_split(tmp_path / "train")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "train"))
    handler.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/shard-{{000000..000002}}.tar"
        keys, bad = read_all(StreamReader(url, 20), 100)
        server.shutdown()
    assert len(set(keys)) == 20
    assert bad == []


def test_it_says_that_resume_is_approximate(tmp_path, make_split, caplog):
    with caplog.at_level(logging.WARNING):
        StreamReader(urls_of(make_split(tmp_path / "train")), 20)
    assert "will resume with other samples" in caplog.text


def test_processes_and_workers_draw_differently(tmp_path, make_split):
    urls = urls_of(make_split(tmp_path / "train", count=60, samples_per_shard=5))
    first, second = (read_all(StreamReader(urls, 60, rank=rank), 30)[0] for rank in (0, 1))
    assert first != second
    assert first == read_all(StreamReader(urls, 60, rank=0), 30)[0]

    class Forever(IterableDataset):
        def __init__(self, reader):
            self.reader = reader

        def __iter__(self):
            return (self.reader.read(index).key for index in itertools.count())

    loader = DataLoader(Forever(StreamReader(urls, 60)), batch_size=None, num_workers=2)
    keys = list(itertools.islice(loader, 40))
    assert keys[0::2] != keys[1::2]


def test_damaged_headers_and_truncated_tars_are_counted(tmp_path, make_split):
    folder = make_split(tmp_path / "train", count=60, samples_per_shard=20)
    first, second, _ = sorted(folder.glob("*.tar"))
    data = bytearray(first.read_bytes())
    data[10 * 2 * 1024 + 1] ^= 4
    first.write_bytes(bytes(data))
    second.write_bytes(second.read_bytes()[: 10 * 2 * 1024 + 700])
    keys, bad = read_all(StreamReader(urls_of(folder), 60, shuffle=1), 300)
    assert len(keys) > 200
    reasons = {key.rsplit("/", 1)[-1]: reason for key, reason in bad}
    assert "damaged header" in reasons["shard-000000.tar"]
    assert len(bad) > 4


def test_a_shard_that_is_not_there_is_counted_and_none_is_an_error(tmp_path, make_split):
    urls = urls_of(make_split(tmp_path / "train"))
    keys, bad = read_all(StreamReader([*urls, str(tmp_path / "none.tar")], 20, shuffle=1), 60)
    assert keys
    assert any("No such file" in reason for _, reason in bad)
    with pytest.raises(ModalignError, match=r"no shard can be streamed; the last one was .*none.tar"):
        StreamReader(str(tmp_path / "none.tar"), 20).read(0)


@pytest.mark.parametrize("url", ["pipe:cat x.tar", "PIPE: touch /tmp/x", "ssh://host/x.tar", "local::x", "htgs://b/x"])
def test_addresses_that_run_programs_are_refused(url):
    with pytest.raises(ModalignError, match="is refused: shards are streamed from"):
        StreamReader(["a.tar", url], 20)


def test_braces_are_expanded():
    assert check_urls("https://host/a-{000..002}.tar") == [f"https://host/a-{number:03d}.tar" for number in range(3)]
    with pytest.raises(ModalignError, match="no address"):
        check_urls([])
    with pytest.raises(ModalignError, match="num_samples"):
        StreamReader("a.tar", 0)


def test_a_recipe_is_streamed_from_its_addresses_or_its_own_tars(tmp_path, make_split, make_recipe_object):
    folder = make_split(tmp_path / "greys" / "train").parent
    assert len(open_stream(make_recipe_object(), folder, "train")) == 20
    urls = {"train": str(folder / "train" / "shard-{000000..000002}.tar")}
    streamed = make_recipe_object(urls=urls, splits={"train": 1000})
    reader = open_stream(streamed, tmp_path / "nowhere", "train")
    assert (len(reader), len(reader.urls)) == (1000, 3)
    assert reader.read(0).key.startswith("s")
    assert recipe_digest(streamed, tmp_path / "nowhere", ["train"]) != recipe_digest(
        make_recipe_object(), folder, ["train"]
    )
    with pytest.raises(ModalignError, match=r"splits.train must say its size"):
        open_stream(make_recipe_object(urls=urls), folder, "train")
