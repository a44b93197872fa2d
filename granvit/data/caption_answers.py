"""What of a captioner's answer becomes a caption: a pure function of its words.

A caption is one line of plain text. Markdown, list marks, labels and quotation marks around the whole go;
quotation marks inside stay, since they say what is written in the image. What is no caption (a refusal,
nothing at all) is a `NoCaption` with its cause: it is counted, and not trained on.
"""

from __future__ import annotations

import re

EMPTY, REFUSED, TOO_LONG, CUT_OFF = "caption_empty", "caption_refused", "caption_too_long", "caption_cut_off"
CAUSES = (EMPTY, REFUSED, TOO_LONG, CUT_OFF)

_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "«": "»", "「": "」", "`": "`"}
_LIST_MARK = re.compile(r"^\s*(?:[-*+•–—]|\d{1,2}[.)]|#{1,6})\s+")
_RULE_OR_FENCE = re.compile(r"\s*(?:```\w*|[-*_=]{3,})\s*")
_EMPHASIS = re.compile(r"(\*\*|__|\*|`)(?=\S)(.+?)(?<=\S)\1")
_LABEL = re.compile(r"^(?:(?:short |brief )?(?:caption|description|answer|response|output))\s*:\s*", re.I)
_WORD_CHARACTER = re.compile(r"\w")
_SENTENCE_END = re.compile(r"[.!?](?=[\"'”’)]*\s)|[.!?][\"'”’)]*$|[。！？]")

# "The second image shows a dog": what is behind the verb stands alone. Nothing looser is cut: "The image of a
# saint on a wall" is a caption.
_LEAD_IN = re.compile(
    r"(?:in )?(?:the|this) (?:(?:first|second|cropped|given|provided|highlighted) )?"
    r"(?:image|picture|photo|photograph|region|area|crop|box|bounding box)"
    r"(?: (?:shows|depicts|contains|displays|features|portrays)|,? there (?:is|are))[: ]+(?=\S)",
    re.I,
)

# How a refusal begins. "Sorry, we're closed" on a sign is none.
_REFUSAL = re.compile(
    "|".join(
        (
            r"(?:i['’]m|i am) (?:very |so )?sorry",
            r"sorry,? (?:but )?(?:i|this|the image)\b",
            r"i apologi[sz]e|apologies,",
            r"(?:unfortunately,? )?i (?:cannot|can ?not|can['’]t|could not|couldn['’]t|won['’]t)\b",
            r"(?:unfortunately,? )?i (?:do not|don['’]t|am unable|am not able)\b",
            r"(?:unfortunately,? )?i['’]m (?:unable|not able)\b",
            r"as an? (?:ai|artificial|language model|large language)\b",
            r"(?:it is|it['’]s) (?:not possible|impossible|difficult|hard) to "
            r"(?:tell|say|determine|identify|see|describe)\b",
            r"unable to (?:tell|determine|identify|see|describe|provide)\b",
            r"(?:no|there is no) (?:second )?(?:image|picture|content|description) (?:is |was |has been )?"
            r"(?:provided|given|visible|available|attached)\b",
            r"(?:the|this) (?:first |second )?image (?:is not|isn['’]t|was not|cannot be) "
            r"(?:visible|provided|available|clear)\b",
            r"很抱歉|抱歉|对不起|我无法|我不能|无法(?:识别|确定|描述|提供|看)|作为一个",
        )
    ),
    re.I,
)
_NO_ANSWER = {
    "none",
    "n/a",
    "na",
    "null",
    "nil",
    "unknown",
    "unclear",
    "nothing",
    "not available",
    "no description",
}

# A phrase may end before one of these words: what stands before it makes sense alone. "of" is not one of them
# ("in front of"), nor is "and" ("a red and white shirt", "a man and a woman").
_OPENERS = re.compile(
    r"above|across|after|against|along|among|around|at|before|behind|below|beneath|beside|between|by|during|for|"
    r"from|if|in|inside|into|near|next|off|on|onto|out|outside|over|through|to|towards?|under|underneath|up|upon|"
    r"where|which|while|who|whose|with|within|without",
    re.I,
)
_ABBREVIATION = re.compile(r"(?:st|mr|mrs|ms|dr|prof|no|vs|etc|jr|sr|(?:[a-z]\.)*[a-z])\.", re.I)


class NoCaption(ValueError):
    """The answer holds no caption; the message is the cause, as counted in the rejects."""


def clean_caption(answer: str, cut_off: bool = False) -> str:
    """The global caption in an answer: one paragraph on one line.

    ``cut_off``: the model was stopped at its limit of tokens; the last, unfinished sentence is then left out.
    Raises NoCaption.
    """
    text = _plain(answer, " ")
    if cut_off:
        ends = [end.end() for end in _SENTENCE_END.finditer(text)]
        if not ends:
            raise NoCaption(CUT_OFF)
        text = text[: ends[-1]]
    return text


def clean_region(answer: str, max_words: int, cut_off: bool = False) -> str:
    """A region's caption in an answer: at most ``max_words`` words (Sec. 3).

    Answers of a few words more are shortened, not rejected: half of an overshooting answer is a correct
    answer, and a region lost for a word would be lost unevenly (it is the crowded regions that take more
    words). They are shortened where a sentence, a clause or a phrase ends, so that no caption stops in the
    middle of one; where there is no such place among the words allowed the answer is rejected. Raises
    NoCaption.
    """
    text = _without_lead_in(_plain(answer, "; "))
    words = text.split()
    if cut_off:
        words = words[:-1]  # its last letters may be missing
    if cut_off or len(words) > max_words:
        beginning = _beginning(words, max_words)
        if not beginning:
            raise NoCaption(CUT_OFF if cut_off else TOO_LONG)
        text = " ".join(beginning).rstrip(" ,;:–—-(")
    if not _WORD_CHARACTER.search(text):
        raise NoCaption(EMPTY)
    return text


def _plain(answer: str, between_items: str) -> str:
    """One line without markup; ``between_items`` joins the items of a list."""
    lines, items = [], 0
    for line in _printable(answer).splitlines():
        if _RULE_OR_FENCE.fullmatch(line):
            continue
        bare = _LIST_MARK.sub("", line, count=1)
        items += bare != line
        if bare.strip():
            lines.append(bare.strip())
    text = " ".join((between_items if items > 1 else " ").join(lines).split())
    while (stripped := _LABEL.sub("", _EMPHASIS.sub(r"\2", _unquoted(text)), count=1).strip()) != text:
        text = stripped
    if not _WORD_CHARACTER.search(text):
        raise NoCaption(EMPTY)
    if _REFUSAL.match(text) or text.rstrip(".!").lower() in _NO_ANSWER:
        raise NoCaption(REFUSED)
    return text


def _printable(text: str) -> str:
    """Without control characters and without what could not be decoded."""
    return "".join(c for c in text if c.isprintable() and c != "\ufffd" or c.isspace())


def _unquoted(text: str) -> str:
    """Without quotation marks around the whole; `"Stop" and "Go"` is not a whole in quotation marks."""
    closing = _QUOTES.get(text[:1])
    inside = text[1:-1]
    if closing and len(text) > 2 and text.endswith(closing) and not {text[0], closing} & set(inside):
        return inside.strip()
    return text


def _without_lead_in(text: str) -> str:
    found = _LEAD_IN.match(text)
    if not found:
        return text
    rest = text[found.end() :]
    return rest[0].upper() + rest[1:] if text[0].isupper() else rest


def _beginning(words: list[str], most: int) -> list[str]:
    """The longest beginning of at most ``most`` words that ends with a sentence, else a clause or a phrase;
    empty where none does."""
    lengths = range(min(most, len(words) - 1), 1, -1)
    for n in lengths:
        if _last_character(words[n - 1]) in ".!?。！？" and not _ABBREVIATION.fullmatch(words[n - 1]):
            return words[:n]
    for n in lengths:
        opens_phrase = _OPENERS.fullmatch(words[n]) and not _OPENERS.fullmatch(words[n - 1])
        if opens_phrase or _last_character(words[n - 1]) in ",;:，；":
            return words[:n]
    return []


def _last_character(word: str) -> str:
    return word.rstrip("\"'”’)")[-1:] or "-"
