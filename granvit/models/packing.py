"""Region packing: one image is encoded and read once, all its question-answer pairs follow as segments
isolated from each other.

A row is ``template up to the image | image tokens | newline | segment | segment | ...``; a segment is
``question, end of turn, assistant header, answer, end token``. Every segment sees the prefix and itself
and its positions restart behind the prefix, so each one is exactly the sample that it would be alone. The
pieces come from the tokenizer's own template.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from granvit.errors import GranvitError

IMAGE, QUESTION, ANSWER = "IMAGE-PLACE", "QUESTION-PLACE", "ANSWER-PLACE"
ROW_MULTIPLE = 8  # attention kernels want aligned rows


@dataclass(frozen=True)
class Segment:
    """Token ids of one question-answer pair; the last ``supervised`` of them are the answer and its end
    token."""

    ids: list[int]
    supervised: int


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
        self.encode = lru_cache(maxsize=100_000)(self._tokenise)

    def _tokenise(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def segment(self, question: str, answer: str) -> Segment:
        """Tokens of one pair behind the image prefix."""
        answer_ids = [*self.encode(answer), self.end]
        return Segment([*self.encode(question), *self.before_answer, *answer_ids], len(answer_ids))

    def prompt(self, question: str) -> list[int]:
        """Tokens behind the image that ask for an answer (generation)."""
        return [*self.after_image, *self.encode(question), *self.before_answer]


@dataclass
class PackedBatch:
    """Packed rows of a batch. B rows, L positions behind and including the image, N supervised tokens.

    before, after: token ids left (B, P) and right (B, L - P - T) of the image; position_ids: (B, L);
    segments: (B, L) what each position belongs to (0: prefix, 1, 2, ...: segments, -1: padding); predictors:
    (N,) flat positions in B*L whose hidden states predict ``targets`` (N,); segment_index: (N,) which segment
    of the batch (row by row) a target belongs to.
    """

    before: torch.Tensor
    after: torch.Tensor
    position_ids: torch.Tensor
    segments: torch.Tensor
    predictors: torch.Tensor
    targets: torch.Tensor
    segment_index: torch.Tensor

    @property
    def attention_mask(self) -> torch.Tensor:
        """(B, 1, L, L) bool for SDPA, made where the segments are."""
        return segment_mask(self.segments)

    def to(self, device: torch.device) -> PackedBatch:
        """Copy of all tensors on ``device``."""
        return PackedBatch(
            **{name: tensor.to(device, non_blocking=True) for name, tensor in vars(self).items()}
        )


def row_length(row: Sequence[Segment], chat: ChatFormat, image_tokens: int) -> int:
    """Positions that an image and its segments take, padding to the kernels' multiple included."""
    prefix = len(chat.before_image) + image_tokens + len(chat.after_image)
    return -(-(prefix + sum(len(segment.ids) for segment in row)) // ROW_MULTIPLE) * ROW_MULTIPLE


def pack(rows: Sequence[Sequence[Segment]], chat: ChatFormat, image_tokens: int) -> PackedBatch:
    """Lay out ``rows`` (one an image, each a sequence of segments) for images of ``image_tokens`` tokens."""
    start = len(chat.before_image) + image_tokens  # where the text behind the image begins
    prefix = start + len(chat.after_image)
    length = max(row_length(row, chat, image_tokens) for row in rows)
    ids = np.zeros((len(rows), length), dtype=np.int64)
    ids[:, start:prefix] = chat.after_image
    positions = np.zeros((len(rows), length), dtype=np.int64)
    positions[:, :prefix] = np.arange(prefix)
    segments = np.full((len(rows), length), -1, dtype=np.int32)  # -1 padding, 0 prefix, then 1, 2, ...
    segments[:, :prefix] = 0
    predictors, counts = [], []
    for row, row_segments in enumerate(rows):
        begin = prefix
        for number, segment in enumerate(row_segments, 1):
            size = len(segment.ids)
            ids[row, begin : begin + size] = segment.ids
            positions[row, begin : begin + size] = range(prefix, prefix + size)
            segments[row, begin : begin + size] = number
            begin += size
            predictors.append(np.arange(begin - segment.supervised, begin) + row * length - 1)
            counts.append(segment.supervised)
    predictors = np.concatenate(predictors)
    return PackedBatch(
        before=torch.tensor(chat.before_image).expand(len(rows), -1),
        after=torch.from_numpy(ids[:, start:]),
        position_ids=torch.from_numpy(positions),
        segments=torch.from_numpy(segments),
        predictors=torch.from_numpy(predictors),
        targets=torch.from_numpy(ids.reshape(-1)[predictors + 1]),
        segment_index=torch.from_numpy(np.repeat(np.arange(len(counts)), counts)),
    )


def segment_mask(segments: torch.Tensor) -> torch.Tensor:
    """(B, L) segment numbers (0: prefix, -1: padding) -> (B, 1, L, L) bool: who may look at whom, always
    backwards only.

    Padding sees itself and other padding, because attention over nothing is NaN.
    """
    query, key = segments[:, :, None], segments[:, None, :]
    visible = (query == key) | ((key == 0) & (query > 0))
    return visible.tril_().unsqueeze(1)
