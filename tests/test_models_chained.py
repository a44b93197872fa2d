"""Chained turns: a conversation is one segment, in which later turns see the earlier ones, as in LLaVA."""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F
from factories import make_job, make_mixture, make_recipe, make_tokenizer, make_world
from test_models_packing import PAIRS, gradients, losses_of, make_model

from granvit.errors import GranvitError
from granvit.models.attention import choose_attention
from granvit.models.packing import ChatFormat, Segment, pack, split_row
from granvit.training.examples import Examples, Mixture
from granvit.training.run import train

CONVERSATIONS = [
    [("What is this?", "red square"), ("And its colour?", "red"), ("Where is it?", "[0.1, 0, 0.25, 1]")],
    [("Where is bread?", "bread and milk 12"), ("Another question", "small face")],
    [("Q", "a")],
]


@pytest.fixture(scope="module", params=["qwen2", "llama"])
def model(request, tmp_path_factory):
    return make_model(tmp_path_factory.mktemp(request.param), request.param)


SAID = re.compile(r"assistant(?:<\|end_header_id\|>\n)?\n(.*?<\|(?:im_end|eot_id)\|>)", re.DOTALL)


def plain_losses(model, turns, pixels) -> torch.Tensor:
    """The loss of each token of the answers in a run of the language model over the conversation alone: the
    template's text as the tokenizer reads it, no mask but the causal one, positions as they come."""
    messages = []
    for question, answer in turns:
        asked = question if messages else f"IMAGE\n{question}"
        messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    before, after = model.tokenizer.apply_chat_template(messages, tokenize=False).split("IMAGE")
    spans = [match.span(1) for match in SAID.finditer(after)]
    assert [after[begin:end].split("<|")[0] for begin, end in spans] == [answer for _, answer in turns]
    read = model.tokenizer(after, add_special_tokens=False, return_offsets_mapping=True)
    taught = [any(b <= at[0] < e for b, e in spans) for at in read["offset_mapping"]]
    labels = torch.tensor([i if said else -100 for i, said in zip(read["input_ids"], taught, strict=True)])
    embed = model.llm.get_input_embeddings()
    head = embed(torch.tensor([model.tokenizer(before, add_special_tokens=False)["input_ids"]]).long())
    tail = embed(torch.tensor([read["input_ids"]]))
    logits = model.llm(inputs_embeds=torch.cat([head, model.encode_images(pixels), tail], 1)).logits[0]
    losses = F.cross_entropy(logits[-len(labels) - 1 : -1], labels, reduction="none")
    return losses[labels != -100]


def chained(model, conversations=CONVERSATIONS):
    return [[model.chat.conversation(turns)] for turns in conversations]


@pytest.mark.parametrize("joined", [False, True], ids=["a row an image", "one row"])
def test_chained_conversation_has_the_losses_of_a_plain_run_over_it(model, joined):
    pixels = torch.randn(3, 3, 32, 32)
    packed = pack(chained(model), model.chat, model.image_tokens, joined)
    losses = model.token_losses(model.encode_images(pixels), packed)
    plain = [plain_losses(model, turns, pixels[n : n + 1]) for n, turns in enumerate(CONVERSATIONS)]
    torch.testing.assert_close(losses, torch.cat(plain), rtol=1e-4, atol=1e-5)
    assert packed.segment_index.bincount().tolist() == [len(part) for part in plain]
    losses.sum().backward()
    found = gradients(model)
    torch.cat(plain).sum().backward()
    for name, value in gradients(model).items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-5, msg=name)


def test_flex_mask_shows_a_chained_conversation_what_the_boolean_mask_shows(tmp_path):
    model, pixels = make_model(tmp_path), torch.randn(3, 3, 32, 32)
    rows = [*chained(model, CONVERSATIONS[:2]), [*chained(model)[0], model.chat.segment("Q", "a")]]
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        images = model.encode_images(pixels)
        expected = model.token_losses(images, pack(rows, model.chat, model.image_tokens))
        choose_attention(model.llm, "flex", torch.device("cpu"))
        found = model.token_losses(images, pack(rows, model.chat, model.image_tokens, joined=True))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_later_turns_see_earlier_ones_and_no_other_segment_does(model):
    pixels = torch.randn(1, 3, 32, 32)
    other = [("What is this?", "blue ring"), *CONVERSATIONS[0][1:]]

    def losses(turns):
        rows = [[model.chat.conversation(turns), model.chat.segment("End", "bread")]]
        packed = pack(rows, model.chat, model.image_tokens)
        with torch.no_grad():
            return model.token_losses(model.encode_images(pixels), packed), packed.segment_index

    (before, index), (after, changed) = losses(CONVERSATIONS[0]), losses(other)
    last = model.chat.segment(*CONVERSATIONS[0][-1]).supervised
    assert not torch.allclose(before[index == 0][-last:], after[changed == 0][-last:], atol=1e-6)
    torch.testing.assert_close(before[index == 1], after[changed == 1], rtol=1e-5, atol=1e-6)


def test_a_conversation_of_one_turn_is_that_turn_and_separate_turns_stay_as_they_are(model):
    question, answer = CONVERSATIONS[2][0]
    segment = model.chat.segment(question, answer)
    assert model.chat.conversation([(question, answer)]) == segment
    end = [*model.chat.encode(answer), model.chat.end]
    ids = [*model.chat.encode(question), *model.chat.before_answer, *end]
    assert segment == Segment(ids, len(end)) and segment.answers == [range(len(ids) - len(end), len(ids))]
    losses, packed = losses_of(model, PAIRS, torch.randn(3, 3, 32, 32))
    assert len(losses) == sum(model.chat.segment(*pair).supervised for row in PAIRS for pair in row)


def test_only_the_answers_of_a_conversation_are_supervised(model):
    packed = pack(chained(model)[:1], model.chat, model.image_tokens)
    assert packed.ids.flatten()[packed.predictors + 1].equal(packed.targets)
    said = [model.chat.encode(answer) + [model.chat.end] for _, answer in CONVERSATIONS[0]]
    assert packed.targets.tolist() == [token for ids in said for token in ids]


def test_a_conversation_is_never_cut_between_its_turns(model):
    segments = [segment for row in chained(model) for segment in row]
    assert split_row(segments, model.chat, model.image_tokens, limit=1) == [[one] for one in segments]


@pytest.mark.parametrize("turns", ["separate", "chained"])
def test_an_images_instructions_are_one_segment_where_turns_are_chained(tmp_path, model, turns):
    tasks = "instruction", "global_caption", "instruction"
    mixture = Mixture(make_mixture(tmp_path / "m.parquet", 2, tasks, regions=2))
    example = Examples(mixture, model, tasks, True, turns)[0]
    pairs = [*zip(example.questions, example.answers, strict=True)]
    expected = [model.chat.segment(*pair) for pair in pairs]
    if turns == "chained":  # a caption is no turn of the conversation about it
        expected = [model.chat.conversation([pairs[0], pairs[2]]), expected[1]]
    assert example.segments == expected and example.tasks.count("instruction") == 2


def test_a_recipe_whose_turns_are_chained_teaches_them_so(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        ChatFormat, "conversation", lambda self, turns: seen.append(turns) or self.segment(*turns[0])
    )
    world = make_world(tmp_path)
    mixture = make_mixture(tmp_path / "talk.parquet", 2, ("instruction", "instruction"))
    for turns in ("separate", "chained"):
        recipe = make_recipe("sft", turns=turns)
        train(make_job(world, recipe, tmp_path / turns, mixture=mixture))
        assert [len(turns) for turns in seen] == ([2, 2] if turns == "chained" else [])


def test_template_that_writes_later_turns_another_way_takes_separate_turns_only():
    tokenizer = make_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{% if loop.index0 > 1 %}again {% endif %}<|im_start|>{{ m['role'] }}\n"
        "{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    chat = ChatFormat(tokenizer)
    assert chat.conversation([("Q", "a")]) == chat.segment("Q", "a")
    with pytest.raises(GranvitError, match="turns: separate"):
        chat.conversation([("Q", "a"), ("R", "b")])
