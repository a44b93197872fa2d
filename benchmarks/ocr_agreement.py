"""PaddleOCR against people: the share of the lines that people transcribed on receipts that OCR finds, too.

A human line is found where some line of PaddleOCR overlaps its box by an IoU of 0.5 or more, and the edit
distance of the two texts is at most 0.2 of the longer one's length. Texts are compared with case folded and
white space collapsed, because SROIE's transcribers wrote capitals only; the share with texts as they stand,
and without any spaces, is printed too. Prints one JSON line last; `ratio` is that share over the target 0.75.

    python benchmarks/ocr_agreement.py [../shared/real/sroie] [--processes 2] [--detection-side 960] [--table]

`--table` also reads the receipts with other settings (four times as long) and prints what each gives.
Receipts: `img/NAME.jpg`, and `box/NAME.csv` with `x1,y1,...,x4,y4,text` in each line.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

from granvit.boxes import iou
from granvit.data.annotators.ocr import OcrEngine, read_lines
from granvit.data.records.images import decode_rgb
from granvit.data.records.records import Region
from granvit.data.sources.adapters.line_boxes import read_line_boxes
from granvit.evaluation.scoring.texts import levenshtein

TARGET = 0.75
MIN_IOU, MAX_DISTANCE, MIN_SCORE = 0.5, 0.2, 0.5
RECEIPTS = Path(__file__).resolve().parent.parent.parent / "shared" / "real" / "sroie"

FORMS: dict[str, Callable[[str], str]] = {
    "folded": lambda text: " ".join(text.casefold().split()),
    "strict": lambda text: text,
    "without_spaces": lambda text: "".join(text.casefold().split()),
}


def found(human: Region, lines: list[Region], form: Callable[[str], str], min_iou: float = MIN_IOU) -> bool:
    """Whether some line of OCR is at the human line's place and says the same."""
    text = form(human.text)
    near = [form(line.text) for line in lines if iou(human.box, line.box) >= min_iou]
    return any(_distance(text, other) <= MAX_DISTANCE for other in near)


def _distance(a: str, b: str) -> float:
    """Edit distance over the longer length; 1 without a count where the lengths alone differ too much."""
    longer = max(len(a), len(b))
    if abs(len(a) - len(b)) > MAX_DISTANCE * longer:
        return 1.0
    return levenshtein(a, b) / longer if longer else 0.0


def read_pages(paths: list[Path], engine: OcrEngine, unclip_ratio: float | None) -> list[list[Region]]:
    """OCR's lines of each page; pages of one process, which loads the models once."""
    reader = engine.load()
    if unclip_ratio is not None:
        reader.predict = partial(reader.predict, text_det_unclip_ratio=unclip_ratio)
    return [read_lines(reader, decode_rgb(path.read_bytes())) for path in paths]


def in_processes(paths: list[Path], engine: OcrEngine, processes: int, unclip_ratio: float | None = None):
    """OCR's lines of each page, in order, and the seconds of work a page took."""
    began = time.perf_counter()
    parts = [paths[i::processes] for i in range(processes)]
    with ProcessPoolExecutor(processes) as pool:
        done = list(pool.map(partial(read_pages, engine=engine, unclip_ratio=unclip_ratio), parts))
    seconds = (time.perf_counter() - began) * processes / len(paths)
    return [done[i % processes][i // processes] for i in range(len(paths))], seconds


def shares(people: list[list[Region]], pages: list[list[Region]], min_score: float = MIN_SCORE) -> dict:
    """Shares of all human lines: found by each form of the text, at an overlapping place, said anywhere."""
    kept = [[line for line in page if line.text and line.score >= min_score] for page in pages]
    pairs = [(line, page) for lines, page in zip(people, kept, strict=True) for line in lines]
    result = {name: sum(found(*pair, form) for pair in pairs) for name, form in FORMS.items()}
    result["place_alone"] = sum(
        any(iou(line.box, other.box) >= MIN_IOU for other in page) for line, page in pairs
    )
    result["text_anywhere"] = sum(found(*pair, FORMS["folded"], min_iou=0.0) for pair in pairs)
    return {name: round(count / len(pairs), 4) for name, count in result.items()}


def print_row(name: str, row: dict[str, float]) -> None:
    """One line of the table, at once: the next one takes minutes."""
    print(f"{name:24}" + "".join(f"{value:16.3f}" for value in row.values()), flush=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("receipts", nargs="?", type=Path, default=RECEIPTS)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--limit", type=int, help="read so many receipts only")
    parser.add_argument("--detection-side", type=int, default=None, help="longer side (px) to find lines at")
    parser.add_argument("--models-dir", help="PaddleOCR model folders; a temporary folder otherwise")
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    if not (arguments.receipts / "img").is_dir():
        sys.exit(f"error: {arguments.receipts}: no folder img/ there; give the folder of receipts")
    humans: dict[str, list[Region]] = {}
    images: dict[str, Path] = {}
    for item in read_line_boxes(arguments.receipts, {}):
        if item.place:
            images[item.original_id] = arguments.receipts / item.place.file
        humans.setdefault(item.original_id, []).extend(item.regions)
    names = sorted(name for name in images if humans[name])[: arguments.limit]
    people, paths = [humans[name] for name in names], [images[name] for name in names]
    with tempfile.TemporaryDirectory() as temporary:
        engine = OcrEngine(arguments.models_dir or temporary, detection_side=arguments.detection_side)
        engine.load()  # makes the model folders before the processes ask for them
        pages, seconds = in_processes(paths, engine, arguments.processes)
        result = shares(people, pages)
        if arguments.table:
            print(f"{'share of human lines':24}" + "".join(f"{name:>16}" for name in result))
            print_row("as configured", result)
            print_row("lines of score >= 0.8", shares(people, pages, 0.8))
            for side in (1280, 960):
                other, _ = in_processes(paths, replace(engine, detection_side=side), arguments.processes)
                print_row(f"detection side {side}", shares(people, other))
            for ratio in (1.2, 1.8):
                other, _ = in_processes(paths, engine, arguments.processes, ratio)
                print_row(f"unclip ratio {ratio}", shares(people, other))
    print(
        json.dumps(
            {
                "benchmark": "ocr_agreement",
                "ours": result["folded"],
                "baseline": TARGET,
                "unit": "share of human lines found",
                "ratio": round(result["folded"] / TARGET, 3),
                "receipts": len(paths),
                "human_lines": sum(map(len, people)),
                "ocr_lines": sum(map(len, pages)),
                "seconds_a_page_and_core": round(seconds, 2),
                **{name: share for name, share in result.items() if name != "folded"},
            }
        )
    )


if __name__ == "__main__":
    main()
