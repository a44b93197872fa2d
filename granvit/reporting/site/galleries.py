"""The pages of each number: a run's score of one printed benchmark, and its questions with their answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from granvit.config.schema import Report
from granvit.config.tables import TablesFile
from granvit.evaluation.benchmarks import Benchmark, read_questions
from granvit.files import read_json
from granvit.reporting.site.answers import (
    KINDS,
    Asked,
    Cell,
    Line,
    box,
    differing_first,
    kind_of,
    options,
    said,
)
from granvit.reporting.site.images import Picture, write_images
from granvit.reporting.site.places import Answered, cell_page, gallery_page, score_file, verdict_file
from granvit.reporting.site.record import Runs
from granvit.reporting.site.writing import Site

Door = tuple[str, str, int, str]  # kind, what it is called, how many, its page (empty: none)
_NEAR = 3  # page numbers named on either side of a page's own


@dataclass(frozen=True)
class Score:
    """What a score file says of one printed benchmark."""

    text: str
    unit: str
    facts: list[tuple[str, str]]


@dataclass
class Galleries:
    """Writes the pages of all numbers, benchmark by benchmark, so that each file of questions is read once.

    ``doors`` and ``scores``: what pages of means say of each number that was written; ``pictures``: those
    that are there, by digest.
    """

    site: Site
    results: Path
    questions: Path
    shared: TablesFile
    settings: Report
    runs: Runs
    lineage: Callable[[str, int], list[dict[str, Any]]]
    doors: dict[tuple[Answered, str], list[Door]] = field(default_factory=dict)
    scores: dict[tuple[Answered, str], Score] = field(default_factory=dict)
    pictures: dict[str, Picture] = field(default_factory=dict)

    def write(self, benchmark: Benchmark, everyone: Sequence[Answered], say: Callable[[str], None]) -> None:
        """All pages of one benchmark. Raises GranvitError where a score, verdict or question is missing."""
        cells = self.shared.benchmarks.items()
        splits = {name: cell.split for name, cell in cells if cell.benchmark == benchmark.name}
        asked = Asked(benchmark, read_questions(benchmark, self.questions), splits, self.settings.questions)
        found = {one: asked.cells(self._file(one, "verdicts", benchmark, "jsonl")) for one in everyone}
        shown = {index for cells in found.values() for cell in cells.values() for index in cell.shown}
        wanted = {digest for index in shown for digest in asked.questions[index].images}
        new, tsv = wanted - self.pictures.keys(), self.questions / benchmark.tsv
        self.pictures |= write_images(tsv, new, self.site.folder, self.settings.image_side, say)
        for one, cells in found.items():
            self._copy_files(one, benchmark, cells)
            other = beside(one, everyone, self.settings.beside)
            for name, cell in cells.items():
                theirs = found[other][name] if other else None
                self._write_cell(one, name, cell, asked, other)
                self._write_galleries(one, name, cell, asked, other, theirs)

    def _file(self, one: Answered, kind: str, benchmark: Benchmark, suffix: str) -> Path:
        root = self.results / "chance" if one.chance else self.results
        return root / kind / one.results / f"{benchmark.slug}.{suffix}"

    def _copy_files(self, one: Answered, benchmark: Benchmark, cells: Mapping[str, Cell]) -> None:
        """The score file as it is, and the verdicts of the questions that are shown."""
        score = self._file(one, "scores", benchmark, "json").read_bytes()
        self.site.file(score_file(one, benchmark.name)).write_bytes(score)
        lines = {index: line for cell in cells.values() for index, line in cell.shown.items()}
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines.values())
        self.site.file(verdict_file(one, benchmark.name)).write_text(text, encoding="utf-8")

    def _write_cell(self, one: Answered, name: str, cell: Cell, asked: Asked, other: Answered | None) -> None:
        benchmark = asked.benchmark
        content = read_json(self._file(one, "scores", benchmark, "json"))
        score = self.scores[one, name] = score_of(content, self.shared, name)
        counted = [(kind, label, cell.counts[kind]) for kind, label in KINDS.items()]
        shown = [
            (kind, label, count, gallery_page(one, name, kind) if cell.of_kind(kind) else "")
            for kind, label, count in [*counted, ("all", "all", cell.n)]
            if count or kind != "partly"
        ]
        self.doors[one, name] = shown
        kinds = {"predictions": "jsonl", "verdicts": "jsonl", "scores": "json"}
        self.site.page(
            cell_page(one, name),
            "cell",
            f"{name}: {one.label}",
            [(one.recipe, f"runs/{one.results}/index.html")],
            answered=one,
            benchmark=benchmark.name,
            score=score,
            facts=score.facts,
            cell=cell,
            sampled=len(cell.shown) < cell.n,
            doors=shown,
            beside=other.label if other else "",
            lineage=self.lineage(one.recipe, one.seed),
            score_file=score_file(one, benchmark.name),
            verdict_file=verdict_file(one, benchmark.name),
            paths=[str(self._file(one, kind, benchmark, suffix)) for kind, suffix in kinds.items()],
            score_json=json.dumps(content, indent=1, ensure_ascii=False),
        )

    def _write_galleries(
        self,
        one: Answered,
        name: str,
        cell: Cell,
        asked: Asked,
        other: Answered | None,
        theirs: Cell | None,
    ) -> None:
        for kind in [*KINDS, "all"]:
            indexes = differing_first(cell, theirs, kind)
            size = self.settings.page
            last = -(-len(indexes) // size)
            for page in range(1, last + 1):
                part = indexes[(page - 1) * size : page * size]
                items = [_item(index, cell, theirs, asked, self.pictures) for index in part]

                def at(number: int, kind: str = kind, last: int = last) -> str:
                    return gallery_page(one, name, kind, number) if 1 <= number <= last else ""

                self.site.page(
                    at(page),
                    "gallery",
                    f"{name}: {one.label}, {KINDS.get(kind, 'all')}" + (f", page {page}" if last > 1 else ""),
                    [(one.recipe, f"runs/{one.results}/index.html"), (name, cell_page(one, name))],
                    doors=self.doors[one, name],
                    beside=other.label if other else "",
                    differing=kind != "all",
                    shuffled=one.chance,
                    boxes=any(item["boxes"] for item in items),
                    items=items,
                    page=page,
                    pages=[(number, at(number) if number else "") for number in _numbers(page, last)],
                    previous=at(page - 1),
                    next=at(page + 1),
                )


def beside(one: Answered, everyone: Sequence[Answered], wished: Sequence[str]) -> Answered | None:
    """Whose answers stand beside a run's: without shuffled images its own, else the first of ``wished`` that
    is another run of the same seed, else the last other one."""
    plain = [other for other in everyone if not other.chance and other.seed == one.seed and other != one]
    if one.chance:
        return next((other for other in plain if other.recipe == one.recipe), None)
    named = {other.recipe: other for other in plain}
    return next((named[recipe] for recipe in wished if recipe in named), plain[-1] if plain else None)


def score_of(content: Mapping[str, Any], shared: TablesFile, name: str) -> Score:
    """What stands on the page of one printed benchmark, out of its score file."""
    cell = shared.benchmarks[name]
    part = content if cell.split is None else content["splits"][cell.split]
    facts = [("Questions that count", f"{part['n']}")]
    if "interval" in part:
        facts.insert(0, ("95 % interval", _interval(part["interval"])))
    elif "interval" in content:
        text = f"{_interval(content['interval'])} over all {content['n']} questions of {content['benchmark']}"
        facts.insert(0, ("95 % interval", text))
    keys = {"rule": "Rule", "judge": "Judge", "rule_version": "Version of the scoring step",
            "prompt_version": "Prompt and its version", "md5": "md5 of the questions"}  # fmt: skip
    facts += [(label, str(content[key])) for key, label in keys.items() if key in content]
    if content.get("failed_extractions") is not None:
        facts.append(("Answers not read", f"{100 * content['failed_extractions']:.1f} %"))
    if "decoding" in content:
        facts.append(("Decoding", ", ".join(f"{key} {value}" for key, value in content["decoding"].items())))
    facts += [("Warning", warning) for warning in content.get("warnings", [])]
    count = cell.divide != 1
    text = f"{part['score']:.0f}" if count else f"{part['score']:.2f}"
    return Score(text, " of 1000" if count else " %", facts)


def _interval(ends: Sequence[float]) -> str:
    return f"{ends[0]:.2f} to {ends[1]:.2f}"


def _item(
    index: str, cell: Cell, theirs: Cell | None, asked: Asked, pictures: Mapping[str, Picture]
) -> dict[str, Any]:
    """A card of a gallery."""
    question, line = asked.questions[index], cell.shown[index]
    other = theirs.shown.get(index) if theirs else None
    boxes = {"gold": line["gold"], "answer": line["read"], "other": other and other["read"]}
    drawn = [(kind, found) for kind, value in boxes.items() if (found := box(value))]
    return {
        "index": index,
        "category": line.get("category", ""),
        "group": cell.group_of[index] if cell.groups else "",
        "hint": question.cells.get("hint", ""),
        "question": question.cells["question"],
        "options": options(question),
        "pictures": [pictures.get(digest) for digest in question.images],
        "boxes": drawn if len(question.images) == 1 and box(line["gold"]) else [],
        "gold": said(line["gold"]),
        "answer": _answer(line),
        "other": _answer(other) if other else None,
    }


def _answer(line: Line) -> dict[str, Any]:
    """An answer as a card shows it: what was read out of it stands there where it is something else."""
    read = said(line["read"])
    marks = {"right": "✓ right", "wrong": "✗ wrong", "partly": f"mark {line['score']:.2f}"}
    return {
        "kind": kind_of(line),
        "said": line["prediction"],
        "read": "" if read == str(line["prediction"]).strip() else read,
        "judge": line.get("judge"),
        "mark": marks[kind_of(line)],
    }


def _numbers(page: int, last: int) -> list[int]:
    """Page numbers that a page names: the ends, those near, and 0 for a gap."""
    near = range(max(2, page - _NEAR), min(last, page + _NEAR + 1))
    numbers = [1, *near, *([last] if last > 1 else [])]
    found: list[int] = []
    for number in numbers:
        if found and number > found[-1] + 1:
            found.append(0)
        found.append(number)
    return found
