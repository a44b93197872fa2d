"""Rules that compare strings: ANLS, relaxed accuracy, VQA accuracy, exact match, containment, ROUGE-L."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any

ANLS_THRESHOLD = 0.5
RELAXED_TOLERANCE = 0.05
FORMULAS = "Handwritten Mathematical Expression Recognition"

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_DIGIT_COMMA_DIGIT = re.compile(r"\d,\d")
_LONE_PERIOD = re.compile(r"(?<!\d)\.(?!\d)")
_PERIODS_REMOVED = 32  # the toolkit passes a regex flag where `count` belongs, and that flag is 32

_ARTICLES = {"a", "an", "the"}
_NUMBERS = "zero one two three four five six seven eight nine ten"
_NUMBER_WORDS = {"none": "0"} | {word: str(number) for number, word in enumerate(_NUMBERS.split())}
# Contractions that VQA evaluation restores after an apostrophe was dropped (`dont` -> `don't`). Words that
# would read as another one (`well`, `its`, `id`, `shed`) are left alone.
_CONTRACTED = (
    "ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd "
    "how'll how's isn't it'd it'll ma'am mightn't might've mustn't must've needn't not've o'clock "
    "oughtn't shan't should've shouldn't somebody'll somebody's someone'd someone'll someone's "
    "something'd something'll that's there'd there're there's they'd they'll they're they've 'twas wasn't "
    "we've weren't what'll what're what's what've when's where'd where's where've who'd who'll who's "
    "who've why'll why're why's won't would've wouldn't y'all you'd you'll you're you've couldn't've "
    "hadn't've he'd've it'd've mightn't've she'd've shouldn't've somebody'd've someone'd've "
    "something'd've there'd've they'd've we'd've who'd've wouldn't've y'all'll y'all'd've 'ow's'at "
    "you'd've "
)


def _drop_one_apostrophe(word: str) -> list[str]:
    return [word[:i] + word[i + 1 :] for i, letter in enumerate(word) if letter == "'"]


_CONTRACTIONS = {short: word for word in _CONTRACTED.split() for short in _drop_one_apostrophe(word)}
_CONTRACTIONS["somebody'd"] = "somebodyd"  # the other way round, as VQA's own table has it


def anls(prediction: str, answers: Sequence[str]) -> float:
    """Normalised Levenshtein similarity with the best gold, 0-1; below 0.5 it counts 0 (DocVQA, InfoVQA).

    The distance is taken between lower-case strings with single spaces, the length is that of the strings as
    they came.
    """
    best = max(1.0 - _normalised_distance(prediction, answer) for answer in answers)
    return best if best >= ANLS_THRESHOLD else 0.0


def _normalised_distance(prediction: str, answer: str) -> float:
    length = max(len(prediction.upper()), len(answer.upper()))
    distance = levenshtein(_single_spaced(prediction), _single_spaced(answer))
    return distance / length if length else 0.0


def _single_spaced(text: str) -> str:
    return " ".join(text.lower().split())


def levenshtein(a: str, b: str) -> int:
    """Insertions, deletions and substitutions that turn ``a`` into ``b``."""
    previous = list(range(len(b) + 1))
    for i, letter in enumerate(a, start=1):
        row = [i]
        for j, other in enumerate(b, start=1):
            row.append(min(previous[j] + 1, row[-1] + 1, previous[j - 1] + (letter != other)))
        previous = row
    return previous[-1]


def relaxed_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """1 if the prediction is within 5 % of a numeric gold, or equal to a text but for case (ChartQA)."""
    return max(float(_relaxed_match(prediction.strip(), answer)) for answer in answers)


def _relaxed_match(prediction: str, answer: str) -> bool:
    predicted, gold = _to_float(prediction), _to_float(answer)
    if predicted is not None and gold:  # a gold of 0 allows no relative tolerance
        return abs(predicted - gold) / abs(gold) <= RELAXED_TOLERANCE
    return prediction.lower() == answer.lower()


def _to_float(text: str) -> float | None:
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None


def vqa_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """Leave-one-out mean of min(matches / 3, 1) over the annotators' answers (TextVQA); one answer alone
    gives 0.
    """
    predicted, golds = normalise_vqa(prediction), [normalise_vqa(answer) for answer in answers]
    matches = golds.count(predicted)
    return sum(min(1.0, (matches - (gold == predicted)) / 3) for gold in golds) / len(golds)


def normalise_vqa(text: str) -> str:
    """VQA's normal form: punctuation away, number words as digits, no articles, apostrophes restored."""
    text = strip_punctuation(text.replace("\n", " ").replace("\t", " ").strip())
    words = [_NUMBER_WORDS.get(word, word) for word in text.lower().split()]
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def strip_punctuation(text: str) -> str:
    """Remove a mark that touches a space (or all marks where a comma stands between digits), else make it a
    space.
    """
    stripped = text
    for mark in _PUNCTUATION:
        beside_space = mark + " " in text or " " + mark in text
        stripped = stripped.replace(mark, "" if beside_space or _DIGIT_COMMA_DIGIT.search(text) else " ")
    return _LONE_PERIOD.sub("", stripped, count=_PERIODS_REMOVED)


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """Share of the golds (one, in GQA) that equal the prediction after strip and lower-case."""
    predicted = prediction.strip().lower()
    return sum(answer.strip().lower() == predicted for answer in answers) / len(answers)


def ocrbench_contains(prediction: str, answers: Sequence[str], category: str) -> int:
    """1 if the prediction contains a gold; formulas keep their case and lose their spaces (OCRBench)."""

    def plain(text: str) -> str:
        text = text.strip().replace("\n", " ")
        return text.replace(" ", "") if category == FORMULAS else text.lower().strip()

    return int(any(plain(answer) in plain(prediction) for answer in answers))


def mmvet_contains(prediction: str, answer: str) -> float:
    """MMVet without a judge, 0-1: the best alternative's share of elements whose words stand in the
    prediction.

    ``answer`` joins elements by ``<AND>`` and alternatives by ``<OR>``. Stricter than the judge, which gives
    part marks to a paraphrase: a long descriptive gold hardly ever counts, so this is a lower bound.
    """
    predicted = f" {' '.join(_words(prediction))} "

    def share(alternative: str) -> float:
        elements = [" ".join(_words(element)) for element in alternative.split("<AND>")]
        return sum(bool(element) and f" {element} " in predicted for element in elements) / len(elements)

    return max(share(alternative) for alternative in answer.split("<OR>"))


def _words(text: str) -> list[str]:
    return re.findall(r"-?\d+(?:[.,]\d+)*|\w+", text.lower())


def rouge_l(prediction: str, references: Sequence[str]) -> float:
    """ROUGE-L F-measure of the package rouge-score (no stemming), best reference."""
    scorer = _rouge_scorer()
    return max(scorer.score(reference, prediction)["rougeL"].fmeasure for reference in references)


@functools.cache
def _rouge_scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # costs seconds, and no benchmark's score needs it

    return RougeScorer(["rougeL"])
