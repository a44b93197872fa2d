"""The questions behind each cell, with what a run answered: counted, and those that galleries show."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from granvit.errors import GranvitError
from granvit.evaluation.benchmarks import Benchmark
from granvit.evaluation.tsv_files import Question
from granvit.evaluation.units import units

KINDS = {"right": "right", "partly": "partly right", "wrong": "wrong"}
Line = dict[str, Any]  # of a verdicts file (granvit.evaluation.verdicts)


@dataclass
class Cell:
    """A run's answers to the questions of one printed benchmark.

    ``counts``: kind -> questions; ``groups``: of questions that count together, how many there are and in how
    many all answers are right (None where each question counts alone); ``group_of``: index -> group, and
    ``shown``: index -> verdict, of the questions that the galleries hold, in the file's order.
    """

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    groups: tuple[int, int] | None = None
    group_of: dict[str, str] = field(default_factory=dict)
    shown: dict[str, Line] = field(default_factory=dict)

    @property
    def n(self) -> int:
        return sum(self.counts.values())

    def of_kind(self, kind: str) -> list[str]:
        """Indexes of the shown questions of one kind, or of ``all``."""
        return [index for index, line in self.shown.items() if kind in ("all", kind_of(line))]


def kind_of(line: Line) -> str:
    """Which of ``KINDS`` an answer is: full marks, none, or some (ANLS, VQA accuracy, a judge's part)."""
    return "right" if line["score"] >= 1 else "partly" if line["score"] > 0 else "wrong"


def read_verdicts(path: Path) -> Iterator[Line]:
    """The lines of a verdicts file. Raises GranvitError where it is missing or broken."""
    if not path.is_file():
        raise GranvitError(f"{path}: no such file, and the report shows it; make it with `snakemake {path}`")
    with open(path, encoding="utf-8") as file:
        for number, text in enumerate(file, 1):
            try:
                line = json.loads(text)
                line["index"], line["score"]
            except (ValueError, TypeError, KeyError) as error:
                raise GranvitError(
                    f"{path}: line {number} is no verdict; delete the file and make it again"
                ) from error
            yield line


class Asked:
    """The questions of a benchmark, by the printed names (``splits``: name -> split, None for all of them).

    ``limit``: how many of a cell's questions the galleries hold, chosen by a hash of their names; groups of
    questions that count together stay whole.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        questions: Sequence[Question],
        splits: dict[str, str | None],
        limit: int | None,
    ) -> None:
        self.benchmark, self.splits, self.limit = benchmark, splits, limit
        self.questions = {question.index: question for question in questions}

    def cells(self, verdicts: Path) -> dict[str, Cell]:
        """printed name -> what a run answered. Raises GranvitError where verdicts and questions differ."""
        members: dict[str, list[tuple[str, str]]] = {name: [] for name in self.splits}
        cells = {name: Cell() for name in self.splits}
        for line in read_verdicts(verdicts):
            for name in self._names(line["index"], verdicts):
                kind = kind_of(line)
                cells[name].counts[kind] += 1
                members[name].append((line["index"], kind))
        for name, cell in cells.items():
            self._group(cell, members[name])
        chosen = {name: self._sample(name, cell) for name, cell in cells.items()}
        for line in read_verdicts(verdicts):
            for name in self._names(line["index"], verdicts):
                if line["index"] in chosen[name]:
                    cells[name].shown[line["index"]] = line
        for cell in cells.values():  # whole benchmarks times all runs would fill memory
            cell.group_of = {index: cell.group_of[index] for index in cell.shown}
        return cells

    def _names(self, index: str, verdicts: Path) -> list[str]:
        if index not in self.questions:
            raise GranvitError(
                f"{verdicts}: question {index} is not in {self.benchmark.tsv}; delete the file and "
                "score again"
            )
        split = self.questions[index].cells.get("split", "")
        return [name for name, wanted in self.splits.items() if wanted in (None, split)]

    def _group(self, cell: Cell, members: list[tuple[str, str]]) -> None:
        questions = [self.questions[index] for index, _ in members]
        names = units(self.benchmark.rule, questions)
        cell.group_of = {index: name for (index, _), name in zip(members, names, strict=True)}
        whole: dict[str, bool] = {}
        for (_, kind), name in zip(members, names, strict=True):
            whole[name] = whole.get(name, True) and kind == "right"
        if len(whole) < len(members):
            cell.groups = len(whole), sum(whole.values())

    def _sample(self, name: str, cell: Cell) -> set[str]:
        """Indexes of whole groups in the order of their hashes, until there are enough."""
        groups: dict[str, list[str]] = {}
        for index, group in cell.group_of.items():
            groups.setdefault(group, []).append(index)
        chosen: set[str] = set()
        for group in sorted(groups, key=lambda group: _hash(name, group)):
            if self.limit is not None and len(chosen) >= self.limit:
                break
            chosen.update(groups[group])
        return chosen


def _hash(*words: str) -> str:
    return hashlib.sha256("\n".join(words).encode()).hexdigest()


def differing_first(cell: Cell, beside: Cell | None, kind: str) -> list[str]:
    """Indexes of a gallery: of wrong answers, those that the other run has right come first, and the other
    way round; each part in the file's order."""
    indexes = cell.of_kind(kind)
    if beside is None or kind == "all":
        return indexes

    def differs(index: str) -> bool:
        return index in beside.shown and kind_of(beside.shown[index]) != kind

    return sorted(indexes, key=lambda index: not differs(index))


def options(question: Question) -> dict[str, str]:
    """The choices of a question, by their letters."""
    return {name: text for name, text in sorted(question.cells.items()) if len(name) == 1 and name.isupper()}


def box(value: object) -> tuple[float, float, float, float] | None:
    """A box in pixels (xyxy), where an answer or a gold is one."""
    if isinstance(value, list) and len(value) == 4 and all(type(part) in (int, float) for part in value):
        return tuple(value)
    return None


def said(value: object) -> str:
    """An answer as text: several golds once each, a box in whole pixels, nothing as nothing."""
    if value is None:
        return ""
    if found := box(value):
        return "[" + ", ".join(f"{part:.0f}" for part in found) + "] px"
    if isinstance(value, list):
        return " | ".join(dict.fromkeys(str(one) for one in value))
    return str(value)
