"""Predictions that other toolkits wrote, as this project's files: VLMEvalKit's `{model}_{dataset}` (tsv,
xlsx, json) and lmms-eval's `..._samples_{task}.jsonl`.

VLMEvalKit names a question by its index. lmms-eval numbers its documents, and only some of them carry an
index: the others are taken in the file's order where there are as many as questions, each question's text
stands in what was asked, and those that share a text have the same answer in both files.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from granvit.errors import GranvitError
from granvit.evaluation.benchmarks import Benchmark, read_questions
from granvit.evaluation.rules import golds
from granvit.evaluation.tsv_files import Question
from granvit.evaluation.units import first_units
from granvit.evaluation.xlsx import read_sheet
from granvit.files import write_text

# lmms-eval's tasks by benchmark. RefCOCO is not among them: its task asks for boxes in another way.
LMMS_TASKS: dict[str, tuple[str, ...]] = {
    "BLINK": ("blink",),
    "MMVP": ("mmvp",),
    "MMBench": ("mmbench_en_dev", "mmbench_en_dev_lite"),
    "MMStar": ("mmstar",),
    "HallusionBench": ("hallusion_bench_image",),
    "GQA": ("gqa",),
    "SEEDBench": ("seedbench",),
    "MMMU": ("mmmu_val",),
    "MathVista": ("mathvista_testmini", "mathvista_testmini_format", "mathvista_testmini_cot"),
    "MMVet": ("mmvet",),
    "ScienceQA": ("scienceqa_img",),
    "AI2D": ("ai2d",),
    "OCRBench": ("ocrbench",),
    "DocVQA": ("docvqa_val",),
    "ChartQA": ("chartqa",),
    "InfoVQA": ("infovqa_val",),
    "TextVQA": ("textvqa_val",),
}
_IDS = ("index", "question_id", "questionId", "id", "pid", "qid")
_TEXTS = ("question", "query")


def convert(
    folder: str | Path,
    form: str,
    benchmarks: Sequence[Benchmark],
    data_dir: str | Path,
    out: str | Path,
    limit: int | None = None,
) -> list[Benchmark]:
    """Write ``out/{slug}.jsonl`` for each benchmark that ``folder`` has answers of; returns those benchmarks.

    Raises GranvitError where there are none, two files may be meant, or answers and questions differ.
    """
    find, read = FORMATS[form]
    made = []
    for benchmark in benchmarks:
        files = find(Path(folder), benchmark)
        if len(files) > 1:
            names = ", ".join(path.name for path in files)
            raise GranvitError(f"{folder}: {names} may all be {benchmark.name}'s; leave one in the folder")
        if not files:
            continue
        questions = first_units(benchmark.rule, read_questions(benchmark, data_dir), limit)
        said = read(files[0], questions)
        missing = [question.index for question in questions if question.index not in said]
        if missing:
            raise GranvitError(
                f"{files[0]}: {len(missing)} of {len(questions)} questions of {benchmark.name} have no "
                f"answer (such as {missing[0]}); --data names the folder of the file that was asked"
            )
        lines = ({"index": one.index, "prediction": said[one.index]} for one in questions)
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        write_text(Path(out) / f"{benchmark.slug}.jsonl", text)
        made.append(benchmark)
    return made


def _vlmevalkit_files(folder: Path, benchmark: Benchmark) -> list[Path]:
    stem = Path(benchmark.tsv).stem
    return [path for path in sorted(folder.glob(f"*_{stem}.*")) if path.suffix in _TABLES]


def _vlmevalkit_answers(path: Path, questions: Sequence[Question]) -> dict[str, str]:
    rows = _TABLES[path.suffix](path)
    said: dict[str, str] = {}
    for number, row in enumerate(rows, start=2):
        if not {"index", "prediction"} <= row.keys():
            raise GranvitError(
                f"{path}: row {number}: no column index or prediction; give VLMEvalKit's own file"
            )
        index = str(row["index"])
        if index in said:
            raise GranvitError(f"{path}: row {number}: index {index} stands twice; keep one of the two rows")
        said[index] = "" if row["prediction"] is None else str(row["prediction"])
    return said


def _tsv(path: Path, delimiter: str = "\t") -> list[dict[str, Any]]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            return list(csv.DictReader(file, delimiter=delimiter, restval=""))
    except (UnicodeDecodeError, csv.Error) as error:
        raise GranvitError(f"{path}: not a table in UTF-8 ({error}); export it anew") from None


def _xlsx(path: Path) -> list[dict[str, Any]]:
    header, *rows = read_sheet(path) or [[]]
    return [dict(zip(header, [*row, *[""] * (len(header) - len(row))], strict=False)) for row in rows]


def _json(path: Path) -> list[dict[str, Any]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise GranvitError(f"{path}: not JSON in UTF-8 ({error}); export it anew") from None
    if isinstance(content, dict) and {"columns", "data"} <= content.keys():
        return [dict(zip(content["columns"], row, strict=False)) for row in content["data"]]
    if isinstance(content, dict) and content and all(isinstance(v, (dict, list)) for v in content.values()):
        columns = {k: list(v.values()) if isinstance(v, dict) else v for k, v in content.items()}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=False)]
    if isinstance(content, list) and all(isinstance(row, dict) for row in content):
        return content
    raise GranvitError(f"{path}: expected a list of rows or a table of columns, as VLMEvalKit writes them")


_TABLES: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
    ".tsv": _tsv,
    ".csv": lambda path: _tsv(path, ","),
    ".xlsx": _xlsx,
    ".json": _json,
}


def _lmms_files(folder: Path, benchmark: Benchmark) -> list[Path]:
    name = re.compile(rf".*samples_(?:{'|'.join(LMMS_TASKS.get(benchmark.name, ('^',)))})\.jsonl")
    return [path for path in sorted(folder.rglob("*.jsonl")) if name.fullmatch(path.name)]


def _lmms_answers(path: Path, questions: Sequence[Question]) -> dict[str, str]:
    samples: list[_Sample] = []
    try:
        content = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise GranvitError(f"{path}: not UTF-8 ({error}); write it anew") from None
    for number, line in enumerate(content.split("\n"), start=1):
        if line.strip():
            samples.append(_sample(f"{path}: line {number}", line))
    asked = {question.index for question in questions}
    for key in _IDS:
        said = {str(sample.doc.get(key)): sample.said for sample in samples}
        if asked <= said.keys() and len(said) == len(samples):
            return {index: said[index] for index in asked}
    samples.sort(key=lambda sample: sample.number)
    if len(samples) != len(questions):
        raise GranvitError(
            f"{path}: {len(samples)} samples for {len(questions)} questions, and no index among {list(_IDS)} "
            "that says which is which; --data names the folder of the file that was asked"
        )
    texts = Counter(_plain(question.cells["question"]) for question in questions)
    for sample, question in zip(samples, questions, strict=True):
        text = _plain(question.cells["question"])
        if text not in sample.asked or (texts[text] > 1 and sample.target not in _golds(question)):
            raise GranvitError(
                f"{path}: document {sample.number} is not for sure question {question.index} of the "
                "benchmark's file; the two are not in the same order, and the documents carry no index"
            )
    return {question.index: sample.said for question, sample in zip(questions, samples, strict=True)}


def _golds(question: Question) -> set[str]:
    """What a row's right answer may be called."""
    answer = question.cells.get("answer", "")
    return {_plain(text) for text in (*golds(question), answer, question.cells.get(answer, answer))}


@dataclass(frozen=True)
class _Sample:
    """One sample: number, document, what was asked and is right (as `_plain` texts), and the answer."""

    number: int
    doc: dict[str, Any]
    asked: str
    target: str
    said: str


def _sample(place: str, line: str) -> _Sample:
    try:
        row = json.loads(line)
        answer = row["filtered_resps"] if row.get("filtered_resps") else row["resps"]
        while isinstance(answer, list):
            answer = answer[0]
        doc = row.get("doc") if isinstance(row.get("doc"), dict) else {}
        texts = [row.get("input"), row.get("arguments"), *(doc.get(key) for key in _TEXTS)]
        asked = _plain(json.dumps(texts, ensure_ascii=False))
        return _Sample(int(row["doc_id"]), doc, asked, _plain(str(row.get("target"))), str(answer))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        raise GranvitError(
            f"{place}: expected a sample with doc_id and filtered_resps or resps, as lmms-eval writes it "
            "with --log_samples"
        ) from None


def _plain(text: str) -> str:
    """Letters and digits alone: what is the same however a text was put into another."""
    return re.sub(r"\\[nrt\"]|[\W_]", "", text).lower()


# How each toolkit's files are found and read.
FORMATS = {
    "vlmevalkit": (_vlmevalkit_files, _vlmevalkit_answers),
    "lmms-eval": (_lmms_files, _lmms_answers),
}
