"""Whether an answer could be read by its rule, and what a judge is asked where it could not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from granvit.evaluation import judge as judges
from granvit.evaluation.benchmarks import Question
from granvit.evaluation.cases import Answered, mathvista_case
from granvit.evaluation.judge import Judge, Task, Verdicts
from granvit.evaluation.prompts import options
from granvit.evaluation.scoring import choices, grounding

NO_JUDGE = "none (rule-based)"  # the toolkit would ask a judge here
NOT_NEEDED = "not needed"

CHOICE_RULES = ("multiple_choice", "mmmu", "mmvp_pair", "mmbench_circular")
GRADED = "mmvet_contains"
JUDGED_IF_ASKED = (*CHOICE_RULES, "hallusion_aggregate")  # with the setting `choices`
JUDGED = (GRADED, "mathvista", *JUDGED_IF_ASKED)  # rules for which the toolkit asks a judge


def _offered(question: Question) -> dict[str, str]:
    """The options of a question; an open one (MMMU) is a choice between its gold and anything else."""
    gold = question.cells.get("answer", "")
    return options(question.cells) or {"A": gold, "B": choices.OTHER_ANSWERS}


def _choice_read(question: Question, text: str) -> bool:
    return choices.infer_choice(text, _offered(question)) not in (None, choices.NO_OPTION)


# Rules that read something out of an answer: whether it could be read.
READABLE: dict[str, Callable[[Question, str], bool]] = {
    **dict.fromkeys(CHOICE_RULES, _choice_read),
    "hallusion_aggregate": lambda question, text: choices.yes_or_no(text) != "Unknown",
    "mathvista": lambda question, text: choices.mathvista_extracted(mathvista_case(question, text)),
    "refcoco_iou50": lambda question, text: grounding.parse_numbers(text) is not None,
}


def failed_extractions(rule: str, answered: Sequence[Answered]) -> float | None:
    """Share (0-1) of the answers that could not be read; None where nothing needs reading."""
    read = READABLE.get(rule)
    return None if read is None else sum(not read(q, text) for q, text in answered) / len(answered)


def ask_judge(rule: str, answered: Sequence[Answered], judge: Judge | None) -> Verdicts | None:
    """What a judge says of the answers of a rule; None where there is none to ask.

    Verdicts are marks (0-1) for MMVet, and else texts that stand for the answers they were read out of.
    """
    if judge is None or rule not in JUDGED or (rule in JUDGED_IF_ASKED and not judge.settings.choices):
        return None
    return judge.ask(list(_tasks(rule, answered)))


def _tasks(rule: str, answered: Sequence[Answered]) -> Iterator[Task]:
    for question, text in answered:
        asked = question.cells["question"]
        if rule == GRADED:
            yield judges.grading(question.index, asked, question.cells["answer"], text)
        elif rule == "mathvista":
            # A text or list answer can't be right whatever a judge reads, so that none is asked about it.
            readable = partial(READABLE[rule], question)
            if not readable(text) and _has_readable_kind(question):
                yield judges.extraction(question.index, asked, text, readable)
        elif rule == "hallusion_aggregate":
            if choices.yes_or_no(text) == "Unknown":
                yield judges.meaning(question.index, asked, text)
        elif choices.infer_choice(text, _offered(question)) is None:  # a refusal ("Z") has been read
            yield judges.choosing(question.index, asked, _offered(question), text)


def _has_readable_kind(question: Question) -> bool:
    cells = question.cells
    return cells.get("question_type") == "multi_choice" or cells.get("answer_type") in ("integer", "float")
