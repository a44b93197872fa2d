"""Filter, index and pack of a shard, against webdataset copying the same samples from tar to tar.

Ours is what two jobs of the graph do with an annotated shard: read its records, apply the paper's filters and
count them, read the ingested tar, write the packed tar and the Parquet index beside it. The baseline reads
the same ingested tar with webdataset's WebDataset and writes each sample with its TarWriter, bytes as they
are: no JSON is parsed, nothing is counted, no index is made. All images pass the filters, so both write the
same images. (TarWriter fed from memory reads nothing, which a copy has to; it is timed too, as
`writer_alone`.)

Both sides write to the same folder ($TMPDIR) and take turns in one process. Before each turn old outputs are
deleted and what is not on disk yet is written out; the first turn of each warms up. Prints one JSON line:
medians of seconds, `ratio` ours over the baseline's. Run it from the repository's root on an idle machine.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import webdataset
from data_work import photographs, run_step, step_files, write_source

from granvit.data.records.shards import count_samples

PICTURES = 200  # different ones; decoding is no part of this, so more would only take longer to draw


def copy(samples, tar: Path) -> None:
    """Write webdataset's samples to a tar with its own writer."""
    with webdataset.TarWriter(str(tar), encoder=False, mtime=0) as writer:
        for sample in samples:
            writer.write({name: sample[name] for name in ("__key__", "jpg", "json")})


def measure(jobs: dict[str, Callable[[], None]], outputs: list[Path], repeats: int) -> dict[str, float]:
    """Median seconds of each job, the jobs taking turns."""
    spent: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(repeats + 1):
        for name, job in jobs.items():
            for path in outputs:
                path.unlink(missing_ok=True)
            os.sync()
            begin = time.perf_counter()
            job()
            spent[name].append(time.perf_counter() - begin)
    return {name: statistics.median(seconds[1:]) for name, seconds in spent.items()}


def compare(folder: Path, images: int, repeats: int) -> dict[str, float]:
    """Make the shard, then measure; seconds by name."""
    source = write_source(folder / "source", images, photographs(min(images, PICTURES), (640, 800), 89))
    with contextlib.redirect_stderr(io.StringIO()):  # the jobs' progress
        for step in ("catalogue", "ingest", "annotate"):
            run_step(step, source, folder, 0)
    ingested, copied = step_files(folder, "ingest", 0)[0], folder / "copied.tar"

    def samples():
        return webdataset.WebDataset(str(ingested), shardshuffle=False)

    def ours() -> None:
        run_step("filter", source, folder, 0)
        run_step("pack", source, folder, 0)

    held = list(samples())
    jobs = {
        "ours": ours,
        "baseline": lambda: copy(samples(), copied),
        "writer_alone": lambda: copy(held, copied),
    }
    outputs = [copied, *step_files(folder, "filter", 0), *step_files(folder, "pack", 0)]
    seconds = measure(jobs, outputs, repeats)
    ours()
    if not count_samples(step_files(folder, "pack", 0)[0]) == count_samples(copied) == images:
        sys.exit("error: the two sides wrote different numbers of images: not the same work")
    print(
        f"{images} images, {ingested.stat().st_size / 1e6:.0f} MB: "
        + ", ".join(f"{name} {value:.2f} s" for name, value in seconds.items())
    )
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=2000, help="in the shard, of about 100 KB each")
    parser.add_argument("--repeats", type=int, default=7, help="turns of each side, after one to warm up")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seconds = compare(Path(folder), arguments.images, arguments.repeats)
    ours, baseline, alone = (seconds[name] for name in ("ours", "baseline", "writer_alone"))
    result = {"benchmark": "pack", "ours": round(ours, 4), "baseline": round(baseline, 4), "unit": "s"}
    result |= {"ratio": round(ours / baseline, 2), "ratio_to_writer_alone": round(ours / alone, 2)}
    print(json.dumps({**result, "images": arguments.images}))


if __name__ == "__main__":
    main()
