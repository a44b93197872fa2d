"""A folder of images and nothing else, and how every reader walks through folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from granvit.data.sources.adapters.file_kinds import JUNK_FOLDER, look_through
from granvit.data.sources.items import Place, RawItem
from granvit.errors import GranvitError

OPTIONS = {"images": "the folder of images (images where there is one, otherwise the source's folder itself)"}


def read_folder(root: Path, settings: dict[str, str]) -> Iterator[RawItem]:
    """``images/``, or the folder itself where there is none, at any depth and through links: boxes and text
    come from the annotators."""
    default = "images" if (Path(root) / "images").is_dir() else "."
    images = Path(root) / settings.get("images", default)
    for name, problem in image_files(images):
        yield RawItem(name, Place((images / name).relative_to(root).as_posix(), problem=problem))


def walk(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Each folder below ``folder`` and itself (``.``), relative to it, with the names of its files, in an
    order of the names alone. Links are followed, but never back into a folder they came from.

    Raises GranvitError for a folder that cannot be listed, since its files would be missed unseen.
    """
    above = {os.fspath(folder): {os.path.realpath(folder)}}  # where a folder to visit and its parents lie
    for place, folders, names in os.walk(folder, onerror=_unlisted, followlinks=True):
        here = above.pop(place)
        folders[:] = sorted(name for name in folders if name != JUNK_FOLDER)
        for name in list(folders):
            real = os.path.realpath(os.path.join(place, name))
            if real in here:
                folders.remove(name)
            else:
                above[os.path.join(place, name)] = here | {real}
        yield Path(place).relative_to(folder).as_posix(), sorted(names)


def _unlisted(error: OSError) -> None:
    raise GranvitError(
        f"{error.filename}: this folder cannot be listed ({error.strerror}); put the source's files there or "
        "make it readable, or name another folder in the row's `options` (docs/data.md)"
    ) from error


def below(folder: str, name: str) -> str:
    """The name that a file of one of ``walk``'s folders has from the first of them."""
    return os.path.normpath(f"{folder}/{name}")


def image_files(folder: Path) -> Iterator[tuple[str, str | None]]:
    """``(name, problem)`` of the image files at any depth below ``folder``, relative to it, as
    ``look_through`` finds them: of two with one stem, which are duplicates, the first is taken."""
    for place, names in walk(folder):
        for name, problem in look_through(folder / place, names):
            yield below(place, name), problem


def container_files(root: Path, pattern: str, suffix: str) -> list[str]:
    """Files (tars, Parquet) that match ``pattern`` below ``root``, relative to it, sorted.

    A folder that matches and is called like a file stands for the files of that suffix in it: Spark writes
    one table as such a folder. Raises GranvitError for a pattern that is none, a broken link, a pipe.
    """
    parts, files = _parts(root, pattern), []
    for folder, names in walk(root):
        above = [PurePosixPath(folder), *PurePosixPath(folder).parents]
        inside = any(_fits(place.parts, parts) for place in above if place.suffix == suffix)
        for path in (below(folder, name) for name in names):
            if (inside and path.endswith(suffix)) or _fits(tuple(path.split("/")), parts):
                if not (root / path).is_file():
                    raise GranvitError(
                        f"{root / path}: a broken link or no regular file; fetch it again or remove it"
                    )
                files.append(path)
    return sorted(files)


def _parts(root: Path, pattern: str) -> tuple[str, ...]:
    """The parts of a pattern. Raises GranvitError for one that is none, or that leaves ``root``."""
    parts = PurePosixPath(pattern).parts
    if not parts or parts[0] == "/" or any(p == ".." or ("**" in p and p != "**") for p in parts):
        raise GranvitError(
            f"{root}: option files is {pattern!r}, which is no pattern; expected names below that folder, in "
            "which * stands for letters and a part ** for any folders, such as **/*.tar"
        )
    return parts


def _fits(path: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Whether a path, part by part, fits a pattern: ``**`` is any number of folders. (pathlib's own patterns
    pass over folders that are links.)"""
    if not path or not pattern:
        return not path and not pattern
    if pattern[0] == "**":
        return _fits(path, pattern[1:]) or _fits(path[1:], pattern)
    return fnmatchcase(path[0], pattern[0]) and _fits(path[1:], pattern[1:])
