"""What `python train.py --help` says: the command, and every stage, modality, model, curriculum and recipe by name."""

from __future__ import annotations

from modalign.config.compose import modality_names, modality_set, options
from modalign.config.places import recipe_folder

TEXT = """modalign: give a language model new senses, one after another, without forgetting the earlier ones

usage
  python train.py                                the whole curriculum, continuing where an earlier call left off
  python train.py stage=align modality=audio     one phase, and what it stands on
  python train.py stage=instruct                 instruction tuning on all aligned modalities
  python train.py fresh=true ...                 start anew beside an earlier run
  python train.py --config-dir DIR ...           add your own YAML files (groups as in conf/)
  python train.py --multirun seed=0,1,2 ...      one run for each value (Hydra)
  modalign --help                                everything else: shards, verify, show, evaluate, ask, report ...

any setting is overridden as key=value, e.g. stages.align.steps=300 trainer.precision=bf16-mixed logger=wandb
"""


def train_help() -> str:
    """The whole help text, read from the configuration folders."""
    recipes = sorted(path.stem for path in recipe_folder().glob("*.yaml"))
    lists = {
        "stages": options("stages"),
        "modalities": modality_names(modality_set([])),
        "models": options("model"),
        "curricula": options("curriculum"),
        "worlds": options("world"),
        "data": options("data"),
        "experiments": options("experiment"),
        "loggers": options("logger"),
        "trainers": options("trainer"),
        "hardware": options("hardware"),
        "debug": options("debug"),
        "language models": options("model/language_model"),
        "encoders": options("model/encoder"),
        "recipes": recipes,
    }
    width = max(len(name) for name in lists)
    return TEXT + "\n" + "\n".join(f"{name:<{width}}  {', '.join(names) or '-'}" for name, names in lists.items())
