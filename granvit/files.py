"""Files of the workflow: written so that nothing half-written is ever found under its final name, and
read."""

from __future__ import annotations

import csv
import errno
import glob
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from granvit.errors import GranvitError

FULL = (errno.ENOSPC, errno.EDQUOT)
_SHARD_NAME = re.compile(r"[0-9]{5}")


@contextmanager
def naming_full_disk(path: str | Path) -> Iterator[None]:
    """Within it, a disk that is full is a GranvitError with the file that was written and the space left.

    Libraries in other languages wrap the system's error in types of their own, but keep its text; others,
    torch among them, stumble over it when they close the file, and have it as their error's context.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, GranvitError) or not _is_full_disk(error):
            raise
        folder = next(parent for parent in Path(path).absolute().parents if parent.exists())
        free = shutil.disk_usage(folder).free / 2**20
        raise GranvitError(
            f"disk: {path} cannot be written: no space is left, or a quota is used up ({free:.1f} MiB free "
            f"in {folder}). Make room there, then start the same command again"
        ) from error


def _is_full_disk(error: BaseException | None) -> bool:
    while error:
        number, texts = getattr(error, "errno", None), (os.strerror(full) for full in FULL)
        if number in FULL or any(text in str(error) for text in texts):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; move it there on success, remove it on failure. Raises
    GranvitError where the disk is full."""
    path = Path(path)
    temporary = _temporary(path)
    try:
        with naming_full_disk(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            os.replace(temporary, path)
    finally:
        with suppress(FileNotFoundError, NotADirectoryError):
            temporary.unlink()


@contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """Yield a new empty folder beside ``path``, which is moved there on success and removed on failure. What
    was there before is for the caller to remove: a folder with anything in it is not replaced. Raises
    GranvitError where the disk is full."""
    path = Path(path)
    temporary = _temporary(path)
    shutil.rmtree(temporary, ignore_errors=True)  # of a killed process that had this number
    try:
        with naming_full_disk(path):
            temporary.mkdir(parents=True)
            yield temporary
            _share(temporary)
            os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _share(folder: Path) -> None:
    """Give files that their library wrote for their owner alone (safetensors does) the mode of any other."""
    plain = folder / ".plain"
    plain.touch()
    mode = stat.S_IMODE(plain.stat().st_mode)
    plain.unlink()
    for path in folder.rglob("*"):
        found = path.lstat()
        if stat.S_ISREG(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o600 and found.st_nlink == 1:
            path.chmod(mode)


def copy_folder(source: str | Path, target: str | Path) -> None:
    """A folder under another name, whole or not at all; its files are links to the same bytes where the disk
    has such links (both names mean the same file: neither may be changed in place)."""
    remove_leftovers(target)
    with whole_folder(target) as folder:
        own = shutil.ignore_patterns(".snakemake_*")  # Snakemake keeps the time of a folder in a file
        shutil.copytree(source, folder, copy_function=_link, dirs_exist_ok=True, ignore=own)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


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


def file_hash(path: str | Path) -> str:
    """sha256 of a file's bytes, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_writable(*folders: str | Path) -> None:
    """Raise GranvitError where one of the folders is there, but nothing can be written into it."""
    for folder in folders:
        if os.path.isdir(folder) and not os.access(folder, os.W_OK):
            raise GranvitError(
                f"{folder}: nothing can be written here (the folder or its disk is read-only for you), so "
                "no job can leave its results; make it writable, or run in a checkout of your own. "
                "`snakemake -n` plans here too"
            )


def is_hub_id(path: str) -> bool:
    """Whether a model's path (config/encoders.yaml, llms.yaml, a command line) is a hub id, ``owner/name``,
    and not a place on this disk."""
    place = Path(path)
    here = place.exists() or place.parent.exists()
    return len(place.parts) == 2 and not (here or place.is_absolute() or path.startswith((".", "~")))


def read_json(path: str | Path) -> dict[str, Any]:
    """The mapping of a JSON file that a job of the workflow wrote. Raises GranvitError where it is missing,
    broken or no mapping, and says how to make it."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("expected a mapping")
    except FileNotFoundError:
        raise GranvitError(f"{path}: no such file; make it with `snakemake {path}`") from None
    except (OSError, ValueError) as error:
        raise GranvitError(
            f"{path}: cannot be read ({error}); delete it, and make it again with `snakemake {path}`"
        ) from None
    return content


def write_csv(path: str | Path, header: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a CSV with Unix line ends."""
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
