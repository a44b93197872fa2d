"""Answers on disk while they are being made: append-only, safe to kill, and merged into one order at the end.

Each process appends to its own ``{slug}.{fingerprint}.{shard}-{shards}.partial``. What any of these files
holds is never asked again, however many processes the next attempt has; the fingerprint covers model and
questions, so answers of another checkpoint are never taken over. ``merge`` writes ``{slug}.jsonl``, in the
order of the questions, so that the file does not depend on who answered what, or when; `FINISHED` beside it
holds the fingerprints, so that the same is not asked again.
"""

from __future__ import annotations

import codecs
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from granvit.errors import GranvitError
from granvit.evaluation.asks import Ask
from granvit.evaluation.benchmarks import Benchmark
from granvit.evaluation.tsv_files import Question
from granvit.files import write_json, write_text

FINISHED = "fingerprints.json"  # slug -> fingerprint of what {slug}.jsonl answers


class AnswerFiles:
    """The answers of one model to some benchmarks. ``fingerprints``: of each slug; ``reuse``: take over what
    a finished file of the same fingerprint answers; ``answered``: slug -> indices that have an answer.

    As a context it holds this shard's files open for ``append``.
    """

    def __init__(
        self,
        out_dir: str | Path,
        fingerprints: Mapping[str, str],
        shard: int = 0,
        shards: int = 1,
        reuse: bool = False,
    ) -> None:
        self.out_dir, self.fingerprints, self.reuse = Path(out_dir), fingerprints, reuse
        self.out_dir.mkdir(parents=True, exist_ok=True)
        self.own = {
            slug: self.out_dir / f"{slug}.{digits}.{shard}-{shards}.partial"
            for slug, digits in fingerprints.items()
        }
        for path in self.own.values():
            drop_torn_line(path)
        self.answered = {slug: set(self._read(slug)) for slug in self.own}
        self._open: dict[str, TextIO] = {}

    def __enter__(self) -> AnswerFiles:
        for slug, path in self.own.items():
            self._open[slug] = open(path, "a", encoding="utf-8")  # noqa: SIM115
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._open.values():
            file.close()

    def has(self, ask: Ask) -> bool:
        """Whether the question is answered."""
        return ask.index in self.answered[ask.slug]

    def append(self, asks: Sequence[Ask], answers: Sequence[str]) -> None:
        """Add the answers of a batch; once this returns, a kill does not lose them."""
        for ask, answer in zip(asks, answers, strict=True):
            self._open[ask.slug].write(_line(ask.index, answer))
            self.answered[ask.slug].add(ask.index)
        for slug in {ask.slug for ask in asks}:
            self._open[slug].flush()

    def merge(self, asks: Iterable[Ask]) -> None:
        """Write ``{slug}.jsonl`` of every benchmark in the order of ``asks``, and remove the partial files.

        Raises GranvitError while a question has no answer.
        """
        wanted: dict[str, list[str]] = {slug: [] for slug in self.own}
        for ask in asks:
            wanted[ask.slug].append(ask.index)
        finished = {}
        for slug, indices in wanted.items():
            answers = self._read(slug)
            missing = [index for index in indices if index not in answers]
            if missing:
                raise GranvitError(
                    f"{self.out_dir}: {len(missing)} of {len(indices)} questions of {slug} have no answer "
                    f"(such as {missing[0]}); run every shard to its end, then merge again"
                )
            finished[slug] = "".join(_line(i, answers[i]) for i in indices)
        for slug, lines in finished.items():
            write_text(self.out_dir / f"{slug}.jsonl", lines)
            write_json(self.out_dir / FINISHED, {**self._finished(), slug: self.fingerprints[slug]})
            for stale in self.out_dir.glob(f"{slug}.*.partial"):
                stale.unlink()

    def _finished(self) -> dict[str, str]:
        try:
            found = json.loads((self.out_dir / FINISHED).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}  # without it answers are asked for again, which is never wrong
        return found if isinstance(found, dict) else {}

    def _read(self, slug: str) -> dict[str, str]:
        answers: dict[str, str] = {}
        whole = self.out_dir / f"{slug}.jsonl"
        if self.reuse and whole.is_file() and self._finished().get(slug) == self.fingerprints[slug]:
            answers |= read_answers(whole)
        for path in sorted(self.out_dir.glob(f"{slug}.{self.fingerprints[slug]}.*partial")):
            answers |= read_answers(path, torn=True)
        return answers


def join(path: Path, benchmark: Benchmark, questions: Sequence[Question]) -> dict[str, str]:
    """Index -> prediction, of just these questions.

    Raises GranvitError where the file is missing, a line is not an answer, or it answers other questions.
    """
    if not path.is_file():
        raise GranvitError(
            f"{path}: no predictions of {benchmark.name} there; make them with `snakemake {path}` or "
            "`granvit eval predict`"
        )
    answers = read_answers(path)
    asked = {question.index for question in questions}
    missing = next((question.index for question in questions if question.index not in answers), None)
    surplus = next((index for index in answers if index not in asked), None)
    if missing is None and surplus is None:
        return answers
    found = [f"none for question {missing}"] if missing is not None else []
    found += [f"one for {surplus}, which {benchmark.tsv} does not ask"] if surplus is not None else []
    remedy = "--data names the folder of the file that was asked"
    if surplus is None:
        remedy = f"ask the rest with `granvit eval predict`, or score a part with --limit; {remedy}"
    raise GranvitError(
        f"{path}: {len(answers)} answers for {len(questions)} questions of {benchmark.name} "
        f"({'; '.join(found)}); {remedy}"
    )


def read_answers(path: Path, torn: bool = False) -> dict[str, str]:
    """Index -> prediction; with ``torn`` (a file that a killed process may have left), without a last line
    that is still being written, and the later one of two answers to a question.

    Raises GranvitError naming a line that holds no answer, or a second one to the same question.
    """
    content = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    if torn:
        content = content[: content.rfind(b"\n") + 1]
    remedy = "remove the line: its question is asked again" if torn else "mend the line, or answer it again"
    answers: dict[str, str] = {}
    lines: dict[str, int] = {}
    for number, line in enumerate(_decoded(path, content, remedy).split("\n"), start=1):
        # Not splitlines: answers may hold other line breaks.
        if not line.strip():
            continue
        try:
            index, prediction = _answer(line)
        except ValueError as error:
            raise GranvitError(f"{path}: line {number}: {error}; {remedy}") from None
        if index in answers and not torn:
            raise GranvitError(
                f"{path}: line {number}: question {index} is answered a second time, first in line "
                f"{lines[index]}; keep one of the two lines"
            )
        answers[index], lines[index] = prediction, number
    return answers


def _decoded(path: Path, content: bytes, remedy: str) -> str:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise GranvitError(f"{path}: the text is UTF-16; write it anew as UTF-8 (iconv -f UTF-16 -t UTF-8)")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        other = "" if remedy.startswith("remove") else "write the file anew as UTF-8 (iconv -t UTF-8), or "
        raise GranvitError(f"{path}: line {number}: not UTF-8; {other}{remedy}") from None


def _answer(line: str) -> tuple[str, str]:
    """Index and prediction of a line. Raises ValueError that says what is wrong with it."""
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict) or not {"index", "prediction"} <= row.keys():
        raise ValueError("expected a JSON object with index and prediction")
    for key, kinds in (("index", (str, int)), ("prediction", (str, int, float))):
        if isinstance(row[key], bool) or not isinstance(row[key], kinds):
            hint = '"" where nothing was said' if key == "prediction" else "as in the benchmark's file"
            raise ValueError(f"{key} is {json.dumps(row[key])[:60]}, expected a text ({hint})")
    return str(row["index"]), str(row["prediction"])


def drop_torn_line(path: Path) -> None:
    """Remove what a kill left of the last line, so that the next one begins on a line of its own."""
    if path.exists():
        whole, end, torn = path.read_bytes().rpartition(b"\n")
        if torn:
            os.truncate(path, len(whole + end))


def _line(index: str, answer: str) -> str:
    return json.dumps({"index": index, "prediction": answer}, ensure_ascii=False) + "\n"
