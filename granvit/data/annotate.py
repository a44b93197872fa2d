"""Annotate: records get their regions (step 2 of the data flow); one function per annotator."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from granvit.data.images import decode_rgb
from granvit.data.ocr import OcrEngine, read_lines
from granvit.data.records import Record, write_records
from granvit.data.shards import count_samples, read_shard
from granvit.progress import Progress


def annotate_given(in_tar: str | Path, out_jsonl: str | Path) -> None:
    """Keep the boxes and captions that the source came with, as UMG-41M's boxes are kept (Sec. 3)."""
    write_records(out_jsonl, (sample.record for sample in read_shard(in_tar)))


def annotate_ocr(
    in_tar: str | Path,
    out_jsonl: str | Path,
    engine: OcrEngine,
    min_score: float,
    log: str | Path | None = None,
) -> None:
    """Replace each record's regions by the text lines that PaddleOCR reads with a confidence of ``min_score``
    or more.

    Sec. 3: OCR images get local regions only, since a global description of a page says little.
    """
    in_tar = Path(in_tar)
    progress = Progress(count_samples(in_tar), f"ocr {in_tar.parent.name}/{in_tar.stem}", "pages", log)
    write_records(out_jsonl, _with_lines(in_tar, engine, min_score, progress))


def _with_lines(in_tar: Path, engine: OcrEngine, min_score: float, progress: Progress) -> Iterator[Record]:
    reader = engine.load()
    for number, sample in enumerate(read_shard(in_tar), 1):
        record = sample.record
        lines = read_lines(reader, decode_rgb(sample.image))
        record.regions = [line for line in lines if line.score >= min_score]
        record.provenance["annotator"] = engine.describe()
        progress.update(number)
        yield record
