"""How soon a command trains: its first optimizer step beyond what importing the libraries takes."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIMIT_S = 12.0
# The embedded model at its own size on a few samples; sound comes after image, which it replays.
COMMAND = (
    "stage=align", "modality=audio", "world=tiny", "model.backbones_from=shipped", "trainer.accelerator=cpu",
    "curriculum.groups=[[image],[audio]]", "trainer.progress=false",
)  # fmt: skip
STAMPED = """
import runpy, sys, time
main = runpy.run_path("train.py", run_name="train")["main"]
import modalign.stages.curriculum_run, modalign.models.encoders.open_clip_tower, modalign.models.projectors.upm
import modalign.models.pretrained, modalign.models.text_tokenizer, transformers.models.llama.modeling_llama
from modalign.stages.base import StageModule

class Stepped(BaseException):
    pass

def stepped(self, trainer, *arguments, **options):
    raise Stepped

from modalign.callbacks.checkpoints import StepCheckpoints
StepCheckpoints.on_train_batch_end = stepped
begin = time.perf_counter()
try:
    main(sys.argv[1:])
except Stepped:
    sys.stdout.write(f"first step after {time.perf_counter() - begin:.2f} s\\n")
"""


@pytest.mark.slow
@pytest.mark.alone
def test_the_first_optimizer_step_is_done_within_twelve_seconds_beyond_imports(train_command, tmp_path):
    words = (*COMMAND, f"paths.runs={tmp_path / 'runs'}", f"paths.data={tmp_path / 'data'}")
    few = ("stages.align.steps=1", "stages.align.slices_per_step=1")
    made = train_command(*words, *few, timeout=600)
    assert made.returncode == 0, made.stderr[-2000:]
    again = subprocess.run(
        [sys.executable, "-c", STAMPED, *words, *few, "fresh=true"],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr[-2000:]
    (said,) = (line for line in again.stdout.splitlines() if line.startswith("first step after"))
    sys.stderr.write(said + "\n")
    assert float(said.split()[3]) < LIMIT_S
