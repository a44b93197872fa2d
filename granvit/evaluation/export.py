"""Predictions as the files that VLMEvalKit scores itself: the data set's own rows without images, plus
`prediction`.

One file a data set, named as the toolkit names it (with `PRED_FORMAT=tsv`). Benchmarks that are views of one
data set (RefCOCO, RefCOCO+, RefCOCOg) share a file. Rows that no benchmark asks (BLINK's other categories,
MMMU's dev split) have an empty prediction: the toolkit takes a file without them for unfinished.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from granvit.errors import GranvitError
from granvit.evaluation.answer_files import join
from granvit.evaluation.benchmarks import Benchmark, select
from granvit.evaluation.tsv_files import Question, read_rows
from granvit.files import replacing

PICTURES = "image"


def export_vlmevalkit(
    predictions: str | Path,
    benchmarks: Sequence[Benchmark],
    data_dir: str | Path,
    out_dir: str | Path,
    model: str,
) -> list[Path]:
    """Write ``out_dir/{model}_{dataset}.tsv`` for each data set of which ``predictions`` (a folder) has
    answers; returns the files.

    Raises GranvitError where there are none, or only those of some of a data set's views.
    """
    predictions, data_dir = Path(predictions), Path(data_dir)
    if "/" in model or not model:
        raise GranvitError(f"--model-name is '{model}'; expected a name that can stand in a file name")
    views: dict[str, list[Benchmark]] = {}
    for benchmark in benchmarks:
        views.setdefault(benchmark.tsv, []).append(benchmark)
    written = []
    for tsv, members in views.items():
        made = [member for member in members if (predictions / f"{member.slug}.jsonl").is_file()]
        if not made:
            continue
        if len(made) < len(members):
            absent = next(member for member in members if member not in made)
            raise GranvitError(
                f"{predictions}: {absent.slug}.jsonl is missing, and {tsv} holds {absent.name} too; predict "
                "it first"
            )
        written.append(Path(out_dir) / f"{model}_{Path(tsv).stem}.tsv")
        _write_rows(written[-1], data_dir / tsv, *_answered_rows(predictions, members, data_dir / tsv))
    if not written:
        raise GranvitError(f"{predictions}: no predictions there; expected files like MMStar.jsonl")
    return written


def _answered_rows(
    predictions: Path, members: Sequence[Benchmark], data: Path
) -> tuple[list[Question], dict[str, str]]:
    """The data set's rows, in its own order, and the answers to those that were asked, by index."""
    rows = read_rows(data)
    answers: dict[str, str] = {}
    for member in members:
        answers |= join(predictions / f"{member.slug}.jsonl", member, select(member, rows))
    return rows, answers


def _write_rows(out: Path, data: Path, rows: Sequence[Question], answers: dict[str, str]) -> None:
    with open(data, encoding="utf-8-sig", newline="") as file:
        columns = [
            name for name in next(csv.reader(file, delimiter="\t")) if name not in (PICTURES, "prediction")
        ]
    with replacing(out) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        # Quoted throughout and with plain line ends, as pandas writes the toolkit's own files.
        writer = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerow([*columns, "prediction"])
        for row in rows:
            cells = {**row.cells, "index": row.index}
            writer.writerow([*(cells.get(name, "") for name in columns), answers.get(row.index, "")])
