"""Region packing: one image is encoded and read once, all its question-answer pairs follow as segments
isolated from each other.

An image's prefix is ``template up to the image | image tokens | newline``; a segment behind it is
``question, end of turn, assistant header, answer, end token``. Every segment sees its prefix and itself
and its positions restart behind the prefix, so each one is exactly the sample that it would be alone. A
conversation whose turns are chained is one segment: its later turns see the earlier ones, as they do in
LLaVA. The pieces come from the tokenizer's own template. A row holds one image, or all images of the batch
one behind the other, where the attention kernel leaves out what nobody may see.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from tokenizers import Tokenizer

from granvit.errors import GranvitError

IMAGE, QUESTION, ANSWER = "IMAGE-PLACE", "QUESTION-PLACE", "ANSWER-PLACE"
LATER_QUESTION, LATER_ANSWER = "LATER-PLACE", "SECOND-PLACE"
CONTROL_TOKEN = re.compile(r"<[^<>\s]+>")
CACHED_TEXTS = 4096  # some MiB
ROW_MULTIPLE = 8  # attention kernels want aligned rows
JOINED_MULTIPLE = 128  # FlexAttention's blocks


@dataclass(frozen=True)
class Segment:
    """Token ids of one question-answer pair, or of several that are chained; the last ``supervised`` of them
    are the last answer and its end token. ``earlier``: where in ``ids`` the answers before it stand."""

    ids: list[int]
    supervised: int
    earlier: tuple[range, ...] = ()

    @property
    def answers(self) -> list[range]:
        """Where in ``ids`` each answer and its end token stand."""
        return [*self.earlier, range(len(self.ids) - self.supervised, len(self.ids))]


class ChatFormat:
    """The tokenizer's chat template, cut into tokenised pieces around image, question and answer. Raises
    GranvitError where it does not keep question and answer as they are."""

    def __init__(self, tokenizer) -> None:
        self.tokenizer = tokenizer
        user = {"role": "user", "content": f"{IMAGE}\n{QUESTION}"}
        chat = [user, {"role": "assistant", "content": ANSWER}]
        whole = tokenizer.apply_chat_template(chat, tokenize=False)
        prompt = tokenizer.apply_chat_template([user], tokenize=False, add_generation_prompt=True)
        try:
            before, rest = whole.split(IMAGE)
            newline, rest = rest.split(QUESTION)
            turn, end = rest.split(ANSWER)
        except ValueError:
            before = newline = turn = end = ""
        if not turn or not end.strip() or prompt != f"{before}{IMAGE}{newline}{QUESTION}{turn}":
            raise GranvitError(
                f"llm: the chat template of {tokenizer.name_or_path!r} does not keep question and answer "
                f"as they are; "
                "expected a template such as Qwen2.5's or LLaMA3's"
            )
        self.before_image = self._tokenise(before)
        self.after_image = self._tokenise(newline)
        self.before_answer = self._tokenise(turn)
        self.end = self._tokenise(end)[0]
        text = text_tokenizer(tokenizer)
        # Questions of a few templates come back; what stands in only one image would fill the memory.
        self.encode = lru_cache(maxsize=CACHED_TEXTS)(
            lambda words: text.encode(words, add_special_tokens=False).ids
        )

    def _tokenise(self, text: str) -> list[int]:
        """A piece of the template, control tokens and all."""
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def segment(self, question: str, answer: str) -> Segment:
        """Tokens of one pair behind the image prefix."""
        answer_ids = [*self.encode(answer), self.end]
        return Segment([*self.encode(question), *self.before_answer, *answer_ids], len(answer_ids))

    def conversation(self, turns: Sequence[tuple[str, str]]) -> Segment:
        """Tokens of several questions and answers, one behind the other as the template writes them, as one
        segment. Raises GranvitError where the template writes later turns another way than the first."""
        first, *later = (self.segment(*turn) for turn in turns)
        ids, answers = [*first.ids], first.answers
        for turn in later:
            ids += self.between_turns
            answers += [range(len(ids) + span.start, len(ids) + span.stop) for span in turn.answers]
            ids += turn.ids
        return Segment(ids, len(answers[-1]), tuple(answers[:-1]))

    @cached_property
    def between_turns(self) -> list[int]:
        """Tokens between an answer's end token and the next question."""
        chat = [
            {"role": "user", "content": f"{IMAGE}\n{QUESTION}"},
            {"role": "assistant", "content": ANSWER},
            {"role": "user", "content": LATER_QUESTION},
            {"role": "assistant", "content": LATER_ANSWER},
        ]
        whole = self.tokenizer.apply_chat_template(chat, tokenize=False)
        single = self.tokenizer.apply_chat_template(chat[:2], tokenize=False)
        head, found, rest = whole.partition(LATER_QUESTION)
        first, answered, between = head.partition(ANSWER)
        turn, end = single.partition(QUESTION)[2].split(ANSWER)
        pieces = self._tokenise(between)
        kept = answered and found and single.startswith(f"{first}{ANSWER}")
        if not kept or rest != f"{turn}{LATER_ANSWER}{end}" or pieces[:1] != [self.end]:
            raise GranvitError(
                f"llm: the chat template of {self.tokenizer.name_or_path!r} writes later turns of a "
                "conversation another way than the first; expected a template such as Qwen2.5's or LLaMA3's, "
                "or `turns: separate` in config/config.yaml"
            )
        return pieces[1:]

    def prompt(self, question: str) -> list[int]:
        """Tokens behind the image that ask for an answer (generation)."""
        return [*self.after_image, *self.encode(question), *self.before_answer]


def text_tokenizer(tokenizer) -> Tokenizer:
    """What tokenises text of others: a control token that is written there (``<|im_end|>``) stays text, and
    ends no turn. The rest of the vocabulary, added words too, is that of ``tokenizer``."""
    own = json.loads(tokenizer.backend_tokenizer.to_str()) | {"truncation": None, "padding": None}
    for token in own["added_tokens"]:  # Qwen2.5 marks only some of its own as special
        token["special"] |= bool(CONTROL_TOKEN.fullmatch(token["content"]))
    text = Tokenizer.from_str(json.dumps(own))
    text.encode_special_tokens = True  # special tokens as text
    return text


@dataclass
class PackedBatch:
    """Packed rows of a batch. B rows of L positions, T image tokens an image, N supervised tokens.

    ids: (B, L) token ids, 0 where an image token or padding stands; image_places: (images * T,) flat
    positions in B*L of the image tokens; position_ids: (B, L); segments: (B, L) what each position belongs
    to, prefixes and segments numbered along the row (-1: padding); prefixes: (B, L) the number of the prefix
    that it sees; predictors: (N,) flat positions in B*L whose hidden states predict ``targets`` (N,);
    segment_index: (N,) which segment of the batch, prefixes apart, a target belongs to.
    """

    ids: torch.Tensor
    image_places: torch.Tensor
    position_ids: torch.Tensor
    segments: torch.Tensor
    prefixes: torch.Tensor
    predictors: torch.Tensor
    targets: torch.Tensor
    segment_index: torch.Tensor

    @property
    def attention_mask(self) -> torch.Tensor:
        """(B, 1, L, L) bool for SDPA, made where the segments are."""
        return segment_mask(self.segments, self.prefixes)

    @property
    def padding(self) -> float:
        """Share of the positions that hold nothing."""
        return float((self.segments < 0).float().mean())

    def to(self, device: torch.device) -> PackedBatch:
        """Copy of all tensors on ``device``."""
        return PackedBatch(
            **{name: tensor.to(device, non_blocking=True) for name, tensor in vars(self).items()}
        )


def image_length(segments: Sequence[Segment], chat: ChatFormat, image_tokens: int) -> int:
    """Positions that an image and its segments take."""
    prefix = len(chat.before_image) + image_tokens + len(chat.after_image)
    return prefix + sum(len(segment.ids) for segment in segments)


def row_length(segments: Sequence[Segment], chat: ChatFormat, image_tokens: int) -> int:
    """The same with padding to the kernels' multiple, as a row of its own."""
    return _round_up(image_length(segments, chat, image_tokens), ROW_MULTIPLE)


def split_row(
    segments: Sequence[Segment], chat: ChatFormat, image_tokens: int, limit: int
) -> list[list[Segment]]:
    """``segments`` in rows of at most ``limit`` positions, each behind a prefix of its own: segments do not
    see each other, so that losses and gradients stay. One segment is never cut, however long it is."""
    parts: list[list[Segment]] = []
    for segment in segments:
        if parts and row_length([*parts[-1], segment], chat, image_tokens) <= limit:
            parts[-1].append(segment)
        else:
            parts.append([segment])
    return parts


def pack(
    images: Sequence[Sequence[Segment]], chat: ChatFormat, image_tokens: int, joined: bool = False
) -> PackedBatch:
    """Lay out ``images`` (each a sequence of segments) of ``image_tokens`` tokens: one an image a row, or
    ``joined`` in a single row."""
    lengths = [image_length(segments, chat, image_tokens) for segments in images]
    if joined:
        starts, shape = np.cumsum([0, *lengths[:-1]]), (1, _round_up(sum(lengths), JOINED_MULTIPLE))
    else:
        length = _round_up(max(lengths), ROW_MULTIPLE)
        starts, shape = np.arange(len(images)) * length, (len(images), length)
    size = shape[0] * shape[1]
    ids, positions = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64)
    segments = np.full(size, -1, dtype=np.int32)
    prefixes = np.full(size, -1, dtype=np.int32)
    before, after = len(chat.before_image), len(chat.after_image)
    prefix = before + image_tokens + after
    predictors, counts, number = [], [], 0
    for start, length, image in zip(starts, lengths, images, strict=True):
        number = number if joined else 0
        begin, prefixes[start : start + length] = start + prefix, number
        ids[start : start + before] = chat.before_image
        ids[begin - after : begin] = chat.after_image
        positions[start:begin] = range(prefix)
        segments[start:begin] = number
        for segment in image:
            number, end = number + 1, begin + len(segment.ids)
            ids[begin:end] = segment.ids
            positions[begin:end] = range(prefix, prefix + len(segment.ids))
            segments[begin:end] = number
            for answer in segment.answers:
                predictors.append(np.arange(begin + answer.start, begin + answer.stop) - 1)
            counts.append(sum(map(len, segment.answers)))
            begin = end
        number += 1
    predictors = np.concatenate(predictors)
    places = starts[:, None] + np.arange(before, before + image_tokens)
    return PackedBatch(
        ids=torch.from_numpy(ids.reshape(shape)),
        image_places=torch.from_numpy(places.reshape(-1)),
        position_ids=torch.from_numpy(positions.reshape(shape)),
        segments=torch.from_numpy(segments.reshape(shape)),
        prefixes=torch.from_numpy(prefixes.reshape(shape)),
        predictors=torch.from_numpy(predictors),
        targets=torch.from_numpy(ids[predictors + 1]),
        segment_index=torch.from_numpy(np.repeat(np.arange(len(counts)), counts)),
    )


def segment_mask(segments: torch.Tensor, prefixes: torch.Tensor) -> torch.Tensor:
    """(B, L) segments and prefixes as in ``PackedBatch`` -> (B, 1, L, L) bool: who may look at whom, always
    backwards only.

    Padding sees itself and other padding, because attention over nothing is NaN.
    """
    other = segments[:, None, :]
    visible = (segments[:, :, None] == other) | (prefixes[:, :, None] == other)
    return visible.tril_().unsqueeze(1)


def _round_up(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple
