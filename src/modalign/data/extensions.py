"""The one table of file extensions that are ever decoded; everything else is refused, and nothing is unpickled."""

from __future__ import annotations

import difflib

from modalign.errors import ModalignError

MEDIA_EXTENSIONS: dict[str, str] = {
    "jpg": "picture",
    "jpeg": "picture",
    "png": "picture",
    "webp": "picture",
    "bmp": "picture",
    "tif": "picture",
    "tiff": "picture",
    "mp4": "video",
    "mov": "video",
    "mkv": "video",
    "webm": "video",
    "avi": "video",
    "flac": "sound",
    "wav": "sound",
    "mp3": "sound",
    "ogg": "sound",
    "npy": "array",
    "npz": "arrays",
    "csv": "table of numbers",
    "ply": "point cloud",
}
"""Extension to what it holds."""

TEXT_EXTENSIONS = frozenset({"json"})
"""Extensions of the member that holds a sample's words."""


def check_media_extension(extension: str, where: str) -> str:
    """Return `extension` where it may be decoded; raises ModalignError for any other (.pyd, .pkl, .pth …).

    The last part decides ("left.jpg" is a picture); "jpg+png" names several members that one decoder takes together.
    """
    for member in extension.split("+"):
        last = member.rsplit(".", 1)[-1].lower()
        if last not in MEDIA_EXTENSIONS:
            raise _refused(member, where, MEDIA_EXTENSIONS)
    return extension


def check_text_extension(extension: str, where: str) -> str:
    """Return `extension` where it may hold a sample's words; raises ModalignError for any other."""
    if extension.rsplit(".", 1)[-1].lower() not in TEXT_EXTENSIONS:
        raise _refused(extension, where, TEXT_EXTENSIONS)
    return extension


def _refused(extension: str, where: str, known: dict[str, str] | frozenset[str]) -> ModalignError:
    names = sorted(known)
    nearest = difflib.get_close_matches(extension, names, n=1, cutoff=0.5)
    suggestion = f"did you mean .{nearest[0]}? " if nearest else ""
    return ModalignError(
        f"{where}: files of type .{extension} are refused (nothing is unpickled or executed); {suggestion}"
        f"decoded are: {', '.join(names)}"
    )
