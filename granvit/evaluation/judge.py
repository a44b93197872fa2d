"""What a judge is asked: MMVet's marks, and what an answer says where the rules cannot read it.

The tasks are VLMEvalKit's (commit e8e78f05): MMVet's answers are marked 0-1 with up to five tries,
MathVista's are shortened to the bare answer where it does not stand there plainly, and (if `choices` is set)
an option or a yes or no is picked where the rules find none. Wording and examples are this project's own, so
a mark may differ from the toolkit's even with the same model: `VERSION` goes into every score. A question
without a usable reply falls back on the rule, and is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from granvit.config.judge import JudgeSettings
from granvit.evaluation.judge_replies import last_words, read_mark
from granvit.evaluation.scoring import choices
from granvit.evaluation.tsv_files import Question
from granvit.servers.endpoint import Endpoint, Refused, Unanswered, shown
from granvit.servers.reply_cache import Cache, Reply

VERSION = "judge-2"
KEY_VARIABLE = "GRANVIT_JUDGE_KEY"
GRADING_TRIES = 5  # as in the toolkit
GRADING_TOKENS = 8
READING_TOKENS = 128  # as in the toolkit

GRADE = """\
You mark answers to questions about an image. Compare the answer with the reference and give one mark from \
0.0 (nothing is right) to 1.0 (everything is right) in steps of 0.1.
In a reference, <AND> joins parts that are all needed, each worth an equal share of the mark; <OR> joins \
alternatives of which any one earns the whole mark. A paraphrase of a part counts as the part; a part that \
is only partly there counts partly.
Reply with the mark alone.

Question: How many chairs and tables are there? | Reference: 4 chairs <AND> 2 tables | Answer: four chairs \
| Mark: 0.5
Question: How many chairs and tables are there? | Reference: 4 chairs <AND> 2 tables | Answer: 2 tables, 4 \
chairs | Mark: 1.0
Question: Who painted it? | Reference: Rembrandt <OR> Rembrandt van Rijn | Answer: Vermeer | Mark: 0.0
Question: Why is the sign funny? | Reference: The sign forbids reading signs, so whoever obeys it must \
already have broken it. | Answer: It tells people not to read signs, which is odd. | Mark: 0.6
Question: {question} | Reference: {answer} | Answer: {prediction} | Mark:"""

EXTRACT = """\
Below is a question and a model's response. Copy out the response's final answer in the form that the \
question asks for, and nothing else: no words around it and no unit. Do not solve the question yourself. \
If the response gives no answer, reply: none

Question: (Whole number wanted.) How many blocks are stacked? | Response: Counting them row by row I find \
3 + 5, that is 8 blocks. | Final answer: 8
Question: (Number with two decimals wanted.) What does one pen cost? | Response: Two cost $3.50, so one is \
$1.75. | Final answer: 1.75
Question: (Option letter wanted.) Which bar is highest? (A) May (B) June | Response: It peaks in June. | \
Final answer: B
Question: {question} | Response: {prediction} | Final answer:"""

CHOOSE = """\
A multiple-choice question about an image was answered in free words. Say which option the answer picks. \
Reply with one letter of an option, or with Z if the answer picks none, picks several, or declines. Do not \
judge whether the option is right.

Question: What stands on the shelf? | Options: A. a vase; B. a clock; C. a lamp | Answer: some sort of \
timepiece | Letter: B
Question: What stands on the shelf? | Options: A. a vase; B. a clock; C. a lamp | Answer: I see a bicycle. \
| Letter: Z
Question: {question} | Options: {options} | Answer: {prediction} | Letter:"""

YES_NO = """\
A yes-or-no question about an image was answered in free words. Say what the answer means. Reply with Yes, \
No or Unknown, and nothing else. Do not judge whether it is right.

Question: Is the door open? | Answer: One can see right through into the hall. | Meaning: Yes
Question: Is the door open? | Answer: The picture is too dark. | Meaning: Unknown
Question: {question} | Answer: {prediction} | Meaning:"""

Case = Mapping[str, Any]


@dataclass(frozen=True)
class Task:
    """One question to the judge: a filled prompt, and what of a reply counts (None: it is of no use)."""

    index: str
    prompt: str
    read: Callable[[str], str | float | None]
    tries: int = 1
    max_tokens: int = READING_TOKENS


@dataclass
class Verdicts:
    """What the judge said by index, and one line for each question that it failed."""

    said: dict[str, str | float] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


class Judge:
    """A model that marks and reads answers. ``settings.url`` must be set (see `make_judge`)."""

    def __init__(self, settings: JudgeSettings) -> None:
        cache = Cache(settings.cache, "set evaluation.judge.cache to a file that can be written")
        self.endpoint, self.settings = Endpoint(settings, cache, KEY_VARIABLE), settings

    @property
    def name(self) -> str:
        """The judge as score files and tables name it."""
        return str(self.settings.model)

    @property
    def address(self) -> str:
        """Where it is asked, without anything secret."""
        return shown(str(self.settings.url))

    def ask(self, tasks: Sequence[Task]) -> Verdicts:
        """Put all tasks to the judge, some at a time; never raises for what a judge does or fails to do."""
        with ThreadPoolExecutor(self.settings.concurrency) as pool:
            results = list(pool.map(self._one, tasks))
        verdicts = Verdicts()
        for task, (said, failure) in zip(tasks, results, strict=True):
            if said is not None:
                verdicts.said[task.index] = said
            else:
                verdicts.failures[task.index] = failure
        return verdicts

    def _one(self, task: Task) -> tuple[str | float | None, str]:
        def read(reply: Reply) -> str | float | None:
            return task.read(last_words(reply))

        reply = Reply("")
        for attempt in range(task.tries):
            try:
                reply = self.endpoint.reply(
                    task.prompt, attempt, task.max_tokens, usable=lambda reply: read(reply) is not None
                )
            except Refused as error:
                return None, f"{error}: {error.detail}" if error.detail else str(error)
            except Unanswered as error:
                return None, str(error)
            said = read(reply)
            if said is not None:
                return said, ""
        return None, f"{task.tries} unusable replies, the last {reply.text[:60]!r}"


def identity(settings: JudgeSettings | None) -> dict[str, str | bool | None] | None:
    """What a score depends on of its judge: a reason to score again, which another address is not."""
    if settings is None or settings.url is None:
        return None
    return {"model": settings.model, "choices": settings.choices, "prompts": VERSION}


def make_judge(settings: JudgeSettings | None) -> Judge | None:
    """The judge of the settings, or None where none is set."""
    return Judge(settings) if settings is not None and settings.url else None


@dataclass(frozen=True)
class Asking:
    """What a judge is asked for a rule: ``task``, of a question and its case (None: nothing).

    ``marks``: it says marks (0-1), else texts that stand for the answers they were read out of;
    ``optional``: it is asked only with the setting `choices`.
    """

    task: Callable[[Question, Case], Task | None]
    marks: bool = False
    optional: bool = False


def grading(question: Question, case: Case) -> Task:
    """MMVet: a mark 0-1."""
    spaced = question.cells["answer"].replace("<AND>", " <AND> ").replace("<OR>", " <OR> ")
    prompt = GRADE.format(question=question.cells["question"], answer=spaced, prediction=case["prediction"])
    return Task(question.index, prompt, read_mark, GRADING_TRIES, GRADING_TOKENS)


def extraction(question: Question, case: Case) -> Task | None:
    """MathVista: the bare answer of a wordy one; a reply that the rules cannot read is of no use.

    A text or list answer cannot be right whatever a judge reads, so that none is asked about it.
    """

    def read(reply: str) -> str | None:
        return reply if choices.mathvista_extracted({**case, "prediction": reply}) else None

    can_count = case["question_type"] == "multi_choice" or case["answer_type"] in ("integer", "float")
    if choices.mathvista_extracted(case) or not can_count:
        return None
    prompt = EXTRACT.format(question=question.cells["question"], prediction=case["prediction"])
    return Task(question.index, prompt, read)


def choosing(question: Question, case: Case) -> Task | None:
    """A multiple-choice question: the letter of an option, or Z; an answer that declines has been read."""
    options = choices.offered(case)
    if choices.infer_choice(case["prediction"], options) is not None:
        return None
    listed = "; ".join(f"{letter}. {text}" for letter, text in options.items())
    prompt = CHOOSE.format(question=question.cells["question"], options=listed, prediction=case["prediction"])
    letters = {*options, choices.NO_OPTION}

    def read(reply: str) -> str | None:
        letter = reply.strip(" .()*:").upper()[:1] if len(reply.strip(" .()*:")) <= 1 else ""
        return letter if letter in letters else None

    return Task(question.index, prompt, read, tries=3)  # as in the toolkit


def meaning(question: Question, case: Case) -> Task | None:
    """A yes-or-no question: Yes, No or Unknown."""
    if choices.yes_or_no(case["prediction"]) != "Unknown":
        return None
    said = {"yes": "Yes", "no": "No", "unknown": "Unknown"}
    prompt = YES_NO.format(question=question.cells["question"], prediction=case["prediction"])
    return Task(question.index, prompt, lambda reply: said.get(reply.strip(" .*").lower()), tries=3)
