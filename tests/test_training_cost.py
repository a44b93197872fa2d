"""What a pass and a step cost: Table 9's figures at the published sizes, and what autograd really does."""

from __future__ import annotations

import pytest
import torch
from factories import make_tokenizer
from test_models_packing import make_model
from test_models_published import ENCODERS, SPECS, language_model, vision_model
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from granvit.models.encoders import FAMILIES, Encoder
from granvit.models.mllm import MLLM, PARTS
from granvit.models.packing import pack
from granvit.models.projector import Projector
from granvit.training.cost import Work, forward_cost, training_cost, training_memory

TERA = 1e12
STAGE1, STAGE2 = ("encoder", "projector"), ("projector", "llm")


@pytest.fixture(scope="module")
def paper_model() -> MLLM:
    """SigLIP2-so400m at 512 px and Qwen2.5-1.5B; every weight is a meta tensor."""
    family = FAMILIES[ENCODERS["SigLIP2"]["config"]["model_type"]]
    encoder = Encoder(vision_model("SigLIP2"), family, SPECS["SigLIP2"])
    llm = language_model("Qwen2.5-1.5B")
    return MLLM(encoder, Projector(1152, 1536).to("meta"), llm, make_tokenizer())


def test_forward_cost_is_that_of_table_9(paper_model):
    frozen, tuned = (forward_cost(paper_model, with_encoder) for with_encoder in (False, True))
    assert frozen["macs"] / TERA == pytest.approx(1.62, rel=0.005)
    assert frozen["flops"] / TERA == pytest.approx(3.24, rel=0.005)
    assert tuned["macs"] / TERA == pytest.approx(2.09, rel=0.005)
    assert (tuned["macs"] - frozen["macs"]) / TERA == pytest.approx(0.47, rel=0.005)
    assert tuned["flops"] / TERA == pytest.approx(4.25, rel=0.03)  # printed; 2 x 2.09 would be 4.18


@pytest.mark.parametrize(
    ("work", "encoder", "language", "teacher", "total"),
    [
        (Work(STAGE1, 4.5, packed=False, crops=4.5, crop_size=512), 16.1, 33.4, 4.4, 53.8),
        (Work(STAGE1, 4.5, crops=4.5, crop_size=224), 2.9, 8.5, 0.7, 12.1),
        (Work(STAGE2, 0.8, packed=False), 1.8, 17.3, 0, 19.0),
        (Work(STAGE2, 0.8), 1.0, 10.5, 0, 11.5),
    ],
)
def test_training_cost_is_near_a_calculation_by_hand(paper_model, work, encoder, language, teacher, total):
    """By hand all layers of the encoder were taken, and attention's backward as dear as its forward: in truth
    the last layer is not computed, and that backward costs twice the forward."""
    cost = {part: flops / TERA for part, flops in training_cost(paper_model, work).items()}
    assert cost["encoder"] == pytest.approx(encoder, rel=0.1)
    assert cost["llm"] + cost["head"] == pytest.approx(language, rel=0.1)
    assert cost["teacher"] == pytest.approx(teacher, rel=0.1)
    assert cost["total"] == pytest.approx(total, rel=0.1)


def test_forward_cost_counts_weights_once_a_token_and_attention_of_the_encoder(tmp_path):
    model = make_model(tmp_path)
    tokens = model.image_tokens
    # the embedding is the tied head
    matrices = sum(p.numel() for p in model.llm.parameters() if p.ndim == 2)
    frozen, tuned = (forward_cost(model, with_encoder) for with_encoder in (False, True))
    macs = matrices * (tokens + 25)
    assert frozen == {"flops": 2 * macs, "macs": macs}
    used = ("embeddings.patch", "encoder.layers.0", "encoder.layers.1")
    weights = sum(p.numel() for name, p in model.encoder.model.named_parameters()
                  if p.ndim in (2, 4) and name.startswith(used))  # fmt: skip
    attention = 2 * (2 * tokens**2 * model.encoder.width)  # two layers, two products of all pairs
    assert tuned["macs"] - frozen["macs"] == weights * tokens + attention


@pytest.mark.parametrize("learns", [("projector",), STAGE1, STAGE2, ("llm",), PARTS])
def test_training_cost_is_what_autograd_really_does(tmp_path, learns):
    model = make_model(tmp_path)
    segment = model.chat.segment("Describe [0.1, 0.2, 0.3, 0.4]", "red square")
    packed = pack([[segment]], model.chat, model.image_tokens)
    text = packed.position_ids.shape[1] - model.image_tokens
    model.requires_grad_(False)
    for part in learns:
        module = getattr(model, part)
        for parameter in module.feature_parameters() if part == "encoder" else module.parameters():
            parameter.requires_grad_(True)
    counter = FlopCounterMode(display=False)
    with counter, sdpa_kernel(SDPBackend.MATH):
        model.token_losses(model.encode_images(torch.randn(1, 3, 32, 32)), packed).mean().backward()
    work = Work(learns, regions=0, caption=(text - segment.supervised, segment.supervised))
    cost = training_cost(model, work)
    assert cost["total"] == counter.get_total_flops() > 0
    assert cost["teacher"] == 0 and sum(cost.values()) == 2 * cost["total"]


def test_cost_can_be_asked_for_while_the_model_attends_with_flex_attention(tmp_path):
    model = make_model(tmp_path)
    work = Work(PARTS, regions=2)
    before = forward_cost(model, True), training_cost(model, work)
    model.llm.set_attn_implementation("flex_attention")
    assert (forward_cost(model, True), training_cost(model, work)) == before
    assert model.llm.config._attn_implementation == "flex_attention"


def test_asking_for_the_cost_leaves_the_model_as_it_was(tmp_path):
    model = make_model(tmp_path).requires_grad_(False)
    training_cost(model, Work(PARTS, regions=1, crops=1, crop_size=16))
    assert not any(p.requires_grad or p.grad is not None or p.is_meta for p in model.parameters())


def test_packing_encodes_an_image_once_and_supervises_the_same_tokens(tmp_path):
    model = make_model(tmp_path, tiles=4)
    packed, apart = (training_cost(model, Work(STAGE1, regions=3, packed=packed)) for packed in (True, False))
    assert apart["encoder"] == 4 * packed["encoder"] and apart["projector"] == 4 * packed["projector"]
    assert apart["head"] == packed["head"] > 0


@pytest.mark.parametrize("learns", [("projector",), STAGE1, STAGE2, PARTS])
def test_memory_for_activations_is_what_autograd_really_keeps(tmp_path, learns):
    model = make_model(tmp_path).requires_grad_(False)
    rows = [[model.chat.segment("Describe this", "red square")] for _ in range(3)]
    packed = pack(rows, model.chat, model.image_tokens)
    own, kept = {p.untyped_storage().data_ptr() for p in model.parameters()}, {}
    learning = [p for part in model.parameters_of(learns).values() for p in part]
    for parameter in learning:
        parameter.requires_grad_(True)

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            # The storage is kept too: another one must not come to stand at its address.
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", dtype=torch.bfloat16):
        model.train().token_losses(model.encode_images(torch.randn(3, 3, 32, 32)), packed)
    supervised = rows[0][0].supervised
    text = packed.position_ids.shape[1] - model.image_tokens
    memory = training_memory(model, Work(learns, 0, (text - supervised, supervised)), images=3)
    measured = sum(storage.nbytes() for storage in kept.values())
    assert memory["activations"] == pytest.approx(measured, rel=0.1)
    count = sum(p.numel() for p in learning)
    assert (memory["gradients"], memory["optimizer"]) == (4 * count, 8 * count)
    assert memory["total"] == sum(memory.values()) - memory["total"] > 0


def test_memory_of_a_frozen_llm_in_bf16_is_half(paper_model):
    work = Work(STAGE1, 4.5, crops=4.5, crop_size=224)
    whole, half = (training_memory(paper_model, work, 1, frozen_bf16=choice) for choice in (False, True))
    llm = sum(p.numel() for p in paper_model.llm.parameters())
    assert whole["weights"] - half["weights"] == 2 * llm
    assert half["activations"] < whole["activations"]  # no bf16 copies of weights
    assert half["teacher"] == whole["teacher"] > 0
