"""Peak memory of the data jobs at 10 shards against 2: a job must not grow with its source.

A shard holds the same number of images either way, so the source of 10 shards is five times that of 2. The
graph's jobs (catalogue, ingest, annotate by an annotator that changes nothing, filter, pack) run one after
the other, each in a process of its own; measured is the most resident memory that a process ever had (VmHWM
of /proc/self/status, Linux), for each step the largest over its first and its last shard.

Prints a line a step, then one JSON line: ours and baseline are the peaks at many and at few shards of that
shard's job whose ratio is worst. The catalogue, one job a source, is measured too, but its ratio stands by
itself: what it sorts in memory it fills only with a source larger than these. Run it from the repository's
root.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from data_work import run_step, write_source
from PIL import Image

from granvit.data.sources.table import SourceSpec

STEPS = ("catalogue", "ingest", "annotate", "filter", "pack")


def peak(step: str, source: SourceSpec, folder: Path, shard: int) -> float:
    """MB of one job's process."""
    job = json.dumps([step, asdict(source), str(folder), shard])
    done = subprocess.run([sys.executable, __file__, "--job", job], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"error: {step} of shard {shard} failed; its message is above")
    return float(done.stdout.splitlines()[-1])


def do(job: str) -> None:
    """The process under measurement."""
    step, source, folder, shard = json.loads(job)
    run_step(step, SourceSpec(**source), Path(folder), shard)
    status = Path("/proc/self/status").read_text().splitlines()
    kilobytes = next(line.split()[1] for line in status if line.startswith("VmHWM"))
    print(int(kilobytes) / 1000)


def peaks(folder: Path, shards: int, images: int) -> dict[str, float]:
    """MB by step, for a source of ``shards`` shards of about ``images`` images."""
    picture = io.BytesIO()
    Image.new("RGB", (600, 500), "teal").save(picture, "JPEG")
    source = write_source(folder / "source", shards * images, [picture.getvalue()], shards)
    found = {}
    for step in STEPS:
        of_step = [0] if step == "catalogue" else [0, shards - 1]
        found[step] = max(peak(step, source, folder, shard) for shard in of_step)
    return found


def main() -> None:
    """Command line; ``--job`` is how the processes under measurement are started."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=1000, help="a shard")
    parser.add_argument("--shards", type=int, nargs=2, default=(2, 10), metavar=("FEW", "MANY"))
    parser.add_argument("--job", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        return do(arguments.job)
    found = []
    for shards in arguments.shards:
        with tempfile.TemporaryDirectory() as folder:
            found.append(peaks(Path(folder), shards, arguments.images))
    few, many = found
    fewer, more = arguments.shards
    for step in STEPS:
        print(f"{step}: {few[step]:.0f} MB at {fewer} shards, {many[step]:.0f} MB at {more}")
    worst = max(STEPS[1:], key=lambda step: many[step] / few[step])
    result = {
        "benchmark": "memory",
        "ours": round(many[worst], 1),
        "baseline": round(few[worst], 1),
        "unit": "MB",
    }
    result |= {"ratio": round(many[worst] / few[worst], 3), "step": worst, "shards": list(arguments.shards)}
    result |= {"ratios": {step: round(many[step] / few[step], 3) for step in STEPS}}
    print(json.dumps({**result, "images_a_shard": arguments.images}))


if __name__ == "__main__":
    main()
