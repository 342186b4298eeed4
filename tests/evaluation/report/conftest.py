"""Fabricated run folders with real encoded media of every kind that a report shows."""

import io
import json
import math
import zlib

import av
import numpy as np
import pytest
import soundfile
from PIL import Image

from modalign.evaluation.scores import Detail, Results, Score, ShownSample, TextLoss, results_bytes
from modalign.runs.manifest import Manifest, write_manifest
from modalign.runs.metrics import MetricLog

SENSORS = ("image", "video", "point", "audio", "depth", "normal", "imu", "fmri")
ATTRIBUTES = {"shape": 0.25, "colour": 1 / 6, "place": 0.25}


def picture(rng, extension="jpg"):
    pixels = rng.integers(60, 90, (48, 48, 3)).astype(np.uint8)
    pixels[12:30, 8:26] = (210, 50, 40)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG" if extension == "jpg" else extension.upper())
    return buffer.getvalue()


def depth_picture(rng):
    metres = 3.4 + 0.3 * np.linspace(-1, 1, 48)[None] + 0.02 * rng.standard_normal((48, 48))
    metres[15:34, 20:40] = 1.2
    metres[rng.random((48, 48)) < 0.02] = 0
    buffer = io.BytesIO()
    Image.fromarray((metres * 1000).astype(np.uint16)).save(buffer, "PNG")
    return buffer.getvalue()


def video(rng, num_frames=12):
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width = stream.height = 48
        stream.pix_fmt = "yuv420p"
        for t in range(num_frames):
            pixels = rng.integers(50, 70, (48, 48, 3)).astype(np.uint8)
            pixels[18:30, 2 + 3 * t : 12 + 3 * t] = (60, 90, 220)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


def sound(rng, extension="flac"):
    time = np.arange(8000) / 8000
    wave = 0.4 * np.exp(-6 * (time % 0.4)) * np.sin(2 * math.pi * 440 * time) + 0.01 * rng.standard_normal(8000)
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, 8000, format=extension.upper())
    return buffer.getvalue()


def array(values):
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(values, np.float32))
    return buffer.getvalue()


def cloud(rng):
    places = rng.standard_normal((400, 3))
    places /= np.linalg.norm(places, axis=1, keepdims=True)
    return array(np.concatenate([places, np.clip([0.8, 0.2, 0.1] + 0.1 * rng.standard_normal((400, 3)), 0, 1)], axis=1))


def inertial(rng):
    time = np.arange(100) / 50
    waves = np.stack([np.sin(2 * math.pi * (1 + c / 3) * time + c) for c in range(6)], axis=1)
    return array(waves * [3, 3, 3, 1, 1, 1] + [0, 9.81, 0, 0, 0, 0] + 0.2 * rng.standard_normal((100, 6)))


MEDIA = {
    "image": ("jpg", picture, {}),
    "video": ("mp4", video, {}),
    "point": ("npy", cloud, {}),
    "audio": ("flac", sound, {}),
    "depth": ("png", depth_picture, {}),
    "normal": ("png", lambda rng: picture(rng, "png"), {}),
    "imu": (
        "npy",
        inertial,
        {"rate_hz": 50, "channels": ["ax", "ay", "az", "gx", "gy", "gz"], "units": ["m/s²"] * 3 + ["rad/s"] * 3},
    ),
    "fmri": ("npy", lambda rng: array(rng.standard_normal(384)), {}),
}


def score(modality, value, task="caption", split="test", metric="attribute_accuracy", n=320):
    values = {name: min(1.0, value + 0.02 * i) for i, name in enumerate(ATTRIBUTES)}
    detail = {name: Detail(values[name], chance, n) for name, chance in ATTRIBUTES.items()}
    return Score(modality, task, split, metric, value, value - 0.02, min(1, value + 0.02), 0.22, n, detail)


def phase_scores(modalities, fall, answers):
    found = []
    for i, modality in enumerate(modalities):
        value = 0.96 - 0.015 * i - fall * (len(modalities) - 1 - i)
        found += [score(modality, value), score(modality, value - 0.03, split="test_unseen")]
        found.append(Score(modality, "caption", "test", "cider", 6.2, 6.0, 6.4, None, 320, {}, "simple tokenisation"))
        if answers:
            found.append(score(modality, value - 0.02, "answer", metric="exact_match"))
    if answers:
        found.append(score("image + audio", 0.83, "pair", metric="exact_match"))
    return tuple(found)


def samples(folder, modalities, question=None, each=2):
    rng = np.random.default_rng(0)
    (folder / "samples").mkdir(exist_ok=True)
    shown = []
    for modality in modalities:
        extension, make, axes = MEDIA[modality]
        for i in range(each):
            name = f"samples/{modality}-{i}.{extension}"
            (folder / name).write_bytes(make(rng))
            said = "one small red cube at the left" if i == 0 else "one small red ball at the left"
            true = "one small red cube at the left"
            facts = {modality: axes}
            shown.append(ShownSample(modality, "test", f"{i:06}", {modality: name}, true, said, question, axes=facts))
    return shown


def parts(modalities, new, stage):
    training = {f"tokenizers.{m}" for m in new} | {f"projectors.upm.experts.{k}" for k in range(3)}
    training = {"llm"} if stage == "instruct" else training
    names = ["encoders.clip", "llm", *(f"projectors.upm.experts.{k}" for k in range(3))]
    kinds = ("tokenizers", "projectors.upm.router", "projectors.upm.ports")
    names += [f"{kind}.{m}" for m in modalities for kind in kinds]
    sizes = {"encoders": 810_000, "llm": 1_200_000, "tokenizers": 14_000, "projectors": 99_000}
    return [
        {
            "name": name,
            "parameters": sizes[name.split(".")[0]],
            "trains": name in training,
            "gradient": "ok" if name in training else None,
            "unchanged": None if name in training else True,
        }
        for name in names
    ]


def curves(folder, modalities, steps):
    log = MetricLog(folder / "metrics.csv")
    rng = np.random.default_rng(1)
    for step in range(5, steps + 1, 5):
        losses = [2.2 * math.exp(-step / (30 + 12 * i)) + 0.06 + 0.01 * rng.random() for i in range(len(modalities))]
        row = {f"train/loss/{m}": loss for m, loss in zip(modalities, losses, strict=True)}
        row |= {"train/loss": sum(row.values()) / len(row), "lr/tokenizers": 5e-3 * math.cos(1.5 * step / steps)}
        row |= {"speed/samples_per_s": 300 + 9 * rng.random(), "speed/tokens_per_s": 4000 + 90 * rng.random()}
        if step % 50 == 0:
            row |= {f"val/loss/{m}": row[f"train/loss/{m}"] + 0.02 for m in modalities}
        log.append(step, row)
    log.close()


def make_run(root, stage, new, seen, parent=None, fall=0.004, **changes):
    """A finished run's folder under `root`, as training and evaluation leave it, without checkpoints."""
    name = f"{stage}-{'+'.join(new) or 'all'}-{zlib.crc32(' '.join((stage, *new)).encode()):08x}"
    folder = root / name
    folder.mkdir(parents=True)
    modalities = [*seen, *new]
    sizes = {m: 8000 // (i + 1) for i, m in enumerate(modalities)}
    port = "projectors.upm.ports"
    manifest = Manifest(
        name, "ab" * 32, stage, {"new": list(new), "seen": list(seen)}, "finished",
        ["python", "train.py", f"stage={stage}", f"modality={'+'.join(new)}"],
        {"stage": {"name": stage}, "seed": 1},
        code={"version": "0.1.0", "revision": "0123456789abcdef", "dirty": False},
        parent={"path": f"../{parent.name}", "name": parent.name, "digest": "cd" * 32} if parent else None,
        recipes={f"world_{m}": {"digest": "ef" * 32, "samples": size, "folder": "x"} for m, size in sizes.items()},
        consumed={f"world_{m}": 4000 for m in modalities},
        holes={f"world_{modalities[0]}": {"count": 2, "examples": [{"key": "000017", "reason": "<truncated> JPEG"}]}},
        parts=parts(modalities, new, stage),
        start_values=[{"rule": "a", "target": f"{port}.{m}", "source": f"{port}.image", "tensors": 6} for m in new],
        seed=1, versions={"torch": "2.11.0"}, steps=250,
        checkpoint={"path": "checkpoints/step-00000250", "digest": "12" * 32},
        seconds={"build": 2.1, "train": 41.0, "evaluate": 9.4, "save": 0.4},
    )  # fmt: skip
    for key, value in changes.items():
        setattr(manifest, key, value)
    write_manifest(folder, manifest)
    curves(folder, modalities, 250)
    answers = stage == "instruct"
    rng = np.random.default_rng(2)
    router = {m: tuple(float(w) for w in rng.dirichlet([4, 2, 1])) for m in modalities}
    shown = samples(folder, modalities, "what is its shape?" if answers else None)
    distances = ((0.0, 0.21, 0.18), (0.21, 0.0, 0.25), (0.18, 0.25, 0.0))
    loss = TextLoss(0.1042 if not answers else 0.1049, 12000)
    found = Results(name, 250, phase_scores(modalities, fall, answers), loss, router, distances, tuple(shown))
    (folder / "results.json").write_bytes(results_bytes(found))
    return folder


def make_curriculum(root, fall=0.004):
    """A curriculum of three align phases and one instruct phase over all eight sensors."""
    groups = [SENSORS[:1], SENSORS[1:4], SENSORS[4:]]
    runs, seen = [], ()
    for group in groups:
        runs.append(make_run(root, "align", group, seen, runs[-1] if runs else None, fall))
        seen = (*seen, *group)
    runs.append(make_run(root, "instruct", (), seen, runs[-1], fall))
    folder = root / "curriculum-small"
    folder.mkdir()
    phases = [
        {"run": f"../{run.name}", "stage": run.name.split("-")[0], "new": list(new), "seen": []}
        for run, new in zip(runs, [*groups, ()], strict=True)
    ]
    (folder / "curriculum.json").write_text(json.dumps({"name": "small", "phases": phases, "status": "finished"}))
    return folder, runs


@pytest.fixture
def run_maker():
    return make_run


@pytest.fixture
def curriculum_maker():
    return make_curriculum


@pytest.fixture(scope="session")
def encoded():
    """One encoded file of each sensor: (extension, bytes, axes)."""
    rng = np.random.default_rng(3)
    return {name: (extension, make(rng), axes) for name, (extension, make, axes) in MEDIA.items()}
