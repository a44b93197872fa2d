"""Whether what lies under ``results/`` is still what the jobs wrote: bytes against the hashes that manifests
and indices hold.

Runs: their files, the parent that they started from, the mixture that they learned from. Shards: every image.
Answers are held against their scores by ``granvit eval score --check``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq

from granvit.data.records.shards import read_image_bytes
from granvit.errors import GranvitError
from granvit.files import file_hash
from granvit.reporting.finished_runs import Run, finished_runs

Look = Callable[[str], None]  # told what is looked at next


class Fault(NamedTuple):
    """A file that is not what was written, what is wrong with it, and the command that makes it again."""

    file: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.file}: {self.what}; {self.remedy}"


class Report(NamedTuple):
    """``checked``: files whose bytes (or size, quickly) were held against a hash; ``unknown``: runs of an
    older version, whose manifests hold none."""

    faults: list[Fault]
    checked: int
    unknown: list[str]


def verify(results: str | Path, quick: bool = False, look: Look = lambda name: None) -> Report:
    """Hold every finished run and every packed shard below ``results`` against what was written down of them.

    ``quick``: sizes alone. Raises GranvitError where ``results`` holds neither, or a manifest cannot be read.
    """
    results = Path(results)
    runs, shards = finished_runs(results), sorted(results.glob("*/data/packed/*/*.parquet"))
    if not runs and not shards:
        raise GranvitError(
            f"{results}: no finished run and no shard below; give the folder that holds {{scale}}/"
        )
    faults, checked = [], 0
    for run in runs:
        look(run.label)
        faults += _run_faults(run, quick)
        checked += len(run.manifest.get("files", {}))
    for index in shards:
        look(str(index))
        faults += _shard_faults(index, quick)
        checked += 1
    return Report(faults, checked, [str(run.folder) for run in runs if "files" not in run.manifest])


def _run_faults(run: Run, quick: bool) -> Iterator[Fault]:
    again = f"make it again: `snakemake -f {run.folder}/manifest.json`"
    for name, written in run.manifest.get("files", {}).items():
        file = run.folder / name
        if name.startswith("model/") and not run.model.exists():
            continue  # removed on purpose, as `granvit runs` says
        if problem := _problem(file, written, quick):
            yield Fault(str(file), problem, again)
    parent = run.recipe.get("parent")
    for role, name in (("parent", parent), ("encoder_from", run.recipe.get("encoder_from"))):
        for file in run.scale_folder.glob(f"*/{name}/seed{run.seed}/manifest.json") if name else ():
            if file_hash(file) != run.manifest["inputs"].get(role):
                yield Fault(
                    f"{run.folder}/manifest.json",
                    f"was trained from another {name} than {file} is now",
                    again,
                )
    mixture = run.scale_folder / "data/mixtures" / f"{run.recipe['mixture']}.parquet"
    if mixture.is_file() and file_hash(mixture) != run.manifest["inputs"].get("mixture"):
        yield Fault(
            f"{run.folder}/manifest.json", f"was trained on another mixture than {mixture} is now", again
        )


def _problem(file: Path, written: dict, quick: bool) -> str | None:
    """What is wrong with a file of which size and sha256 were written down."""
    if not file.is_file():
        return "is missing"
    if (size := file.stat().st_size) != written["bytes"]:
        return f"has {size:,} bytes instead of {written['bytes']:,}"
    if not quick and file_hash(file) != written["sha256"]:
        return "its bytes are not those that were written"
    return None


def _shard_faults(index: Path, quick: bool) -> Iterator[Fault]:
    """A shard against its index: the first image that is not what was packed."""
    tar = index.with_suffix(".tar")
    again = f"make it again: `snakemake -f {tar}`"
    if not tar.is_file():
        yield Fault(str(tar), "is missing", again)
        return
    rows = pq.read_table(index, columns=["key", "offset", "size", "image_sha256"]).to_pylist()
    if rows and tar.stat().st_size < max(row["offset"] + row["size"] for row in rows):
        yield Fault(str(tar), f"is cut off at {tar.stat().st_size:,} bytes", again)
        return
    for row in () if quick else rows:
        image = read_image_bytes(str(tar), row["offset"], row["size"])
        if hashlib.sha256(image).hexdigest() != row["image_sha256"]:
            yield Fault(str(tar), f"image {row['key']}: its bytes are not those that were packed", again)
            return
