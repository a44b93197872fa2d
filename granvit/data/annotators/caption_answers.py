"""What of a captioner's answer becomes a caption: a pure function of its words.

A caption is one line of plain text. Markdown, list marks, labels, a model's own tokens and quotation marks
around the whole go; quotation marks inside stay, since they say what is written in the image. What is no
caption (a refusal, a box, nothing at all) is `Rejected` with its cause: it is counted, and not trained on.

Answers may be in Chinese or Japanese, so words are not what stands between spaces. Each pattern takes time
in proportion to the answer's length: a model in a loop writes long ones.
"""

from __future__ import annotations

import re
from itertools import pairwise

from granvit.data.records.records import Rejected

EMPTY, REFUSED, NO_PROSE = "caption_empty", "caption_refused", "caption_no_prose"
TOO_LONG, CUT_OFF = "caption_too_long", "caption_cut_off"
CAUSES = (EMPTY, REFUSED, NO_PROSE, TOO_LONG, CUT_OFF)

_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "«": "»", "「": "」", "『": "』", "`": "`"}
_CLOSING = "\"'”’»」』`)]）"
_BRACKETS = ("“”", "()", "[]", "（）", "「」", "『』")

# What a model thought before it answered (its chat template may have opened the thought), and its own tokens.
_TOKENS = re.compile(r"\A.*</think>|<think>.*|<\|[^|<>]{1,40}\|>", re.S)
_LIST_MARK = re.compile(r"^\s*(?:[-*+•–—]|\d{1,2}[.)]|#{1,6})\s+")
_RULE_OR_FENCE = re.compile(r"\s*(?:```\w*|[-*_=]{3,})\s*")
# Not inside words and formulas: "2*3*4". ASCII, since Chinese sets no spaces around emphasis.
_EMPHASIS = re.compile(r"(?<![\w*])(\*{1,3}|__|`)(?=\S)((?:(?!\1).)+)(?<=\S)\1(?![\w*])", re.ASCII)
_LABEL = re.compile(
    r"(?:sure|certainly|of course)(?:!|[,.](?= here))\s+|"
    r"(?:here(?: is|['’]s) )?(?:the |an? )?(?:short |brief )?(?:caption|description|answer|response|output)"
    r"(?: (?:of|for) (?:the|this) [^:.]{1,40})?\s*[:：]\s*|"
    r"(?:描述|答案|回答)\s*[:：]\s*",
    re.I,
)
_WORD_CHARACTER = re.compile(r"\w")

# JSON, or a box's corners anywhere: as a caption they would teach numbers that nobody checked.
_NO_PROSE = re.compile(
    r"[\[{] ?[\[{\"']|[\[(] ?\d+(?:\.\d+)?(?:, ?\d+(?:\.\d+)?){3} ?[\])]|\(\d+, ?\d+\),? ?\(\d+, ?\d+\)"
)

# "The second image shows a dog": what is behind the verb stands alone. Nothing looser is cut: "The image of a
# saint on a wall" is a caption, as is "The contents of the box are spilled".
_PICTURE = (
    r"(?:(?:the|this) (?:(?:first|second|cropped|given|provided|highlighted) )?"
    r"(?:image|picture|photo|photograph|region|area|part|crop|box|bounding box)|(?:image|picture) [12])"
    r"(?: (?:of|in|inside|within) (?:the|this) (?:first image|image|box))?(?: (?:you )?provided)?"
    r"(?: [\[(][\d., ()\[\]]{1,60}[\])])?"
)
_CONTENT = rf"(?:the contents?(?: (?:of|in|inside|within) {_PICTURE})?)"
_LEAD_IN = re.compile(
    rf"(?:(?:{_CONTENT}|{_PICTURE}) (?:shows|depicts|contains|displays|features|portrays)|"
    rf"{_CONTENT} (?:is|are)(?= (?:an?|the|two|three|some|several)\b)|"
    rf"(?:in )?{_PICTURE},? there (?:is|are))"
    r"(?:[: ]+(?:(?:an?|the)$)?|$)|"
    r"(?:图片?|图像|画面|框)[中内里]?(?:显示|展示|描绘)(?:了|着|的是)?[：:]?",
    re.I,
)

# How a refusal begins. It says that the captioner cannot tell: what one cannot do or is sorry for otherwise
# ("I can't breathe", "Sorry, we're closed") is written on signs.
_POLITELY = (
    r"(?:(?:(?:(?:i['’]m|i am) (?:very |so )?)?sorry|unfortunately|it (?:appears|seems)(?: that)?|"
    r"(?:without|based on|from) [^,.]{1,60})[,.]? (?:but )?)?"
)
_TELL = (
    r"(?:see|tell|say wh\w+|identify|describe|determine|recogni[sz]e|assist|help(?! \w+ing)|provide|view|"
    r"make out|read)\b"
)
_VISIBLE = r"(?:clearly )?(?:visible|clear|discernible|recogni[sz]able|provided|given|available|attached)\b"
_REFUSALS = (
    rf"(?:i(?: am|['’]m)? )?(?:can ?not|can['’]t|unable to|not able to)(?: \w+ly)? {_TELL}",
    rf"i (?:could not|couldn['’]t|do not|don['’]t|won['’]t be able to)(?: \w+ly)? {_TELL}",
    rf"(?:it is|it['’]s) (?:not possible|impossible|difficult|hard) to {_TELL}",
    r"(?:i['’]m|i am) (?:very |so )?sorry,? but\b|i apologi[sz]e|apologies,",
    r"as an? (?:ai|artificial|language model|large language)\b",
    r"please (?:provide|upload|share|attach) \w+ (?:\w+ )?(?:image|picture|photo|information|context)\b",
    rf"(?:{_PICTURE}|{_CONTENT}) (?:(?:is|was|are)(?: not|n['’]t)|cannot be|can['’]t be) {_VISIBLE}",
    rf"(?:{_PICTURE}|{_CONTENT}) (?:is|was|are|appears|seems)(?: to be)? (?:corrupted\b|"
    rf"too \w+ to (?:be\b|{_TELL})|(?:\w+ and )?(?:blank|missing|unclear|blurry)[.!]*$)",
    rf"(?:{_PICTURE}|{_CONTENT}) (?:does not|doesn['’]t) (?:contain|show|provide|have) (?:any|enough) "
    r"(?:\w+ )?(?:content|information|details?)\b",
    rf"(?:(?:in {_PICTURE},? )?there (?:is|are) )?(?:(?:nothing|none|no (?:second )?(?:image|picture|content|"
    rf"description)) (?:is |was |has been )?{_VISIBLE}|"
    r"(?:no (?:visible|discernible)|not enough) (?:content|information|details?)\b)",
    rf"not {_VISIBLE}|(?:none|n/?a|null|nil|unknown|unclear|nothing|no (?:image|description))[.!]*$",
    r"(?:很|非常)?(?:抱歉|对不起)[，,。]?但?[我图这]|我?(?:无法|不能)(?:识别|确定|描述|提供|看|判断)|"
    r"作为一个?(?:ai|人工智能|语言模型)",
)
_REFUSAL = re.compile(f"{_POLITELY}(?:{'|'.join(_REFUSALS)})", re.I)

# A word with what follows it of Chinese punctuation, behind which no space stands.
_WORD = re.compile(r"[^\s，。；、：！？]+[，。；、：！？]*[”’」』）]*|\S")
_CHINESE_OR_JAPANESE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
# A phrase may end before one of these words: what stands before it makes sense alone. "of" is not one of them
# ("in front of"), nor is "and" ("a red and white shirt", "a man and a woman").
_OPENERS = re.compile(
    r"above|across|after|against|along|among|around|at|before|behind|below|beneath|beside|between|by|during|for|"
    r"from|if|in|inside|into|near|next|off|on|onto|out|outside|over|through|to|towards?|under|underneath|up|upon|"
    r"where|which|while|who|whose|with|within|without",
    re.I,
)
_ABBREVIATION = re.compile(r"[\"'“‘(\[]*(?:st|mr|mrs|ms|dr|prof|no|vs|etc|jr|sr|(?:[a-z]\.)*[a-z])\.", re.I)
_LIST_NUMBER = re.compile(r"\W*\d{1,2}\.")


def clean_caption(answer: str, cut_off: bool = False) -> str:
    """The global caption in an answer: one paragraph on one line.

    ``cut_off``: the model was stopped at its limit of tokens; the last, unfinished sentence is then left out.
    Raises Rejected.
    """
    text = _checked(_plain(answer, " "))
    if cut_off:
        text = "".join(_sentences(text)[:-1])
        if not text:
            raise Rejected(CUT_OFF)
    return _checked(text)


def clean_region(answer: str, max_words: int, cut_off: bool = False) -> str:
    """A region's caption in an answer: at most ``max_words`` words (Sec. 3).

    Answers of a few words more are shortened, not rejected: half of an overshooting answer is a correct
    answer, and a region lost for a word would be lost unevenly (it is the crowded regions that take more
    words). They are shortened where a sentence, a clause or a phrase ends, so that no caption stops in the
    middle of one; where there is no such place among the words allowed the answer is rejected. Raises
    Rejected.
    """
    text = _checked(_unquoted(_without_lead_in(_plain(answer, "; "))))
    words = list(_WORD.finditer(text))
    if cut_off:
        text = text[: words[-1].start()] + "…"  # the last word may lack letters: "on" may be an onion
    if cut_off or sum(_count(word[0]) for word in words) > max_words:
        text = _beginning(text, max_words).rstrip(" ,;:，；、：–—-(")
        if not text:
            raise Rejected(CUT_OFF if cut_off else TOO_LONG)
    return _checked(text)


def _checked(text: str) -> str:
    """The text, if it is a caption; else raises Rejected. Asked again after shortening, which may leave "The
    image is blurry" of a longer answer."""
    if not _WORD_CHARACTER.search(text):
        raise Rejected(EMPTY)
    if _REFUSAL.match(text):
        raise Rejected(REFUSED)
    if _NO_PROSE.search(text):
        raise Rejected(NO_PROSE)
    return text


def _plain(answer: str, between_items: str) -> str:
    """One line without markup and without what is said again; ``between_items`` joins the items of a list."""
    lines, items = [], 0
    for line in _TOKENS.sub(" ", _printable(answer)).splitlines():
        if _RULE_OR_FENCE.fullmatch(line):
            continue
        bare = _LIST_MARK.sub("", line, count=1)
        items += bare != line
        if bare.strip():
            lines.append(bare.strip())
    text = " ".join((between_items if items > 1 else " ").join(lines).split())
    for _ in range(8):  # they lie in each other: **Caption:** "*A dog*"
        label = _LABEL.match(text)
        text = _EMPHASIS.sub(r"\2", _unquoted(text[label.end() :] if label else text)).strip()
    # A model in a loop says the same sentences until it is stopped.
    return "".join({sentence.strip(): sentence for sentence in _sentences(text)}.values()).strip()


def _printable(text: str) -> str:
    """Without control characters and without what could not be decoded."""
    return "".join(c for c in text if c.isprintable() and c != "\ufffd" or c.isspace())


def _unquoted(text: str) -> str:
    """Without quotation marks around the whole; `"Stop" and "Go"` is not a whole in quotation marks."""
    quoted = text.rstrip(".")
    closing, inside = _QUOTES.get(quoted[:1]), quoted[1:-1].strip()
    if closing and inside and quoted.endswith(closing) and not {text[0], closing} & set(inside):
        return inside if inside[-1] in ".!?…" else inside + text[len(quoted) :]
    return text


def _without_lead_in(text: str) -> str:
    found = _LEAD_IN.match(text)
    if not found:
        return text
    rest = text[found.end() :]
    return rest[:1].upper() + rest[1:] if text[0].isupper() else rest


def _sentences(text: str) -> list[str]:
    """The sentences, each with the space before it, and what is behind the last of them (often nothing).

    A number may end a sentence or begin an item of a list ("1. A car 2. A tram"); here it ends none, since
    what is cut off behind a sentence must not end with the mark of an item.
    """
    words = [word for word in _WORD.finditer(text) if not _LIST_NUMBER.fullmatch(word[0])]
    ends = [word.end() for word in words if _ends_sentence(word[0])]
    return [text[start:end] for start, end in pairwise([0, *ends, len(text)])]


def _beginning(text: str, most: int) -> str:
    """The longest beginning of two to ``most`` words that ends with a sentence, else a clause or a phrase,
    outside quotations and brackets; empty where none does."""
    sentence = phrase = ""
    count = 0
    for word, following in pairwise(_WORD.finditer(text)):
        count += _count(word[0])
        beginning = text[: word.end()]
        if count > most:
            break
        if count < 2 or not _balanced(beginning):
            continue
        opens_phrase = _OPENERS.fullmatch(following[0]) and not _OPENERS.fullmatch(word[0])
        if _ends_sentence(word[0]):
            sentence = beginning
        elif opens_phrase or _last_character(word[0]) in ",;:，；、：":
            phrase = beginning
    return sentence or phrase


def _count(word: str) -> int:
    """How many words this is. Chinese and Japanese have no spaces, and their words two characters on average:
    a limit that counts each character would be half as long as the paper's, one that counts none no limit."""
    return max(1, (len(_CHINESE_OR_JAPANESE.findall(word)) + 1) // 2)


def _balanced(text: str) -> bool:
    """Every quotation and bracket that opens also closes; of single quotation marks nobody knows, since they
    are apostrophes, too."""
    return text.count('"') % 2 == 0 and all(text.count(a) == text.count(b) for a, b in _BRACKETS)


def _ends_sentence(word: str) -> bool:
    return _last_character(word) in ".!?。！？" and not _ABBREVIATION.fullmatch(word)


def _last_character(word: str) -> str:
    return word.rstrip(_CLOSING)[-1:] or "-"
