"""Which files of a source are images: by their names, and by their first bytes where names say nothing.

What is there and cannot be read is an item like any other, so that it is counted (``not_read_here.heic``).
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath

IMAGE_SUFFIXES = {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".bmp", ".dib", ".tif", ".tiff",
    ".gif", ".avif", ".ppm", ".pgm", ".pbm", ".pnm",
}  # fmt: skip
# Beside images these are no images, whatever is in them; opening millions of them would take hours.
_BESIDE = {
    ".json", ".jsonl", ".txt", ".csv", ".tsv", ".xml", ".yaml", ".yml", ".md", ".html", ".log", ".parquet",
    ".npy", ".npz", ".pt", ".safetensors", ".md5", ".sha256", ".crc", ".py", ".sh", ".mat", ".cache", ".ini",
}  # fmt: skip
_DRAWN = {".svg", ".eps", ".ps", ".xbm", ".xpm"}  # pictures that look like text
# What operating systems leave behind, also inside archives
JUNK_FOLDER = "__MACOSX"
_JUNK = {"thumbs.db", "desktop.ini", ".ds_store"}
_BEGINNINGS = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n|GIF8[79]a|RIFF....WEBP|II\*\x00|MM\x00\*|....ftypavi[fs]"
    rb"|P[1-6]\s+[#\d]|BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\x00",
    re.DOTALL,
)
LOOKED_AT = 512  # bytes of a file that say what it is


def is_junk(name: str) -> bool:
    """Whether a file is what an operating system leaves beside the user's: ``._a.jpg``, ``Thumbs.db``,
    ``.DS_Store``, anything in ``__MACOSX``."""
    path = PurePosixPath(name)
    return path.name.startswith("._") or path.name.lower() in _JUNK or JUNK_FOLDER in path.parts


def is_image(name: str) -> bool:
    """Whether a file's name ends as an image's does, and is no junk."""
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES and not is_junk(name)


def look_through(folder: Path, names: Iterable[str]) -> Iterator[tuple[str, str | None]]:
    """``(name, problem)`` of the files of one folder that are images, or may be: the problem is None for an
    image, otherwise the cause under which the file is counted. Junk and what stands beside images (JSON,
    texts) is passed over."""
    for name in names:
        if is_image(name):
            yield name, None
        elif not is_junk(name):
            kind, problem = judge(name, partial(_beginning, folder / name))
            if kind != "text":
                yield name, problem


def judge(name: str, beginning: Callable[[], bytes]) -> tuple[str, str | None]:
    """What a file is whose name is no image's: ``image``, ``text`` (also what usually lies beside images, and
    what is empty), or ``unknown``; and the cause under which the latter is counted. ``beginning`` reads its
    first LOOKED_AT bytes; OSError and ValueError where they cannot be had make it unknown, too."""
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in _BESIDE:
        return "text", None
    try:
        kind = kind_of(beginning())
    except (OSError, ValueError):
        kind = "unknown"
    if kind == "text" and suffix in _DRAWN:
        kind = "unknown"
    return kind, f"not_read_here{suffix}" if kind == "unknown" else None


def _beginning(path: Path) -> bytes:
    if not stat.S_ISREG(path.stat().st_mode):
        return b""
    with open(path, "rb") as file:
        return file.read(LOOKED_AT)


def kind_of(beginning: bytes) -> str:
    """What a file is by its first LOOKED_AT bytes: ``image`` (of a format that is read), ``text`` or
    ``unknown``."""
    if _BEGINNINGS.match(beginning):
        return "image"
    if beginning.startswith(b"%PDF") or b"\0" in beginning:
        return "unknown"
    try:
        beginning.decode("utf-8")
    except UnicodeDecodeError as error:
        # A letter whose end is cut off is one
        return "text" if error.start > len(beginning) - 4 else "unknown"
    return "text"
