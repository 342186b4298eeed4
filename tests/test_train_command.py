"""Bad input at the training command: one clear line, a non-zero exit, and where it can be, before torch is imported."""

import io
import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from modalign.config.compose import modality_names, options
from modalign.config.places import recipe_folder
from modalign.data.shards import ShardWriter
from modalign.errors import ModalignError
from modalign.runs.manifest import read_manifest

ROOT = Path(__file__).resolve().parents[1]

# What is typed, and what the one line must say.
REFUSED = {
    "stage=align modality=audoi": "unknown modality 'audoi': did you mean 'audio'?",
    "stage=align modality=[image,audoi]": "unknown modality 'audoi': did you mean 'audio'?",
    "stage=aling": "unknown stage 'aling': did you mean 'align'?",
    "modality=audio": "needs a stage: add stage=align or stage=instruct",
    "stage=align modality=audio,imu": "a list is written in brackets, modality=[audio,imu]",
    "model=embeded": "unknown model 'embeded': did you mean 'embedded'?",
    "curriculum=by_sise": "unknown curriculum 'by_sise': did you mean 'by_size'?",
    "world=hart": "unknown world 'hart': did you mean 'hard'?",
    "logger=wandbb": "unknown logger 'wandbb': did you mean 'wandb'?",
    "stage=align modality=audio +data.align.audio=[]": "modality 'audio' has no recipe",
    "+data.align.audio=[world_audoi]": "unknown recipe 'world_audoi' in data_recipes: did you mean 'world_audio'?",
    "+data.align.audio=[world_image]": "recipe world_image carries image; recipes that carry audio: audiocaps, ",
    "+data.instruct.world_imag=1": "unknown recipe 'world_imag' in data.instruct: did you mean 'world_image'?",
    "data.text_loss=world_tex": "unknown recipe 'world_tex' in data.text_loss: did you mean 'world_text'?",
    "data.pairs=[world_pair]": "unknown recipe 'world_pair' in data.pairs",
    "evaluation.splits=[tset]": "unknown split 'tset' in evaluation.splits: did you mean 'test'?",
    "stages.align.train=[projecters]": "unknown part 'projecters' in stages.align.train: did you mean 'projectors'?",
    "stages.align.train=[projectors.upn]": "did you mean 'projectors.upm'?",
    "stages.instruct.train=[lm]": "unknown part 'lm' in stages.instruct.train",
    "+stages.align.optimizer.scale.tokenizer=2": "did you mean 'tokenizers'?",
    "modalities.audio.encoder=clop": "unknown encoder 'clop' in modalities.audio.encoder: did you mean 'clip'?",
    "modalities.image.tokenizer.start=encodr": "unknown start 'encodr' in modalities.image.tokenizer.start",
    "modalities.audio.projector=upn": "did you mean 'upm'?",
    "modalities.audio.start.from=imagee": "did you mean 'image'?",
    "modalities.audio.tokenizer._target_=os.system": "is outside the allowed packages",
    "curriculum.groups=[[image],[audoi]]": "unknown modality 'audoi' in curriculum group",
    "+curriculum.steps.audoi=3": "unknown modality 'audoi' in curriculum.steps: did you mean 'audio'?",
    "stages.align.replay=balancd": "did you mean 'balanced'?",
    "stages.align.slice_size=0": "stages.align.slice_size: should be greater than 0, got 0",
    "stages.align.slice_size=-8": "stages.align.slice_size: should be greater than 0, got -8",
    "stages.align.slice_size=many": "stages.align.slice_size: should be a valid integer",
    "stages.align.optimizer.learning_rate=0": "learning_rate: should be greater than 0",
    "stages.align.optimizer.learning_rate=fast": "learning_rate: should be a valid number",
    "stages.align.optimizer.betas=[0.9]": "stages.align.optimizer.betas",
    "seed=-1": "seed: should be greater than or equal to 0",
    "trainer.precision=16": "trainer.precision: should be '32-true'",
    "world.sizes.audio.train=-5": "world.sizes.audio.train is -5: give a whole number from 0",
    "world.difficulty.noise=loud": "world.difficulty.noise is 'loud'",
    "stages.align.stepz=3": "unknown setting 'stepz' in stages.align: did you mean 'steps'?",
    "trainr.precision=32-true": "unknown setting 'trainr.precision': did you mean 'trainer.precision'?",
    "+stages.align.chat.stopp=x": "unknown setting 'stopp' in stages.align.chat: did you mean 'stop'?",
    "stages.algin.frozen=[llm]": "unknown setting 'algin' in stages: did you mean 'align'?",
    "stages.instruct.chat.stopp=x": "unknown setting 'stopp' in stages.instruct.chat: did you mean 'stop'?",
    "stage=align modality=[audio": "cannot read 'modality=[audio'",
    "stage align": "'stage': settings are given as key=value",
    "--fresh": "unknown flag '--fresh'",
    "--config-dir nowhere": "--config-dir nowhere: no such folder",
    "paths.recipes=[nowhere]": "paths.recipes: no folder at nowhere",
}

WITHOUT_TORCH = """
import json, runpy, sys
for heavy in ("numpy", "torch", "lightning", "transformers", "open_clip"):
    sys.modules[heavy] = None
sys.argv = ["train.py"]
main = runpy.run_path("train.py", run_name="train")["main"]
from modalign.errors import ModalignError
said = {}
for line in json.load(sys.stdin):
    try:
        main([*line.split(), "paths.runs=/nowhere/runs", "paths.data=/nowhere/data"])
        said[line] = None
    except ModalignError as error:
        said[line] = str(error)
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def said_without_torch():
    """What each of the refused commands says in a process where torch cannot be imported."""
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH], input=json.dumps(list(REFUSED)), capture_output=True, text=True,
        cwd=ROOT, timeout=300, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout)


@pytest.mark.parametrize("line", REFUSED)
def test_what_is_refused_says_so_in_one_line_without_numpy_and_torch(said_without_torch, line):
    said = said_without_torch[line]
    assert said is not None, "the command was accepted"
    assert REFUSED[line] in said
    assert "\n" not in said


@pytest.mark.parametrize("line", ["stage=align modality=audoi", "stages.align.slice_size=0", "--fresh"])
def test_a_refused_command_writes_one_line_and_fails_within_two_seconds_of_work(train_command, line):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = train_command(*line.split())
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr == f"error: {result.stderr.removeprefix('error: ').strip()}\n"
    assert REFUSED[line] in result.stderr
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2


def test_help_lists_everything_there_is_within_two_seconds_of_work(train_command):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = train_command("--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert result.returncode == 0
    names = [name for group in ("stages", "model", "curriculum", "world", "experiment") for name in options(group)]
    names += [*modality_names("embedded"), *(path.stem for path in recipe_folder().glob("*.yaml"))]
    assert not [name for name in names if name not in result.stdout]
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2


def test_a_finished_run_answers_without_torch_within_three_seconds_of_work(tiny_runs):
    code = "import runpy, sys\nsys.modules['torch'] = None\nsys.argv = sys.argv[1:]\n"
    code += "runpy.run_path('train.py', run_name='__main__')"
    command = [sys.executable, "-c", code, "train.py", "stage=align", "modality=video", *tiny_runs.settings]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"finished already: {tiny_runs.video}")
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 3


@pytest.fixture
def train():
    """`train("stage=…", …)` calls the entry point in this process."""
    import runpy

    return lambda *words: runpy.run_path(str(ROOT / "train.py"), run_name="train")["main"]([str(w) for w in words])


@pytest.fixture
def copy(tiny_runs, tmp_path):
    """A copy of the tiny runs, which a test may damage."""
    shutil.copytree(tiny_runs.runs, tmp_path / "runs")
    return type(tiny_runs)(tmp_path / "runs", tiny_runs.data)


def refusal(train, *words):
    with pytest.raises(ModalignError) as caught:
        train(*words)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def picture(value):
    file = io.BytesIO()
    Image.fromarray(np.full((16, 16, 3), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def greys(copy, tmp_path):
    """Somebody's own recipe of 16 pictures, and the settings under which image is aligned on it alone."""
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    content = {
        "name": "greys", "title": "Greys", "source": "generated", "licence": "CC0-1.0", "task": "caption",
        "media": {"image": "png"}, "folder": "greys",
    }  # fmt: skip
    (recipes / "greys.yaml").write_text(yaml.safe_dump(content))
    data = tmp_path / "data"
    shutil.copytree(copy.data, data)

    def words(caption="grey number {}", pictures=picture):
        shutil.rmtree(data / "greys", ignore_errors=True)
        with ShardWriter(data / "greys" / "train") as writer:
            for number in range(16):
                record = json.dumps({"caption": caption.format(number)}).encode()
                writer.write(f"s{number:02d}", {"png": pictures(number), "json": record})
        return settings

    settings = [
        "stage=align", "modality=image", "debug=tiny", f"paths.runs={copy.runs}", f"paths.data={data}",
        f"paths.recipes=[{recipes}]", "+data.align.image=[greys]", "curriculum.groups=[[image]]", "data.pairs=[]",
        "evaluation.num_items=2", "trainer.threads=1", "trainer.progress=false",
    ]  # fmt: skip
    words.folder = data / "greys" / "train"
    words.settings = settings
    return words


def test_a_recipe_whose_folder_is_missing_or_empty_says_what_to_do(train, greys):
    for make in (lambda: None, lambda: greys.folder.mkdir(parents=True)):
        make()
        said = refusal(train, *greys.settings)
        assert str(greys.folder.parent) in said
        assert "put its shards there and run `modalign index`" in said


def test_a_held_out_split_that_is_not_there_is_told_before_anything_trains(train, greys, copy, monkeypatch):
    settings, (recipe,) = greys(), greys.folder.parents[2].glob("recipes/greys.yaml")
    recipe.write_text(f"{recipe.read_text()}splits: {{train: 16, val: 4, test: 4}}\n")
    monkeypatch.setattr("modalign.stages.phase_run.PhaseRun.__call__", lambda _: pytest.fail("it trained"))
    test = greys.folder.parent / "test"
    said = refusal(train, *settings, "evaluation.validation_every=0", "evaluation.probe_every=0")
    assert f"recipe greys: nothing at {test}, on which it is validated or measured: " in said
    assert "leave 'test' out of the recipe's splits" in said
    said = refusal(train, *settings, "evaluation.validation_every=1")
    assert f"recipe greys: nothing at {greys.folder.parent / 'val'}, " in said


def test_a_shard_that_is_cut_short_is_named_before_anything_trains(train, greys):
    settings = greys()
    shard = greys.folder / "shard-000000.tar"
    shard.write_bytes(shard.read_bytes()[:-2000])
    said = refusal(train, *settings)
    assert "shard-000000.tar is truncated" in said
    assert "modalign verify" in said


def test_a_shard_that_is_gone_is_named(train, greys):
    settings = greys()
    (greys.folder / "shard-000000.tar").unlink()
    assert "shard-000000.tar is gone" in refusal(train, *settings)


def test_samples_that_do_not_decode_stop_the_run_above_the_stated_share(train, greys):
    settings = greys(pictures=lambda number: b"no picture" if number % 2 else picture(number))
    said = refusal(train, *settings)
    assert "greys" in said
    assert "does not decode as image" in said


def test_samples_that_do_not_decode_are_counted_and_named_below_the_stated_share(train, greys, copy):
    settings = greys(pictures=lambda number: b"no picture" if number == 5 else picture(number))
    assert train(*settings, "data.max_bad_share=0.5") == 0
    (run,) = [path for path in copy.runs.glob("align-image-*") if path.name != copy_of_image(copy)]
    holes = read_manifest(run).holes["greys"]
    assert holes["count"] >= 1
    assert holes["examples"][0]["key"] == "s05"


def copy_of_image(copy):
    """The name of the run that was there before: the one that was made on the world."""
    (name,) = [p.name for p in copy.runs.glob("align-image-*") if "world_image" in read_manifest(p).recipes]
    return name


def test_a_sample_without_a_supervised_token_is_named(train, greys):
    said = refusal(train, *greys(caption=""))
    assert "of recipe greys has no supervised token" in said


def test_a_run_folder_takes_one_writer_at_a_time(train, copy):
    shutil.rmtree(copy.instruct)
    manifest = read_manifest(copy.video)
    manifest.status = "running"
    (copy.video / "manifest.json").write_text(json.dumps(manifest.to_dict()))
    hold = "import sys, time\nfrom modalign.runs.folder import RunFolder\n"
    hold += "with RunFolder(sys.argv[1]).lock():\n    print('held', flush=True)\n    time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", hold, str(copy.video)], stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout.readline() == "held\n"
            said = refusal(train, "stage=align", "modality=video", *copy.settings)
            assert "is being written by" in said
            assert f"process {other.pid}" in said
        finally:
            other.kill()


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_made(train, tiny_runs, tmp_path):
    (tmp_path / "file").write_text("in the way")
    words = ["stage=align", "modality=image", "debug=tiny", f"paths.data={tiny_runs.data}", "trainer.threads=1"]
    assert "cannot write" in refusal(train, *words, f"paths.runs={tmp_path / 'file' / 'runs'}")


def test_a_checkpoint_that_is_cut_short_or_altered_is_named(train, copy):
    shutil.rmtree(copy.instruct)
    (file,) = copy.video.glob("checkpoints/*/projectors.upm.experts.0.safetensors")
    whole = file.read_bytes()
    altered = bytearray(whole)
    altered[-5] ^= 1
    words = ["stage=instruct", "modality=[image,video]", *copy.settings]
    file.write_bytes(whole[:-100])
    assert "experts.0.safetensors holds" in refusal(train, *words)
    file.write_bytes(altered)
    assert "experts.0.safetensors was altered" in refusal(train, *words)


def test_a_missing_parent_is_named_with_the_command_that_makes_it(train, copy):
    shutil.rmtree(copy.video)
    shutil.rmtree(copy.instruct)
    said = refusal(train, "stage=instruct", "modality=[image,video]", "model.make_missing=false", *copy.settings)
    assert "phase align-video-" in said
    assert "is missing" in said
    assert "stage=align modality=video" in said


def test_a_parent_that_was_replaced_by_another_is_noticed(train, copy):
    shutil.rmtree(copy.instruct)
    manifest = read_manifest(copy.video)
    manifest.parent["digest"] = "0" * 64
    (copy.video / "manifest.json").write_text(json.dumps(manifest.to_dict()))
    said = refusal(train, "stage=instruct", "modality=[image,video]", *copy.settings)
    assert "parent altered" in said


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("+modalities.image.decoder.sise_px=3", "did you mean 'size_px'?"),
        ("modalities.image.decoder.size_px=0", "size_px must be a whole number of at least 1"),
        ("modalities.image.decoder.size_px=40", "make decoder and tokenizer agree"),
        ("modalities.image.tokenizer.start=captions", "is a PatchTokenizer: only a VectorTokenizer can start from"),
        ("model.projectors.upm.num_experts=0", "needs at least one expert"),
        ("model.projectors.upm.num_queries=0", "a UPM of num_queries=0 cannot be"),
        ("model.projectors.upm.num_heads=5", "cannot be split into 5 heads"),
        ("model.projectors.upm.router.kind=sooft", "did you mean 'soft'?"),
        ("+model.encoders.clip.nam=x", "unknown setting 'nam' in model.encoders.clip"),
        ("+stages.align.module.foo=1", "unknown setting 'foo' in stages.align.module"),
        ("modalities.image.tokenizer._target_=modalign.models.tokenizers.patch.PatchTokeniser", "did you mean"),
    ],
)
def test_parts_that_would_not_build_are_told_before_the_first_phase_trains(train, tiny_runs, tmp_path, line, message):
    words = ["stage=align", "modality=image", *tiny_runs.settings, f"paths.runs={tmp_path}", line]
    assert message in refusal(train, *words)
    assert not list(tmp_path.iterdir())
