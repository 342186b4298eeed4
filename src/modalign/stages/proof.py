"""What a finished training must prove: frozen parts unchanged to the bit, every part that trains with a gradient."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from modalign.errors import ModalignError
from modalign.models.freezing import frozen_digest, merged_proofs
from modalign.runs.manifest import Manifest
from modalign.stages.base import StageModule

log = logging.getLogger(__name__)

_NAMED = ("llm",)  # read from a folder or the hub, and held by no run while it is frozen


def note_frozen(
    manifest: Manifest, before: Mapping[str, str], earlier: Manifest | None, parent: Manifest | None
) -> None:
    """Keep the digest of what is frozen in the manifest; ModalignError where it is not what it was.

    It was that in an earlier sitting of the run, and, of weights that no run holds, in the run's parent.
    """
    for part in manifest.parts:
        if not part["trains"]:
            part["digest"] = before.get(part["name"])
    if earlier is not None and earlier.status != "finished":
        refuse_other_weights(earlier, before)
    if parent is not None and _same_source(manifest, parent):
        kept = {name: digest for name, digest in before.items() if name in _NAMED}
        refuse_other_weights(parent, kept)


def refuse_other_weights(known: Manifest, now: Mapping[str, str]) -> None:
    """ModalignError where a part that was frozen in a run has other bits now."""
    for part in known.parts:
        was = None if part["trains"] else part.get("digest")
        found = now.get(part["name"])
        if was and found and was != found:
            raise ModalignError(
                f"{part['name']} is not what it was in {known.name}: the weights that it is read from have changed "
                f"since (SHA-256 {was[:8]} then, {found[:8]} now): put them back, or begin another run (fresh=true)"
            )


def _same_source(one: Manifest, other: Manifest) -> bool:
    """Whether two runs name the same weights of the language model, kept in the same way.

    Not where they are kept in few bits, which a device may choose otherwise.
    """
    kept = ("source", "dtype", "bits")
    ways = [
        {key: value for key, value in m.config.get("model", {}).get("language_model", {}).items() if key in kept}
        for m in (one, other)
    ]
    return ways[0] == ways[1] and isinstance(ways[0].get("source"), str) and ways[0].get("bits") is None


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
