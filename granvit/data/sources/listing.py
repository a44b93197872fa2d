"""What lies below a folder: how many images, and some files of each other kind by their names."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from granvit.data.sources.adapters.file_kinds import is_junk, look_through
from granvit.data.sources.adapters.folder import below, walk
from granvit.errors import GranvitError

_KEPT = 200  # files of a kind that are remembered
_STEMS = 10_000  # images whose names are
_LENGTH = 1 << 16  # characters of a text that say what it is
_LABELS = {".json", ".jsonl", ".txt", ".csv", ".xml", ".yaml", ".yml", ".tar", ".parquet"}


@dataclass
class Listing:
    """What lies below a folder. ``images``: folder -> how many images; ``stems``: paths of some images
    without their suffix; ``files``: suffix -> paths of some files, ``counts``: suffix -> how many."""

    root: Path
    images: Counter[str] = field(default_factory=Counter)
    stems: set[str] = field(default_factory=set)
    files: dict[str, list[str]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    unread: Counter[str] = field(default_factory=Counter)

    def of(self, *suffixes: str) -> list[str]:
        return [path for suffix in suffixes for path in self.files.get(suffix, ())]

    @property
    def image_count(self) -> int:
        return self.images.total()


def list_folder(root: Path) -> Listing:
    """What lies below ``root``. Raises GranvitError where it is no folder, or one that cannot be listed."""
    if not root.is_dir():
        problem = "is no folder" if root.exists() else "does not exist"
        raise GranvitError(f"{root}: {problem}; give a folder of images, or of shards")
    found = Listing(root)
    for place, names in walk(root):
        for name in names:
            suffix = PurePosixPath(name).suffix.lower()
            if suffix in _LABELS and not is_junk(name):
                found.counts[suffix] += 1
                kept = found.files.setdefault(suffix, [])
                if len(kept) < _KEPT:
                    kept.append(below(place, name))
        for name, problem in look_through(root / place, names):
            if problem:
                found.unread[problem.removeprefix("not_read_here")] += 1
                continue
            found.images[place] += 1
            if len(found.stems) < _STEMS:
                found.stems.add(stem_of(below(place, name)))
    return found


def stem_of(path: str) -> str:
    """A path without its suffix."""
    return str(PurePosixPath(path).with_suffix(""))


def beginning(path: Path) -> str:
    """The first characters of a text; nothing where it cannot be read."""
    with suppress(OSError), open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
        return file.read(_LENGTH)
    return ""


def first_line(path: Path) -> str:
    """The first line that is not empty, without its end; of a long one the beginning."""
    return next((line.strip() for line in beginning(path).splitlines() if line.strip()), "")
