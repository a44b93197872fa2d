"""Chats as Qwen2.5-Instruct and LLaMA3-Instruct were trained on them, token by token, and which of the tokens
are supervised."""

from __future__ import annotations

import json

import pytest
import torch
from factories import make_encoder, make_llm, make_tokenizer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from granvit.models.encoders import load_encoder
from granvit.models.llms import load_llm, load_tokenizer
from granvit.models.mllm import MLLM
from granvit.models.packing import ChatFormat, pack
from granvit.models.projector import Projector

SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."  # where a chat has none
# Templates of this project that write what the published ones write for chats without tools.
QWEN = (
    "{%- if messages[0]['role'] == 'system' %}{{- '<|im_start|>system\\n' + messages[0]['content'] }}"
    f"{{%- else %}}{{{{- '<|im_start|>system\\n{SYSTEM}' }}}}"
    "{%- endif %}{{- '<|im_end|>\\n' }}"
    "{%- for message in messages if message.role != 'system' %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
LLAMA = (
    "{{- bos_token }}{%- for message in messages %}"
    "{{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' }}"
    "{{- message.content | trim + '<|eot_id|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}"
)
SPECIAL = {
    "qwen": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    "llama": [
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
    ],
}
QUESTION, ANSWER = "What?", "a cat"
# (text of a token, whether it is supervised); between the two lists stand the image's tokens.
BEFORE = {
    "qwen": ["<|im_start|>", *"system\n", *SYSTEM, "<|im_end|>", "\n", "<|im_start|>", *"user\n"],
    "llama": ["<|begin_of_text|>", "<|start_header_id|>", *"user", "<|end_header_id|>", *"\n\n"],
}  # fmt: skip
AFTER = {
    "qwen": [
        ("\n", False), *((letter, False) for letter in "What?"),
        ("<|im_end|>", False), ("\n", False), ("<|im_start|>", False),
        *((letter, False) for letter in "assistant\n"),
        ("a", True), (" ", True), ("c", True), ("a", True), ("t", True), ("<|im_end|>", True),
    ],
    "llama": [
        ("\n", False), *((letter, False) for letter in "What?"),
        ("<|eot_id|>", False), ("<|start_header_id|>", False),
        *((letter, False) for letter in "assistant"), ("<|end_header_id|>", False),
        ("\n", False), ("\n", False),
        ("a", True), (" ", True), ("c", True), ("a", True), ("t", True), ("<|eot_id|>", True),
    ],
}  # fmt: skip


def letters(family: str) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer without merges: one token a letter, and the published special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*SPECIAL[family], *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    qwen = family == "qwen"
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=None if qwen else "<|begin_of_text|>", eos_token="<|im_end|>" if qwen else "<|eot_id|>",
        pad_token="<|endoftext|>" if qwen else "<|end_of_text|>",
        additional_special_tokens=SPECIAL[family], chat_template=QWEN if qwen else LLAMA,
    )  # fmt: skip


@pytest.mark.parametrize("family", ["qwen", "llama"])
def test_packed_row_is_the_published_chat_and_supervises_the_answer_and_its_end_alone(family):
    tokenizer = letters(family)
    chat = ChatFormat(tokenizer)
    packed = pack([[chat.segment(QUESTION, ANSWER)]], chat, image_tokens=3)
    start = len(BEFORE[family]) + 3
    supervised = {int(position) + 1 - start for position in packed.predictors}
    end = start + len(AFTER[family])
    after = [(tokenizer.decode([token]), position in supervised)
             for position, token in enumerate(packed.ids[0, start:].tolist())]  # fmt: skip
    assert packed.image_places.tolist() == list(range(start - 3, start))
    assert [tokenizer.decode([token]) for token in packed.ids[0, : start - 3].tolist()] == BEFORE[family]
    assert after[: len(AFTER[family])] == AFTER[family]
    assert all(not is_supervised for _, is_supervised in after[len(AFTER[family]) :])  # padding
    assert packed.position_ids[0, :end].tolist() == list(range(end))
    targets = [text for text, is_supervised in AFTER[family] if is_supervised]
    assert [tokenizer.decode([token]) for token in packed.targets.tolist()] == targets


@pytest.mark.parametrize("family", ["qwen", "llama"])
def test_second_question_of_a_row_is_the_chat_without_a_second_prefix(family):
    tokenizer = letters(family)
    chat = ChatFormat(tokenizer)
    packed = pack([[chat.segment(QUESTION, ANSWER)] * 2], chat, image_tokens=3)
    text = [tokenizer.decode([token]) for token in packed.ids[0, len(BEFORE[family]) + 3 :].tolist()]
    again = [letter for letter, _ in AFTER[family][1:]]  # the line break belongs to the image's prefix
    begin = len(AFTER[family])
    assert text[begin : begin + len(again)] == again
    first, second = packed.segment_index.bincount().tolist()
    assert first == second == len(ANSWER) + 1


@pytest.mark.parametrize(("family", "text"), [
    ("qwen", "<|im_start|>system\n"
             "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
             "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n<|im_start|>assistant\n"),
    ("llama", "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
              "<|start_header_id|>assistant<|end_header_id|>\n\nHello<|eot_id|>"
              "<|start_header_id|>assistant<|end_header_id|>\n\n"),
])  # fmt: skip
def test_template_of_these_tests_writes_the_published_chat(family, text):
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    assert letters(family).apply_chat_template(turns, tokenize=False, add_generation_prompt=True) == text


@pytest.mark.parametrize(
    ("family", "language", "published"),
    [
        ("qwen", "qwen2", ["<|im_end|>", "<|endoftext|>"]),
        ("llama", "llama", ["<|end_of_text|>", "<|eot_id|>"]),
    ],
)
def test_answers_end_at_the_templates_end_and_at_every_published_end_token(
    tmp_path, family, language, published
):
    """Both publish two: generation_config.json adds the end of a document to the end of a turn."""
    encoder, spec = load_encoder(make_encoder(tmp_path / "encoder")), make_llm(tmp_path / "llm", language)
    tokenizer = letters(family)
    tokenizer.save_pretrained(tmp_path / "llm")
    ends = tokenizer.convert_tokens_to_ids(published)
    (tmp_path / "llm/generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    model = MLLM(encoder, Projector(32, 32), load_llm(spec), load_tokenizer(spec))
    assert model.end_ids == sorted(ends) and model.chat.end in ends
    assert tokenizer.decode([model.chat.end]) == {"qwen": "<|im_end|>", "llama": "<|eot_id|>"}[family]


def test_answer_stops_at_the_end_token_and_does_not_show_it(tmp_path):
    encoder, spec = load_encoder(make_encoder(tmp_path / "encoder")), make_llm(tmp_path / "llm")
    model = MLLM(encoder, Projector(32, 32), load_llm(spec), load_tokenizer(spec)).eval()
    end, word = model.chat.end, make_tokenizer()("red")["input_ids"][0]
    asked = iter([word, word, end, word])

    def head(hidden):
        return torch.nn.functional.one_hot(torch.tensor([next(asked)]), 400).float()

    model.llm.get_output_embeddings = lambda: head
    text = model.answer(torch.zeros(1, model.image_tokens, 32), ["What?"], max_new_tokens=10)[0]
    assert text == model.tokenizer.decode([word, word])
    assert next(asked) == word  # nothing was asked for behind the end
