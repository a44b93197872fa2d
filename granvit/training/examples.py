"""Rows of a mixture, and what a model reads of each: tokenised question-answer pairs and regions."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet

from granvit.errors import GranvitError
from granvit.files import replacing
from granvit.models.mllm import MLLM
from granvit.models.packing import ChatFormat, Segment
from granvit.training.stages import BBOX2CAPTION, GLOBAL_CAPTION, INSTRUCTION

MEMORY_LIMIT = 1 << 30  # bytes of a mixture's text that every process may keep for itself
ROWS_AT_ONCE = 1000  # while tokens are counted
COLUMNS = ["key", "shard", "offset", "size", "width", "height", "qa"]


class Mixture:
    """Rows of a mixture's Parquet file, one an image. Raises GranvitError when it is missing, empty or
    not a mixture.

    ``cache``: a folder for a copy that is mapped into memory instead of read, once the text is larger than
    MEMORY_LIMIT; processes of a machine then share its pages.
    """

    def __init__(self, path: Path, cache: Path | None = None) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise GranvitError(f"mixture: {path} does not exist; make it with `snakemake {path}`")
        missing = set(COLUMNS) - set(parquet.read_schema(self.path).names)
        if missing:
            names = ", ".join(sorted(missing))
            raise GranvitError(f"mixture: {path} has no column {names}; expected a mixture's Parquet file")
        self.table = self._read(cache)
        if not len(self.table):
            raise GranvitError(
                f"mixture: {path} holds no image; give its sources more images, or relax the filters"
            )

    def _read(self, cache: Path | None) -> pa.Table:
        metadata = parquet.read_metadata(self.path)
        size = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
        if cache is None or size <= MEMORY_LIMIT:
            return parquet.read_table(self.path, columns=COLUMNS)
        copy = Path(cache) / f"{self.path.stem}.arrow"
        if not copy.is_file() or copy.stat().st_mtime < self.path.stat().st_mtime:
            _write_arrow(self.path, copy)
        return pa.ipc.open_file(pa.memory_map(str(copy))).read_all()

    def __len__(self) -> int:
        return len(self.table)

    def row(self, index: int) -> dict:
        """One image's row as plain Python values."""
        return self.table.slice(index, 1).to_pylist()[0]


@dataclass(frozen=True)
class Example:
    """One image's text and regions. ``segments``: its question-answer pairs, those of a conversation in one
    where turns are chained; ``boxes``: distinct regions, pixels of the original; ``described``: boxes and
    what is said of each (``described_boxes``)."""

    key: str
    width: int
    height: int
    segments: list[Segment]
    tasks: list[str]
    questions: list[str]
    answers: list[str]
    boxes: list[list[float]]
    described: list[tuple[list[float], str]] = field(default_factory=list)


class Examples:
    """Tokenised rows of a mixture; ``keep``: in memory, for later epochs. ``turns``: of a conversation,
    separate or chained. Reading one raises GranvitError where it has no question, or a task that is none of
    ``tasks``."""

    def __init__(
        self, mixture: Mixture, model: MLLM, tasks: tuple[str, ...], keep: bool, turns: str = "separate"
    ) -> None:
        self.mixture, self.chat, self.tasks, self.keep, self.turns = mixture, model.chat, tasks, keep, turns
        self.kept: dict[int, Example] = {}

    def __getitem__(self, index: int) -> Example:
        if index in self.kept:
            return self.kept[index]
        example = self._make(self.mixture.row(index))
        if self.keep:
            self.kept[index] = example
        return example

    def _make(self, row: dict) -> Example:
        pairs, key = row["qa"], row["key"]
        if not pairs:
            raise GranvitError(
                f"mixture: {self.mixture.path}: image {key!r} has no question; make the mixture again"
            )
        for pair in pairs:
            if pair["task"] not in self.tasks:
                raise GranvitError(
                    f"mixture: {self.mixture.path}: image {key!r} has task {pair['task']!r}, this stage "
                    f"learns {', '.join(self.tasks)}; name another mixture in the recipe"
                )
        boxes = [list(box) for box in dict.fromkeys(tuple(pair["box"]) for pair in pairs if pair["box"])]
        columns = ([pair[name] for pair in pairs] for name in ("task", "question", "answer"))
        segments, described = self._segments(pairs), described_boxes(row)
        return Example(key, row["width"], row["height"], segments, *columns, boxes, described)

    def _segments(self, pairs: list[dict]) -> list[Segment]:
        """A segment for each pair; where turns are chained, first one for all instructions."""
        chained = [self.turns == "chained" and pair["task"] == INSTRUCTION for pair in pairs]
        texts = [(pair["question"], pair["answer"]) for pair in pairs]
        turns = [*itertools.compress(texts, chained)]
        alone = [text for text, is_turn in zip(texts, chained, strict=True) if not is_turn]
        conversation = [self.chat.conversation(turns)] if turns else []
        return conversation + [self.chat.segment(*text) for text in alone]


def described_boxes(row: dict) -> list[tuple[list[float], str]]:
    """Boxes of a mixture's row (pixels of the original) and what is said of each; a global caption is said of
    the whole image."""
    whole = [0.0, 0.0, float(row["width"]), float(row["height"])]
    return [
        (list(pair["box"] or whole), pair["answer"])
        for pair in row["qa"]
        if pair["task"] in (GLOBAL_CAPTION, BBOX2CAPTION) and pair["answer"]
    ]


def tokens_of(pairs: list[dict], chat: ChatFormat) -> tuple[int, int]:
    """Tokens behind one image: those of its questions, answers and end tokens, and the supervised ones among
    them (answers and end tokens)."""
    segments = [chat.segment(pair["question"], pair["answer"]) for pair in pairs]
    return sum(len(segment.ids) for segment in segments), sum(segment.supervised for segment in segments)


def count_tokens(mixture: Mixture, chat: ChatFormat) -> tuple[int, int]:
    """``tokens_of`` all images of a mixture, once through."""
    text = supervised = 0
    for batch in mixture.table.select(["qa"]).to_batches(max_chunksize=ROWS_AT_ONCE):
        for pairs in batch["qa"].to_pylist():
            own = tokens_of(pairs, chat)
            text, supervised = text + own[0], supervised + own[1]
    return text, supervised


def _write_arrow(source: Path, target: Path) -> None:
    """Copy a Parquet file, piece by piece, into Arrow's own format, whose rows can be found without reading
    the rest."""
    with replacing(target) as staged, parquet.ParquetFile(source) as file:
        pieces = file.iter_batches(columns=COLUMNS)
        first = next(pieces, None)
        with pa.ipc.new_file(staged, first.schema if first else file.schema_arrow) as writer:
            for piece in itertools.chain([first] if first else [], pieces):
                writer.write_batch(piece)
