"""What a finished training must prove: frozen parts unchanged to the bit, every part that trains with a gradient."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from modalign.errors import ModalignError
from modalign.models.freezing import frozen_digest, merged_proofs
from modalign.runs.manifest import Manifest
from modalign.stages.base import StageModule

log = logging.getLogger(__name__)


def prove(manifest: Manifest, module: StageModule, before: Mapping[str, str]) -> None:
    """Note in the manifest's freeze map what is proved; ModalignError names the parts that break the contract.

    `before` holds the digests of the frozen parts as they were; the first process alone has them, and judges.
    """
    ranks = module.ranks
    after = frozen_digest(module.model, module.plan.frozen, judge=ranks.first)
    module.proof.load(merged_proofs(ranks.gather(module.proof.state())))
    if not ranks.first:
        return
    gradients = module.proof.result()
    for part in manifest.parts:
        name = part["name"]
        if part["trains"]:
            part["gradient"] = gradients[name]
        else:
            part["unchanged"] = before[name] == after[name]
    changed = [p["name"] for p in manifest.parts if p["unchanged"] is False]
    if changed:
        raise ModalignError(f"frozen parts changed during {manifest.name}: {', '.join(changed)}")
    broken = [f"{n} ({v})" for n, v in gradients.items() if v != "ok"]
    if broken and not explained(gradients):
        raise ModalignError(f"parts that should train had no usable gradient: {', '.join(broken)}")
    if broken:
        log.warning("no gradient reached %s", ", ".join(broken))


def explained(gradients: Mapping[str, str]) -> bool:
    """One of several experts that a sparse router never chose may stay without; a whole part may not."""
    whole: dict[str, list[str]] = {}
    for name, verdict in gradients.items():
        whole.setdefault(name.rsplit(".", 1)[0] if ".experts." in name else name, []).append(verdict)
    return all("ok" in verdicts and "nonfinite" not in verdicts for verdicts in whole.values())
