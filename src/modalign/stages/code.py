"""Which code a run was made by: this package's version and revision, and the own modules that its settings name."""

from __future__ import annotations

import logging

from modalign.runs.checks import code_state
from modalign.runs.folder import RunFolder
from modalign.runs.manifest import Manifest
from modalign.runs.sealed import newest_valid
from modalign.targets import own_code

log = logging.getLogger(__name__)
OWN = "own"


def note_code(manifest: Manifest, folder: RunFolder, parent: RunFolder | None) -> None:
    """Keep it in the manifest; warn of own modules that are other than in the sitting that left a checkpoint in
    `folder`, or than in the run's parent."""
    own = own_code(manifest.config)
    manifest.code = code_state() | ({OWN: own} if own else {})
    earlier = folder.manifest() if newest_valid(folder.checkpoints) is not None else None
    for known in (earlier, parent.manifest() if parent else None):
        if known is not None:
            warn_of_changes(known)


def warn_of_changes(known: Manifest) -> None:
    """Warn of each own module that has changed since the run was made, or is gone."""
    for told in code_changes(known):
        log.warning("%s: %s; results may not be comparable", known.name, told)


def code_changes(known: Manifest) -> list[str]:
    """What is other in a run's own modules than when it was made."""
    was, now = known.code.get(OWN, {}), own_code(known.config)
    return [
        f"{module} has changed: SHA-256 {digest[:8]} then, {now.get(module, 'gone')[:8]} now"
        for module, digest in was.items()
        if now.get(module) != digest
    ]
