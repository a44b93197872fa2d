"""The modification times of results that came from elsewhere.

Snakemake plans by modification times where a file is large or a folder. `dvc pull` gives new ones, in no
order. Snakemake's own records hold the time of each output, so a file gives it back to whatever is, by DVC's
hashes, the same as when it was recorded. What was changed by hand keeps its time.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from granvit.errors import GranvitError

RECORDS = Path(".snakemake/metadata")  # one JSON an output, named by its path
# Written when all is in order: times later than its own are those of DVC commands that came since. It holds
# its own inode, by which a copy of the checkout is known.
STAMP = Path(".snakemake/times_given_back")
TOUCHED_BY_DVC = (Path("dvc.lock"), Path(".dvc/tmp/lock"), Path(".dvc/tmp/rwlock"))
NOTHING = 1e-3  # seconds; a file system that keeps no microseconds is no copy


class Record(NamedTuple):
    """What Snakemake wrote of an output, in a ``file`` of its own: modification time and inputs."""

    time: float
    inputs: list[str]
    file: Path


@dataclass(frozen=True)
class Unchanged:
    """What DVC's lock file knows: ``outs`` and ``sources`` (dependencies), without the files and folders
    ``changed``."""

    outs: set[Path]
    sources: set[Path]
    changed: set[Path]

    def out(self, path: Path) -> bool:
        """Whether an output, file or folder, is as a whole what it was."""
        return self._inside(path, self.outs)

    def source(self, path: Path) -> bool:
        """The same of a file that no job makes."""
        return self._inside(path, self.sources)

    def _inside(self, path: Path, roots: set[Path]) -> bool:
        above = {path, *path.parents}
        return bool(above & roots) and not above & self.changed and path not in self._with_changes

    @cached_property
    def _with_changes(self) -> set[Path]:
        return {parent for path in self.changed for parent in path.parents}


def give_back_times() -> str | None:
    """Give all results of the current folder the times that Snakemake recorded, where DVC has touched them
    since and holds them for the same; what to tell the user, or None where nothing was to be done.

    What was made here before an input was pulled stays older than that input. Raises GranvitError where DVC
    cannot be asked, or a time cannot be set.
    """
    if not _is_due():
        return None
    if not os.access(STAMP.parent, os.W_OK):
        return "a read-only checkout: times that DVC has changed stay, so jobs may be planned that are done"
    records = dict(read_records())
    strayed = {path: record.time for path, record in records.items() if _differs(path, record.time)}
    given, kept = {}, []
    if strayed:
        unchanged = ask_dvc()
        # Under its own record: that of another run would pass an old file off as new
        held = {
            path for path, record in records.items() if unchanged.out(path) and unchanged.out(record.file)
        }
        given = {path: time for path, time in strayed.items() if path in held}
        kept = [path for path in strayed if path not in held]
        inputs = given | _aged_sources(records, unchanged)
        made_here = {path: record for path, record in records.items() if path not in held}
        for path, time in {**inputs, **_left_behind(made_here, inputs)}.items():
            _set_time(path, time)
    STAMP.touch()
    STAMP.write_text(str(STAMP.stat().st_ino))
    return _told(list(given), kept)


def read_records() -> Iterator[tuple[Path, Record]]:
    """Every output that Snakemake has a record of."""
    for file in RECORDS.rglob("*"):
        try:
            # A name that is too long is cut into folders, each but the last behind an @
            name = "".join(part.removeprefix("@") for part in file.relative_to(RECORDS).parts)
            output = base64.urlsafe_b64decode(name).decode()
            found = json.loads(file.read_text(encoding="utf-8"))
            record = Record(float(found["endtime"]), [*(found.get("input") or [])], file)
        except (OSError, ValueError, KeyError, TypeError, binascii.Error):
            continue  # a folder, or no record of this version of Snakemake
        yield Path(output), record


def ask_dvc() -> Unchanged:
    """What is in the folder as it was when dvc.lock was committed to git. Not as dvc.lock says now: `dvc
    repro` takes over what was changed by hand, stage by stage, before the next one could see it.

    Files that DVC itself put there are not read again. Raises GranvitError where DVC does.
    """
    try:
        from dvc.repo import Repo  # a second to import

        with Repo(os.curdir) as repo:
            found = repo.data_status(granular=True, with_renames=False)
            stages = list(repo.index.stages)
            outs = {Path(str(out)) for stage in stages for out in stage.outs if out.hash_info}
            deps = [(Path(str(dep)), dep) for stage in stages for dep in stage.deps]
            differing = {path for path, dep in deps if path not in outs and dep.status()}
    except Exception as error:  # DVC raises many types; without an answer, everything might be made again
        raise GranvitError(
            f"dvc.lock: DVC cannot say what of the results it has brought ({error}); `dvc data status` asks "
            f"the same. To plan without it, by modification times alone: `touch {STAMP}`"
        ) from None
    # A folder (it ends in a slash) is named beside what differs in it, and alone where nothing of it is known
    differences = [found[since] for since in ("committed", "uncommitted")]
    changed = {
        Path(path)
        for found in differences
        for kind, paths in found.items()
        for path in paths
        if kind in ("added", "deleted", "unknown", "not_in_cache") or not path.endswith(os.sep)
        if kind != "unchanged"
    }
    sources = {path for path, _ in deps} - outs - differing
    return Unchanged(outs, sources if _is_committed("dvc.lock") else set(), changed)


def _is_committed(file: str) -> bool:
    """Whether git has the file as it is."""
    return subprocess.run(["git", "diff", "--quiet", "HEAD", "--", file], check=False).returncode == 0


def _is_due() -> bool:
    """Whether DVC has written anything here since times were last given back, or the checkout was copied."""
    if not Path("dvc.lock").exists() or not RECORDS.is_dir():
        return False
    newest = max(path.stat().st_mtime for path in TOUCHED_BY_DVC if path.exists())
    if not STAMP.exists():
        return True
    found = STAMP.stat()
    # An empty one is the user's, who does without DVC's answer
    return newest > found.st_mtime or STAMP.read_text() not in ("", str(found.st_ino))


def _carrier(path: Path) -> Path:
    """The file whose time Snakemake takes for that of an output: of a folder, one that it puts there."""
    return path / ".snakemake_timestamp" if path.is_dir() and not path.is_symlink() else path


def _time(path: Path) -> float | None:
    for file in (_carrier(path), path):
        try:
            return file.lstat().st_mtime
        except OSError:
            continue
    return None


def _last_written(path: Path) -> float | None:
    """When an output was last written by anybody: in a folder, the newest file in it."""
    inside = (file.lstat().st_mtime for file in path.rglob("*")) if path.is_dir() else ()
    return max(inside, default=_time(path))


def _differs(path: Path, time: float) -> bool:
    found = _time(path)
    return found is not None and abs(found - time) > NOTHING


def _set_time(path: Path, time: float) -> None:
    carrier, seconds = _carrier(path), int(time)
    nanoseconds = seconds * 10**9 + round((time - seconds) * 1e9)
    try:
        if carrier != path:
            carrier.touch()
        os.utime(carrier, ns=(nanoseconds, nanoseconds), follow_symlinks=False)
    except OSError as error:
        raise GranvitError(
            f"{carrier}: cannot be given its modification time ({error.strerror}), by which Snakemake plans; "
            "make the folder writable for you"
        ) from None


def _aged_sources(records: dict[Path, Record], unchanged: Unchanged) -> dict[Path, float]:
    """Files that no job makes and that are what they were (a clone gives them its own time), with a time
    that is older than whatever was made from them."""
    oldest = min(record.time for record in records.values())
    inputs = {Path(path) for record in records.values() for path in record.inputs} - records.keys()
    return {path: oldest for path in inputs if (_time(path) or 0) > oldest and unchanged.source(path)}


def _left_behind(made_here: dict[Path, Record], inputs: dict[Path, float]) -> dict[Path, float]:
    """Outputs that are older than one of the ``inputs`` is now, with a time before the one that the input is
    about to get: pulled later, it is another than what they were made from."""
    found = {}
    for path, record in made_here.items():
        own = _last_written(path)
        later = [source for source in map(Path, record.inputs) if source in inputs]
        if own is not None and (later := [source for source in later if own < (_time(source) or 0)]):
            found[path] = min(own, *(inputs[source] - 1 for source in later))
    return found


def _told(given: list[Path], kept: list[Path]) -> str | None:
    lines = []
    if given:
        lines += [f"{len(given)} results that DVC holds have the times of their making again"]
    if kept:
        others = f" and {len(kept) - 1} more" if kept[1:] else ""
        lines += [
            f"{kept[0]}{others} changed since a job wrote it, and is not as in dvc.lock: it keeps its time"
        ]
    return "; ".join(lines) or None
