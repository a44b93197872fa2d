"""Tokenizers of the stand-in LLMs: byte-level BPE as Qwen2 and Llama 3 use, with their chat templates, on
the miniature's words.

Any text can be encoded. What the miniature says often is one token: a word, ``, 0.36`` of a box (the third
decimal is a token of its own) and each constant piece of a question, so that minutes of training suffice.
"""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from granvit.miniature.questions.templates import TEMPLATE_CHUNKS
from granvit.miniature.world import words

# Pre-tokens: a coordinate with its bracket or comma, a number of up to two digits, a word, the rest.
_SPLIT = r" (?=\[[01])|(?:\[|, )[01](?:\.\d{1,2})?| ?\d{1,2}| ?[A-Za-z]+|\n+| ?[^\sA-Za-z\d]+|\s+"
VOCABULARY = 1600

_QWEN_TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] }}<|im_end|>{% endgeneration %}\n"
    "{% else %}{{ message['content'] }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_LLAMA_TEMPLATE = (
    "<|begin_of_text|>{% for message in messages %}<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] }}<|eot_id|>{% endgeneration %}"
    "{% else %}{{ message['content'] }}<|eot_id|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)


# The special tokens of each LLM family in the order of their ids, and what `PreTrainedTokenizerFast` is told.
CHAT_FORMATS = {
    "qwen2": (
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        {
            "bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
            "chat_template": _QWEN_TEMPLATE,
        },
    ),
    "llama": (
        ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        {
            "bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>", "pad_token": "<|end_of_text|>",
            "chat_template": _LLAMA_TEMPLATE,
        },
    ),
}  # fmt: skip

# What every chat template says around the words; one token each keeps packed sequences short.
_ROLES = ("system", "user", "assistant")
_CHAT_CHUNKS = ("You are a helpful assistant.", *_ROLES, *(f"{role}\n" for role in _ROLES), "\n\n")


def _frequent_pieces() -> Iterable[str]:
    """Every pre-token that should become one token."""
    plain = [
        *words.SHAPES, *words.COLOURS, *words.TEXTURES, *words.SIZES, *words.WORDS, *words.DOCUMENT_KINDS,
        *words.NUMBER_WORDS,
        *(word for place in words.PLACES for word in place.split()),
        "a", "an", "the", "at", "of", "is", "in", "and", "that", "says", "there", "are", "There", "objects", "object", "page",
        "sign", "chart", "table", "receipt", "total", "Yes", "No", "yes", "no", *"ABCD", *map(str, range(60)),
    ]  # fmt: skip
    for word in plain:
        yield from (word, f" {word}")
    yield from (f"{space}{word.upper()}" for word in words.WORDS for space in ("", " "))
    yield from (f"{mark}{number}" for mark in ("[", ", ") for number in _coordinates())


def _coordinates() -> list[str]:
    tenths = [f"0.{i}" for i in range(1, 10)]
    return ["0", "1", *tenths, *(f"0.{i:02d}" for i in range(100) if i % 10 or i == 0)]


def build_tokenizer(family: str) -> PreTrainedTokenizerFast:
    """The tokenizer of ``family`` (``qwen2`` or ``llama``); the same bytes on every call."""
    specials, settings = CHAT_FORMATS[family]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator([piece for piece in _frequent_pieces() for _ in range(2)], trainer)
    chunks = sorted({*TEMPLATE_CHUNKS, *_CHAT_CHUNKS})
    tokenizer.add_tokens([AddedToken(chunk, normalized=False) for chunk in chunks])
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **settings, clean_up_tokenization_spaces=False, padding_side="left"
    )
