"""The order in which modalities are taught: largest dataset first, or groups that somebody declared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from modalign.errors import ModalignError, unknown_name

Groups = tuple[tuple[str, ...], ...]


def by_size(sizes: Mapping[str, int], declared: Sequence[str]) -> Groups:
    """One modality a group, largest dataset first, ties in declared order.

    `sizes` counts training samples by modality; a declared modality without a size, or with none, is an error.
    """
    for name in declared:
        if name not in sizes:
            raise ModalignError(
                f"modality '{name}' has no recipe, so the curriculum cannot place it by size: sizes are known for "
                f"{_listing(sizes)}; give it a recipe or leave it out of `modalities`"
            )
        if sizes[name] <= 0:
            raise ModalignError(f"modality '{name}' has {sizes[name]} training samples: its recipe needs at least 1")
    _refuse_repeats(declared, "modalities")
    rank = {name: position for position, name in enumerate(declared)}
    return tuple((name,) for name in sorted(declared, key=lambda name: (-sizes[name], rank[name])))


def declared_groups(groups: Iterable[str | Sequence[str]], known: Iterable[str]) -> Groups:
    """The groups as somebody declared them, checked: every name known, none twice, no group empty."""
    known = tuple(known)
    checked: list[tuple[str, ...]] = []
    for position, group in enumerate(groups):
        names = (group,) if isinstance(group, str) else tuple(group)
        if not names:
            raise ModalignError(f"curriculum group {position} is empty: name at least one of {_listing(known)}")
        for name in names:
            if name not in known:
                raise unknown_name("modality", name, known, where=f"curriculum group {position}")
        checked.append(names)
    if not checked:
        raise ModalignError(f"the curriculum has no groups: declare at least one of {_listing(known)}")
    _refuse_repeats([name for names in checked for name in names], "the curriculum's groups")
    return tuple(checked)


def _refuse_repeats(names: Sequence[str], where: str) -> None:
    repeated = sorted({name for name in names if list(names).count(name) > 1})
    if repeated:
        raise ModalignError(f"{_listing(repeated)} named more than once in {where}: each modality is taught once")


def _listing(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
