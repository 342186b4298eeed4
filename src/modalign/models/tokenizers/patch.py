"""Tokens of pixels: the patch convolution of a vision transformer, shared by everything that is a picture."""

from __future__ import annotations

from modalign.models.tokenizers.maps import MapTokenizer


class PatchTokenizer(MapTokenizer):
    """Square patches of square pictures, without bias, so that an encoder's own patch convolution can be its start."""

    def __init__(self, width: int, patch_px: int, size_px: int, channels: int = 3) -> None:
        super().__init__(width, patch_px, patch_px, channels, size_px, bias=False)
