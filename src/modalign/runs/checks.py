"""What can be told of a run at once: whether it is finished, and which code and packages are at work."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import modalign
from modalign.errors import ModalignError
from modalign.runs.manifest import Manifest, find_manifest
from modalign.runs.sealed import checkpoint_digest, verify_checkpoint

PACKAGES = (
    "torch", "torchvision", "lightning", "transformers", "tokenizers", "safetensors", "open_clip_torch", "hydra-core",
    "numpy", "av", "soundfile", "pillow", "webdataset",
)  # fmt: skip


def finished_run(folder: Path, identity: str) -> Manifest | None:
    """The manifest of the run in `folder` if it is finished and has this full identity, else None; no tensor is read.

    ModalignError where it says finished but its checkpoint is gone, cut short or another one.
    """
    manifest = find_manifest(folder)
    if manifest is None or manifest.identity != identity or manifest.status != "finished":
        return None
    if manifest.checkpoint is None:
        return manifest
    checkpoint = Path(folder) / manifest.checkpoint["path"]
    if not checkpoint.is_dir():
        raise ModalignError(
            f"run {manifest.name} is finished but its checkpoint {checkpoint} is gone: put it back, or delete {folder} "
            f"and give the command again"
        )
    verify_checkpoint(checkpoint, quick=True)
    digest = checkpoint_digest(checkpoint)
    if digest != manifest.checkpoint["digest"]:
        raise ModalignError(
            f"run {manifest.name} is finished with checkpoint digest {manifest.checkpoint['digest'][:12]}, but "
            f"{checkpoint} has {digest[:12]}: put the right one back, or delete {folder} and give the command again"
        )
    return manifest


def code_state() -> dict[str, Any]:
    """`version`, and where the package lies in a git working tree that tracks it, `revision` and `dirty`; else None."""
    package = Path(modalign.__file__).resolve()
    revision = dirty = None
    # A virtual environment inside somebody's own repository: that repository's revision says nothing of this code.
    if _git(package.parent, "ls-files", "--error-unmatch", package.name) is not None:
        revision = _git(package.parent, "rev-parse", "HEAD")
        changes = _git(package.parent, "status", "--porcelain", "--untracked-files=no")
        dirty = None if changes is None else bool(changes)
    return {"version": modalign.__version__, "revision": revision, "dirty": dirty}


def package_versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Versions of Python and of those packages that are installed, read without importing them."""
    versions = {"python": platform.python_version()}
    for name in packages:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def processor() -> str:
    """The processor's name as the system tells it, which decides what kernels a library takes."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    fields = (line.partition(":") for line in text.splitlines())
    return next((value.strip() for key, _, value in fields if key.strip() == "model name"), platform.machine())


def _git(folder: Path, *arguments: str) -> str | None:
    """What git answers, None where it is not installed, refuses or takes long."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None
