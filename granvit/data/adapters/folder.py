"""A folder of images and nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from granvit.data.adapters.items import Place, RawItem
from granvit.errors import GranvitError

OPTIONS = {"images": "the folder of images (images)"}
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}


def read_folder(root: Path, settings: dict[str, str]) -> Iterator[RawItem]:
    """``images/``, at any depth and through links: boxes and text come from the annotators."""
    images = Path(root) / settings.get("images", "images")
    for name in image_files(images):
        yield RawItem(name, Place((images / name).relative_to(root).as_posix()))


def image_files(folder: Path) -> Iterator[str]:
    """Image files below ``folder``, relative to it, in an order of their names alone: two of one stem are
    duplicates, of which the first is taken. Links are followed, but never back into a folder they came from.
    """
    above = {
        os.fspath(folder): {os.path.realpath(folder)}
    }  # of a folder to visit: where it and its parents lie
    for place, folders, names in os.walk(folder, followlinks=True):
        here = above.pop(place)
        folders.sort()
        for name in list(folders):
            real = os.path.realpath(os.path.join(place, name))
            if real in here:
                folders.remove(name)
            else:
                above[os.path.join(place, name)] = here | {real}
        for name in sorted(names):
            if Path(name).suffix.lower() in IMAGE_SUFFIXES:
                yield (Path(place) / name).relative_to(folder).as_posix()


def container_files(root: Path, pattern: str, suffix: str) -> list[str]:
    """Files (tars, Parquet) that match ``pattern`` below ``root``, relative to it, sorted.

    A folder that matches and is called like a file stands for the files of that suffix in it: Spark writes
    one table as such a folder. Raises GranvitError for a pattern that is none, a broken link, a pipe.
    """
    try:
        found = set(root.glob(pattern))
    except (ValueError, NotImplementedError) as error:  # the latter is pathlib's for a pattern like /x/*
        raise GranvitError(f"{root}: option files is {pattern!r}, which is no pattern ({error})") from error
    for path in [path for path in found if path.name.endswith(suffix) and path.is_dir()]:
        found.update(path.rglob(f"*{suffix}"))
    files = [path for path in found if not path.is_dir()]
    for path in files:
        if not path.is_file():
            raise GranvitError(f"{path}: a broken link or no regular file; fetch it again or remove it")
    return sorted(path.relative_to(root).as_posix() for path in files)
