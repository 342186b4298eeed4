"""Which subject or device a file is of, where a modality's tokenizer has a size for each."""

from __future__ import annotations

from collections.abc import Mapping

from modalign.config.schema import ModalitySettings
from modalign.errors import ModalignError, unknown_name

DEFAULT = "default"  # types.DEFAULT_VARIANT, which is not known without torch


def variant_sizes(modalities: Mapping[str, ModalitySettings], modality: str) -> Mapping[str, int]:
    """The size of each variant, as the modality or another that shares its tokenizer declares them; none without."""
    part = modalities[modality].tokenizer.get("part")
    sharing = (other for other in modalities.values() if part and other.tokenizer.get("part") == part)
    declared = (each.tokenizer.get("sizes") for each in (modalities[modality], *sharing))
    return next((sizes for sizes in declared if isinstance(sizes, Mapping)), {})


def check_variant(sizes: Mapping[str, int], variant: str | None, told: str, option: str) -> None:
    """ModalignError unless the variant has a size; without one it is `default`, or the only one there is.

    `told` is what the file is called, `option` how a variant is given there, with {} where its name stands.
    """
    if not sizes or variant in sizes:
        return
    if variant is not None:
        raise unknown_name("variant", variant, sizes, option.format("NAME"))
    if len(sizes) > 1 and DEFAULT not in sizes:
        known = " or ".join(option.format(known) for known in sizes)
        raise ModalignError(f"{told}: of which variant is it? Add {known}")
