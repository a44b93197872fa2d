"""Packing: an image's questions behind one prefix are exactly the samples that they would be apart."""

from __future__ import annotations

import pytest
import torch
from factories import SPECIAL, make_encoder, make_llm, make_tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import AddedToken

from granvit.errors import GranvitError
from granvit.models.encoders import load_encoder
from granvit.models.llms import load_llm, load_tokenizer
from granvit.models.mllm import MLLM, PARTS
from granvit.models.packing import ChatFormat, image_length, pack, row_length
from granvit.models.projector import Projector

PAIRS = [
    [("Describe the image.", "red square and blue ring"), ("Describe [0.1, 0.2, 0.3, 0.4]", "red square")],
    [("Where is bread?", "[0.1, 0, 0.25, 1]")],
    [("Q", "a"), ("Another question", "small face"), ("Third", "green cross and more")],
]


def make_model(folder, language="qwen2", tiles=0) -> MLLM:
    torch.manual_seed(1)
    encoder = load_encoder(make_encoder(folder / "encoder"))
    spec = make_llm(folder / "llm", language)
    projector = Projector(encoder.width * (4 if tiles else 1), 32, tiles)
    return MLLM(encoder, projector, load_llm(spec), load_tokenizer(spec)).eval()


@pytest.fixture(scope="module", params=["qwen2", "llama"])
def model(request, tmp_path_factory):
    return make_model(tmp_path_factory.mktemp(request.param), request.param)


def losses_of(model, pairs, pixels, joined=False):
    rows = [[model.chat.segment(*pair) for pair in row] for row in pairs]
    packed = pack(rows, model.chat, model.image_tokens, joined)
    return model.token_losses(model.encode_images(pixels), packed), packed


def gradients(model):
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


@pytest.mark.parametrize("joined", [False, True], ids=["a row an image", "one row"])
def test_packed_loss_equals_sum_of_separate_samples(model, joined):
    pixels = torch.randn(3, 3, 32, 32)
    packed_losses, packed = losses_of(model, PAIRS, pixels, joined)
    assert len(packed.ids) == (1 if joined else 3)
    packed_losses.sum().backward()
    packed_gradients = gradients(model)
    separate = []
    for row, row_pairs in enumerate(PAIRS):
        for pair in row_pairs:
            losses, _ = losses_of(model, [[pair]], pixels[row : row + 1])
            losses.sum().backward()
            separate.append(losses.detach())
    assert packed.segment_index.unique().tolist() == list(range(6))
    torch.testing.assert_close(packed_losses.detach(), torch.cat(separate), rtol=1e-4, atol=1e-5)
    separate_gradients = gradients(model)
    assert packed_gradients.keys() == separate_gradients.keys()
    assert all(any(name.startswith(part) for name in packed_gradients) for part in PARTS)
    for name, value in packed_gradients.items():
        torch.testing.assert_close(value, separate_gradients[name], rtol=1e-3, atol=1e-5, msg=name)


def test_no_segment_changes_when_the_text_of_another_changes(model):
    pixels = torch.randn(1, 3, 32, 32)
    first = [[("Q", "a b c"), ("Describe this", "red ring"), ("End", "bread")]]
    other = [[("Q", "a b c"), ("Changed it", "blue milk"), ("End", "bread")]]
    with torch.no_grad():
        (before, packed), (after, changed) = losses_of(model, first, pixels), losses_of(model, other, pixels)
    for segment in (0, 2):
        same = before[packed.segment_index == segment], after[changed.segment_index == segment]
        torch.testing.assert_close(*same, rtol=1e-5, atol=1e-6)
    assert not torch.equal(before[packed.segment_index == 1], after[changed.segment_index == 1])


def test_only_answers_and_their_end_token_are_supervised(model):
    _, packed = losses_of(model, PAIRS[:1], torch.randn(1, 3, 32, 32))
    end = model.chat.end
    ids = [packed.targets[packed.segment_index == number].tolist() for number in range(2)]
    assert [row[-1] for row in ids] == [end, end]
    assert [model.tokenizer.decode(row[:-1]) for row in ids] == [answer for _, answer in PAIRS[0]]


@pytest.mark.parametrize("family", ["qwen2", "llama"])
def test_pieces_put_together_are_the_chat_template(family):
    tokenizer = make_tokenizer(family)
    chat = ChatFormat(tokenizer)
    question, answer = "Where is the red square?", "[0.1, 0.2, 0.3, 0.4]"
    ids = [
        *chat.before_image,
        *chat.encode("<image>"),
        *chat.after_image,
        *chat.segment(question, answer).ids,
    ]
    turns = [{"role": "user", "content": f"<image>\n{question}"}, {"role": "assistant", "content": answer}]
    whole = tokenizer.apply_chat_template(turns, tokenize=False)
    assert tokenizer.decode(ids) == whole.rstrip("\n")


@pytest.mark.parametrize("family", ["qwen2", "llama"])
def test_control_token_written_in_a_text_stays_text(family):
    tokenizer = make_tokenizer(family)
    tokenizer.add_tokens([AddedToken("<|fim_prefix|>", normalized=False), AddedToken("bread and butter")])
    chat = ChatFormat(tokenizer)
    written = "".join(f" {token} there" for token in [*SPECIAL[family], "<|fim_prefix|>"])
    control = {*tokenizer.all_special_ids, tokenizer.convert_tokens_to_ids("<|fim_prefix|>")}
    assert len(control) >= 4 and control & {*tokenizer(written)["input_ids"]}
    ids = chat.encode(written)
    assert not control & {*ids} and tokenizer.decode(ids) == written
    segment = chat.segment(f"What{written}?", f"It{written}.")
    assert segment.ids.count(chat.end) == chat.before_answer.count(chat.end) + 1
    assert segment.ids[-1] == chat.end
    plain = "bread and butter at [0.1, 0.2]"
    assert chat.encode(plain) == tokenizer(plain, add_special_tokens=False)["input_ids"]


def test_control_token_written_in_a_question_is_asked_as_text(model):
    seen, end = [], model.chat.end
    with model.llm.get_input_embeddings().register_forward_pre_hook(lambda _, ids: seen.append(ids[0])):
        model.answer(torch.zeros(1, model.image_tokens, 32), [f"What? {model.tokenizer.decode([end])}"], 1)
    asked = [token for ids in seen for token in ids.flatten().tolist()]
    template = [*model.chat.before_image, *model.chat.after_image, *model.chat.before_answer]
    assert asked.count(end) == template.count(end)


TURNS = "{% for m in messages %}{{ m['role'] }} {{ m['content'] }}{% endfor %}"


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{{ m['content'] | lower }}{% endfor %}",
        TURNS + "<|im_end|>{% if add_generation_prompt %} {% endif %}",
        TURNS + "{% if add_generation_prompt %}assistant {% endif %}",
        TURNS + "<|im_end|>",
        "{% for m in messages %}{{ m['content'] }}{% endfor %}<|im_end|>",
    ],
    ids=["changes words", "another prompt", "answer without end", "no prompt", "no turn between"],
)
def test_template_that_cannot_be_cut_into_pieces_is_refused(template):
    tokenizer = make_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(GranvitError, match="chat template"):
        ChatFormat(tokenizer)


def test_answers_are_what_training_taught_alone_and_in_a_batch(tmp_path):
    model = make_model(tmp_path)
    pixels = torch.randn(2, 3, 32, 32)
    pairs = [[("What?", "red square"), ("Where is it on the table?", "[0.1, 0.2]")], [("What?", "bread")]]
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(60):
        losses, _ = losses_of(model, pairs, pixels)
        optimizer.zero_grad()
        losses.mean().backward()
        optimizer.step()
    features = model.encode_images(pixels)[[0, 0, 1]]
    questions = ["What?", "Where is it on the table?", "What?"]
    expected = ["red square", "[0.1, 0.2]", "bread"]
    assert model.answer(features, questions, 16) == expected
    assert [model.answer(features[i : i + 1], questions[i : i + 1], 16)[0] for i in range(3)] == expected
    assert model.answer(features[:1], questions[:1], 1) != expected[:1]  # the limit holds


def test_saved_model_answers_the_same(tmp_path, model):
    model.save(tmp_path / "model")
    again = MLLM.load(tmp_path / "model")
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    assert torch.equal(again.encode_images(pixels), model.encode_images(pixels))
    questions = ["Q", "Describe the image."]
    assert again.answer(again.encode_images(pixels), questions, 5) == model.answer(
        model.encode_images(pixels), questions, 5
    )


def test_model_folder_without_a_part_is_refused(tmp_path, model):
    model.projector.save(tmp_path / "projector")
    with pytest.raises(GranvitError, match="encoder/config.json is missing"):
        MLLM.load(tmp_path)


def test_projector_of_another_width_is_refused(tmp_path, model):
    with pytest.raises(GranvitError, match="projector maps 7 to 32"):
        MLLM(model.encoder, Projector(7, 32), model.llm, model.tokenizer)


def test_targets_are_the_answers_and_each_is_read_off_the_position_before(model):
    rows = [[model.chat.segment("Where?", "red"), model.chat.segment("What?", "a blue ring")]]
    rows.append([model.chat.segment("Describe the image.", "bread and milk 12")])
    packed = pack(rows, model.chat, model.image_tokens)
    answers = [segment.ids[-segment.supervised :] for row in rows for segment in row]
    assert packed.targets.tolist() == [token for answer in answers for token in answer]
    assert packed.segment_index.tolist() == [n for n, answer in enumerate(answers) for _ in answer]
    length = packed.position_ids.shape[1]
    assert length % 8 == 0
    assert packed.ids.flatten()[packed.predictors + 1].equal(packed.targets)


@pytest.mark.parametrize(
    "file",
    [
        "encoder/model.safetensors", "projector/model.safetensors", "llm/model.safetensors",
        "encoder/config.json", "projector/config.json", "llm/config.json",
        "encoder/preprocessor_config.json", "llm/tokenizer.json",
    ],
)  # fmt: skip
@pytest.mark.parametrize("left", [0, 0.5], ids=["empty", "cut"])
def test_damaged_file_of_a_model_names_its_part_and_path(tmp_path, file, left):
    make_model(tmp_path / "made").save(tmp_path / "model")
    damaged = tmp_path / "model" / file
    damaged.write_bytes(damaged.read_bytes()[: int(left * damaged.stat().st_size)])
    with pytest.raises(GranvitError) as raised:
        MLLM.load(tmp_path / "model")
    part, text = file.split("/")[0], str(raised.value)
    assert text.startswith(f"{part}: ") and str(damaged.parent) in text and "\n" not in text
    assert "again" in text


def test_images_joined_in_one_row_stand_one_behind_the_other(model):
    chat, tokens = model.chat, model.image_tokens
    images = [[chat.segment(*pair) for pair in pairs] for pairs in PAIRS]
    packed, apart = pack(images, chat, tokens, joined=True), pack(images, chat, tokens)
    lengths = [image_length(image, chat, tokens) for image in images]
    total = sum(lengths)
    assert packed.ids.shape == (1, -(-total // 128) * 128) and packed.ids.shape[1] > total
    assert packed.padding == pytest.approx(1 - total / packed.ids.shape[1])
    begin = seen = 0
    for number, length in enumerate(lengths):
        for name in ("ids", "position_ids"):
            row = getattr(packed, name)[0, begin : begin + length]
            assert row.equal(getattr(apart, name)[number, :length]), name
        segments, prefixes = (part[0, begin : begin + length] for part in (packed.segments, packed.prefixes))
        assert (segments - seen).equal(apart.segments[number, :length])
        assert prefixes.unique().tolist() == [seen] == segments[:tokens].unique().tolist()
        begin, seen = begin + length, int(segments.max()) + 1
    assert packed.targets.equal(apart.targets) and packed.segment_index.equal(apart.segment_index)
    assert packed.ids.flatten()[packed.predictors + 1].equal(packed.targets)


def test_a_row_of_its_own_is_as_long_as_its_image_up_to_the_kernels_multiple(model):
    for pairs in PAIRS:
        image = [model.chat.segment(*pair) for pair in pairs]
        length = row_length(image, model.chat, model.image_tokens)
        assert length == pack([image], model.chat, model.image_tokens).ids.shape[1]
        assert 0 <= length - image_length(image, model.chat, model.image_tokens) < 8


def test_pieces_of_the_template_hold_no_token_that_the_tokenizer_would_add():
    plain, adding = make_tokenizer(), make_tokenizer()
    bos = ("<|im_start|>", adding.convert_tokens_to_ids("<|im_start|>"))
    adding.backend_tokenizer.post_processor = TemplateProcessing(single=f"{bos[0]} $A", special_tokens=[bos])
    assert len(adding("a")["input_ids"]) == len(plain("a")["input_ids"]) + 1
    first, second = ChatFormat(plain), ChatFormat(adding)
    for piece in ("before_image", "after_image", "before_answer", "end"):
        assert getattr(first, piece) == getattr(second, piece), piece
    assert first.segment("Where?", "red") == second.segment("Where?", "red")
