"""Whether what lies under ``results/`` is still what the jobs wrote: bytes against the hashes that manifests
and indices hold.

Runs: their files, the parent that they started from, the mixture that they learned from. Shards: every image.
Answers are held against their scores by ``granvit eval score --check``.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq

from granvit.data.records.shards import read_image_bytes
from granvit.errors import GranvitError
from granvit.files import file_hash
from granvit.progress import Progress
from granvit.reporting.finished_runs import Run, finished_runs


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


def verify(results: str | Path, quick: bool = False) -> Report:
    """Hold every finished run and every packed shard below ``results`` against what was written down of them;
    says on standard error how far it is.

    ``quick``: sizes, and which parent a run started from; no large file is read. Raises GranvitError where
    ``results`` holds neither, or a manifest cannot be read.
    """
    results = Path(results)
    runs, shards = finished_runs(results), sorted(results.glob("*/data/packed/*/*.parquet"))
    if not runs and not shards:
        raise GranvitError(
            f"{results}: no finished run and no shard below; give the folder that holds {{scale}}/"
        )
    drawn = () if quick else results.glob("*/data/mixtures/*.parquet")
    # Each once, however many runs learned from it
    mixtures = {os.path.abspath(file): file_hash(file) for file in drawn}
    manifests = {run.label: file_hash(run.folder / "manifest.json") for run in runs}
    looks = [partial(_run_faults, run, manifests, mixtures, quick) for run in runs]
    looks += [partial(_shard_faults, index, quick) for index in shards]
    faults, progress = [], Progress(len(looks), "verify", "runs and shards")
    for number, look in enumerate(looks, 1):
        faults += look()
        progress.update(number)
    checked = sum(len(run.manifest.get("files", {})) for run in runs) + len(shards)
    return Report(faults, checked, [str(run.folder) for run in runs if "files" not in run.manifest])


def _run_faults(
    run: Run, manifests: Mapping[str, str], mixtures: Mapping[str, str], quick: bool
) -> Iterator[Fault]:
    """One run: its files, and its inputs against the hashes of the runs (by label) and mixtures that are
    there now."""
    manifest = f"{run.folder}/manifest.json"
    again = f"make it again: `snakemake -f {manifest}`"
    for name, written in run.manifest.get("files", {}).items():
        file = run.folder / name
        if name.startswith("model/") and not run.model.exists():
            continue  # removed on purpose, as `granvit runs` says
        if problem := _problem(file, written, quick):
            yield Fault(str(file), problem, again)
    inputs, scale = run.manifest["inputs"], run.recipe["scale"]
    for role in ("parent", "encoder_from"):
        label = f"{scale}/{run.recipe.get(role)}/seed{run.seed}"
        if label in manifests and manifests[label] != inputs.get(role):
            yield Fault(manifest, f"was trained from another {label} than is there now", again)
    mixture = run.scale_folder / "data/mixtures" / f"{run.recipe['mixture']}.parquet"
    if mixtures.get(str(mixture), inputs.get("mixture")) != inputs.get("mixture"):
        yield Fault(manifest, f"was trained on another mixture than {mixture.name} is now", again)


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
