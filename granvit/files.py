"""Writing files so that nothing half-written is ever found under its final name."""

from __future__ import annotations

import csv
import glob
import json
import os
import re
import shutil
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

_SHARD_NAME = re.compile(r"[0-9]{5}")


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; move it there on success, remove it on failure."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


@contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """Yield a new empty folder beside ``path``, which is moved there on success and removed on failure. What
    was there before is for the caller to remove: a folder with anything in it is not replaced."""
    path = Path(path)
    temporary = _temporary(path)
    shutil.rmtree(temporary, ignore_errors=True)  # of a killed process that had this number
    temporary.mkdir(parents=True)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def remove_leftovers(*paths: str | Path) -> None:
    """Remove what a killed job left beside ``paths``; its temporary names are read by nothing, but take room.

    Only for outputs that one job writes at a time, as the workflow's lock sees to.
    """
    for path in map(Path, paths):
        for temporary in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
            if temporary.is_dir():
                shutil.rmtree(temporary)
            else:
                temporary.unlink(missing_ok=True)


def remove_surplus_shards(data: Path, source: str, kept: Collection[str]) -> None:
    """Remove what the steps under ``data`` once made of shards that ``source`` no longer has: patterns such
    as ``packed/*/*.tar`` would find their images a second time.
    """
    for path in data.glob(f"*/{source}/*.*"):
        name = path.name.partition(".")[0]
        if _SHARD_NAME.fullmatch(name) and name not in kept:
            path.unlink()


def write_text(path: str | Path, text: str) -> None:
    """Write a text as UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: object, sort_keys: bool = True) -> None:
    """Write indented JSON with a final newline."""
    write_text(path, json.dumps(value, indent=2, sort_keys=sort_keys, ensure_ascii=False) + "\n")


def write_csv(path: str | Path, header: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a CSV with Unix line ends."""
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
