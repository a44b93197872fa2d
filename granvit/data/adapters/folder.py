"""A folder of images and nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from granvit.data.adapters.items import Place, RawItem

OPTIONS = {"images": "the folder of images (images)"}
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}


def read_folder(root: Path, settings: dict[str, str]) -> Iterator[RawItem]:
    """``images/``, at any depth and through links: boxes and text come from the annotators."""
    images = Path(root) / settings.get("images", "images")
    for name in image_files(images):
        yield RawItem(name, Place((images / name).relative_to(root).as_posix()))


def image_files(folder: Path) -> Iterator[str]:
    """Image files below ``folder``, relative to it. Links are followed, but never back into a folder they
    came from."""
    above = {
        os.fspath(folder): {os.path.realpath(folder)}
    }  # of a folder to visit: where it and its parents lie
    for place, folders, names in os.walk(folder, followlinks=True):
        here = above.pop(place)
        for name in list(folders):
            real = os.path.realpath(os.path.join(place, name))
            if real in here:
                folders.remove(name)
            else:
                above[os.path.join(place, name)] = here | {real}
        for name in names:
            if Path(name).suffix.lower() in IMAGE_SUFFIXES:
                yield (Path(place) / name).relative_to(folder).as_posix()
