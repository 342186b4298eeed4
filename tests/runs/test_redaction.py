"""Secrets that are planted are written nowhere; what only looks like one stays."""

import json

import pytest

from modalign.runs.manifest import Manifest, write_manifest
from modalign.runs.redaction import redacted, redacted_message, redacted_words

COMMIT = "0123456789" * 4


def test_what_only_looks_like_a_secret_to_a_careless_eye_stays():
    config = {
        "text_tokenizer": "path/to/tokenizer.json", "max_text_tokens": 192, "max_new_tokens": 32, "num_tokens": 8,
        "tokenizer": {"part": "audio", "_target_": "modalign.models.tokenizers.maps.MapTokenizer"},
        "digest": "0123456789abcdef" * 4, "learning_rate": 1e-3, "password": None, "tags": ["a", 1, None],
    }  # fmt: skip
    assert redacted(config) == config


@pytest.mark.parametrize("key", ["WANDB_API_KEY", "apiKey", "hf_token", "access_token", "Password", "client_secret"])
def test_whatever_lies_under_a_secret_key_is_removed(key):
    for value in ("text", 12345, ["a", "b"], {"user": "x"}):
        assert redacted({key: value}) == {key: "(removed)"}


def test_a_commit_stays_where_its_key_says_so_and_only_there():
    assert redacted({"model": {"revision": COMMIT}, "key": COMMIT}) == {
        "model": {"revision": COMMIT},
        "key": "(removed)",
    }
    assert redacted_words([f"model.revision={COMMIT}", f"note={COMMIT}"]) == [
        f"model.revision={COMMIT}",
        "note=(removed)",
    ]


def test_of_an_address_only_the_login_is_removed():
    assert redacted({"url": "https://me:pass@host/data"}) == {"url": "https://(removed)@host/data"}
    assert redacted_words(["data.root=s3://me:pass@host/b"]) == ["data.root=s3://(removed)@host/b"]
    assert redacted({"url": "https://host/data"}) == {"url": "https://host/data"}


@pytest.mark.parametrize(
    ("given", "written"),
    [
        (
            ["train.py", "stage=align", "paths.runs=/data/secret/x"],
            ["train.py", "stage=align", "paths.runs=/data/secret/x"],
        ),
        (["+modalities.image.display.api_key=abc"], ["+modalities.image.display.api_key=(removed)"]),
        (["+x={user: me, api_key: abc}"], ["+x=(removed)"]),
        (["--hf-token", "abc", "seed=1"], ["--hf-token", "(removed)", "seed=1"]),
        (["--password=abc", "model.max_text_tokens=9"], ["--password=(removed)", "model.max_text_tokens=9"]),
        (["logger.tags=[hf_plantedInATag0123]"], ["logger.tags=(removed)"]),
    ],
)
def test_a_command_keeps_its_keys_and_loses_its_secrets(given, written):
    assert redacted_words(given) == written


def test_a_message_keeps_the_words_around_a_secret(monkeypatch):
    monkeypatch.setenv("STORE_PASSWORD", "two words of it")
    told = "cannot read s3://me:pw@host/x with hf_plantedInAMessage1 or 'two words of it': denied"
    assert redacted_message(told) == "cannot read s3://(removed)@host/x with (removed) or '(removed)': denied"


def test_a_manifest_holds_no_secret_that_its_command_configuration_or_environment_held(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "planted-in-the-environment")
    manifest = Manifest(
        "align-image-01234567", "0" * 64, "align", command=["train.py", "+a.hf_token=planted-1", "b=hf_plantedB12345"],
        config={"a": {"hf_token": "planted-1"}, "c": "planted-in-the-environment"},
        spec={"a": {"hf_token": "planted-1"}}, reason="no entry with planted-in-the-environment",
        recipes={"secret_scans": {"folder": "https://me:planted-2@host/x", "samples": 3, "digest": "1" * 64}},
        code={"revision": COMMIT},
    )  # fmt: skip
    write_manifest(tmp_path, manifest)
    written = (tmp_path / "manifest.json").read_text()
    assert "planted" not in written
    values = json.loads(written)
    assert values["code"]["revision"] == COMMIT
    assert values["recipes"]["secret_scans"] == {
        "folder": "https://(removed)@host/x", "samples": 3, "digest": "1" * 64
    }  # fmt: skip
    assert manifest.command[1] == "+a.hf_token=planted-1"  # what runs goes on with what it was given


@pytest.mark.parametrize("words", [(), ("model=onellm_7b",)])
def test_the_shipped_configurations_hold_nothing_that_is_taken_for_a_secret(words):
    from modalign.config.compose import compose_settings

    _, plain = compose_settings(words)
    assert redacted(plain) == plain
