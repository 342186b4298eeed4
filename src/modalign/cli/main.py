"""The console script `modalign <verb>`: everything but training; each verb lies in a file of its own."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from modalign.cli.terminal import exit_with, say, warn
from modalign.errors import ModalignError, unknown_name

# Verb to what it does; the module that does it has the verb's name, with "_" for "-", and a function `run`.
VERBS = {
    "recipes": "list the recipes: modality, size, licence, whether their shards are there",
    "world": "make the embedded world's shards",
    "shards": "make a recipe's shards from its raw copy",
    "index": "index a WebDataset folder that somebody else made",
    "verify": "read every byte of a recipe's shards and say what is damaged",
    "show": "print a recipe's samples as training sees them, supervised tokens marked",
    "new-modality": "read one sample of a new sensor and write its YAML",
    "plan": "say which runs a training command would make and what they would cost, without making them",
    "bench": "measure training against its peers, in ratios",
    "slurm-script": "write a training command as a job script for SLURM",
    "ask": "put a question about a picture, a sound, any mix of sensors, to a run",
    "evaluate": "measure a finished run again",
    "benchmark": "measure a finished run on published benchmarks, beside OneLLM's score",
    "probe": "say what a finished run does with each of its sensors: used, ignored, routed where",
    "ledger": "print a curriculum's matrix of phases by modalities",
    "report": "write the report of a run or a curriculum again",
    "ablate": "run studies: arms of a few differing settings, paired seeds, compared with intervals",
    "inspect": "train one optimizer step of a run again, show what it saw and prove its bits",
    "compare": "put two runs side by side: settings, data, parts that trained, scores with intervals",
    "page": "put any number of runs on one HTML page with pictures",
    "wandb-report": "build the W&B workspace or report of an experiment",
    "check": "check a finished curriculum or run against its declaration",
    "convert": "read a released OneLLM checkpoint into our parts, or write it back",
    "ship-backbones": "train the embedded backbones and put them into the package",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if not words or words[0] in ("-h", "--help", "help"):
            say(help_text())
            return 0 if words else 2
        if words[0] == "--version":
            from modalign import __version__

            say(__version__)
            return 0
        return run_verb(words[0], words[1:])
    except ModalignError as error:
        exit_with(error)
    except KeyboardInterrupt:
        warn("stopped")
        return 130
    except BrokenPipeError:
        # The reader of our output (head, less) has left; nothing may be written to it at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def run_verb(verb: str, arguments: Sequence[str]) -> int:
    """Run `verb`; an unknown one names the nearest."""
    if verb not in VERBS:
        raise unknown_name("verb", verb, VERBS, "modalign")
    module = importlib.import_module(f"modalign.cli.{verb.replace('-', '_')}")
    return int(module.run(arguments))


def help_text() -> str:
    """What `modalign --help` says."""
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:<{width}}  {summary}" for verb, summary in VERBS.items())
    return (
        "usage: modalign <verb> ...        (modalign <verb> --help tells more)\n\n"
        f"{verbs}\n\n"
        "training is `python train.py`, whose --help lists stages, modalities, models and settings"
    )


if __name__ == "__main__":
    sys.exit(main())
