"""A hub that answers as the real one does, on this machine: what it refuses is told in one line with what to do."""

from __future__ import annotations

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub.constants
import huggingface_hub.file_download
import pytest

from modalign.errors import ModalignError
from modalign.models.encoders.open_clip_tower import OpenClipTower
from modalign.models.encoders.timm_tower import TimmTower
from modalign.models.hub import require_folder, telling_hub
from modalign.models.language_model import load_language_model
from modalign.models.text_tokenizer import load_text_tokenizer

# What the hub says by owner of the repository: status, and the header by which its library knows the reason.
ANSWERS = {
    "gated": (403, "GatedRepo"),
    "nobody": (401, "RepoNotFound"),
    "empty": (404, "EntryNotFound"),
    "ill": (500, ""),
}


class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        words = self.path.strip("/").split("/")
        owner = next((word for word in words if word in ANSWERS), "gated")
        status, code = ANSWERS[owner]
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
            self.send_header("X-Error-Message", f"{owner} says no")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """Point the hub's library at this machine, with an empty cache and no token; it keeps the first address it sees."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    with pytest.MonkeyPatch.context() as patch:
        turn_to(patch, f"http://127.0.0.1:{server.server_port}", tmp_path_factory.mktemp("hub"))
        yield
    server.shutdown()
    server.server_close()


def turn_to(monkeypatch, endpoint, cache):
    for name, value in {
        "ENDPOINT": endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(cache),
    }.items():
        monkeypatch.setattr(huggingface_hub.constants, name, value)


LOADERS = {
    "language model": load_language_model,
    "text tokenizer": load_text_tokenizer,
}


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("gated/llama", r"its weights are gated: accept the licence on its page, then give your token \(HF_TOKEN"),
        ("nobody/llama", r"the hub has no such repository, or a private one"),
        ("empty/llama", "lacks a file that this kind of model has|Unrecognized model|Couldn't instantiate"),
        ("no such name!", r"neither a local folder nor a name on the hub"),
    ],
)
def test_what_the_hub_refuses_is_told_in_one_line(hub, loader, name, told):
    with pytest.raises(ModalignError, match=rf"cannot load the {loader} '{name}' .*(?:{told})") as error:
        LOADERS[loader](name)
    assert "\n" not in str(error.value)


def test_gated_weights_of_an_encoder_are_told_too(hub):
    with pytest.raises(ModalignError, match=r"cannot load the encoder 'vit_small_patch14_dinov2.lvd142m' .*gated"):
        TimmTower("vit_small_patch14_dinov2", "lvd142m", size_px=56)
    with pytest.raises(ModalignError, match=r"cannot load the encoder 'ViT-B-32 laion2b_s34b_b79k' .*gated"):
        OpenClipTower("ViT-B-32", "laion2b_s34b_b79k")


def test_a_hub_that_cannot_be_reached_is_told_and_a_local_folder_offered(monkeypatch, tmp_path):
    turn_to(monkeypatch, "http://127.0.0.1:9", tmp_path)  # nothing listens there
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)  # it tries six times, ever slower
    with pytest.raises(ModalignError, match=r"'somebody/llama' .*the hub cannot be reached .*name a local folder"):
        load_language_model("somebody/llama")


def test_an_offline_machine_says_so_without_asking(monkeypatch, tmp_path):
    turn_to(monkeypatch, "http://127.0.0.1:9", tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModalignError, match="the hub cannot be reached"):
        load_text_tokenizer("somebody/llama")


def test_our_own_errors_pass_and_others_are_told_by_their_first_words():
    with pytest.raises(ModalignError, match=r"^ours$"), telling_hub("the encoder", "x", "key"):
        raise ModalignError("ours")
    with (
        pytest.raises(ModalignError, match=r"cannot load the encoder 'x' \(key\): size mismatch$"),
        telling_hub("the encoder", "x", "key"),
    ):
        raise RuntimeError("Error(s) in loading state_dict for CLIP:\n\tsize mismatch\n\tanother line")


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("./models/lama", "did you mean 'models/llama'?"),
        ("~/llama", "did you mean '{home}/llama'?"),
        ("../nowhere/llama", "mend the path, or name a repository of the hub"),
        ("models/of/nobody", "mend the path, or name a repository of the hub"),
    ],
)
def test_a_mistyped_folder_is_told_without_asking_the_hub(name, advice, tmp_path, monkeypatch):
    (tmp_path / "models" / "llama").mkdir(parents=True)
    (tmp_path / "home" / "llama").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    told = re.escape(f"'{name}' (KEY): there is no such folder; {advice.format(home=tmp_path / 'home')}")
    for load, key in (
        (load_language_model, "model.language_model.source"),
        (load_text_tokenizer, "model.text_tokenizer"),
    ):
        with pytest.raises(ModalignError, match=told.replace("KEY", re.escape(key))):
            load(name)


def test_a_folder_of_nobody_is_told():
    with pytest.raises(ModalignError, match="no such folder; mend the path"):
        require_folder("the language model", "~nobody-of-that-name/llama", "source")


@pytest.mark.parametrize("name", ["owner/name", "name", "./owner/other"])
def test_what_may_be_a_repository_s_name_or_is_there_is_no_mistake(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "other").mkdir(parents=True)
    assert require_folder("the language model", name, "source") is None
