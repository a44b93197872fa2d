"""What a forward pass (Table 9) and a training step cost in FLOPs and memory: counted on tensors without
data. Nothing is computed, no memory is taken, and the model's own weights are not touched: they may be on any
device, sharded or meta tensors themselves.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode
from transformers.initialization import no_init_weights

from granvit.models.encoders import Encoder
from granvit.models.mllm import MLLM
from granvit.models.projector import Projector

TEXT_TOKENS = 25  # Table 9's printed figures fit 1024 image tokens and about so many of text
WEIGHT_PRODUCTS = (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.convolution)
_counted: dict[tuple, int] = {}  # FLOPs by what they depend on


@torch.no_grad()
def forward_cost(model: MLLM, with_encoder: bool) -> dict[str, int]:
    """FLOPs and MACs of the language model on one image's tokens and 25 of text, and of the encoder where
    it is tuned.

    The language model's attention is uncounted and the encoder's is counted: that, and nothing else, gives
    Table 9's 1.62 and 2.09 TMAC (a profiler sees eager attention, but no fused kernel).
    """
    llm = _meta_twin(model.llm)
    row = _empty(1, model.image_tokens + TEXT_TOKENS, llm.config.hidden_size)
    counter = FlopCounterMode(display=False)
    with counter:
        llm(inputs_embeds=row)
    counts = counter.get_flop_counts()["Global"]
    flops = sum(count for operator, count in counts.items() if operator in WEIGHT_PRODUCTS)
    if with_encoder:
        flops += _count(_meta_encoder(model.encoder), _views(model), upstream_learns=False)
    return {"flops": flops, "macs": flops // 2}


@dataclass(frozen=True)
class Work:
    """What training does with an average image. ``learns``: the parts that do; ``regions``: question-answer
    pairs about regions, beside one global caption; ``caption, region``: tokens of prompt and answer;
    ``packed``: one row an image, otherwise one sample a pair; ``crops``: regions shown to the teacher, each
    at ``crop_size`` pixels.
    """

    learns: tuple[str, ...]
    regions: float
    caption: tuple[int, int] = (30, 150)
    region: tuple[int, int] = (45, 20)
    packed: bool = True
    crops: float = 0
    crop_size: int = 0

    def samples(self) -> list[tuple[float, int, float]]:
        """(how many rows, text tokens of a row, supervised ones among them)."""
        if self.packed:
            text = sum(self.caption) + self.regions * sum(self.region)
            return [(1, round(text), self.caption[1] + self.regions * self.region[1])]
        return [
            (1, sum(self.caption), self.caption[1]),
            (self.regions, sum(self.region), self.region[1]),
        ]


def training_cost(model: MLLM, work: Work) -> dict[str, float]:
    """FLOPs of forward and backward an image: of encoder, projector, llm (its body), head and teacher, and
    their total.

    Backward is followed as autograd runs it: down to the first part that learns, weights' gradients only
    where they do. Attention is counted as SDPA with a mask computes it, masked pairs too; the head on
    supervised tokens only. Left out: whatever is no matrix product, ROIAlign, the optimizer.
    """
    encoder, llm = _meta_encoder(model.encoder), _meta_twin(model.llm)
    projector = Projector(model.projector.input_size, model.projector.output_size).to("meta")
    for part, module in (("encoder", encoder), ("projector", projector), ("llm", llm)):
        module.requires_grad_(part in work.learns)
    behind_encoder = "encoder" in work.learns
    behind_projector = behind_encoder or "projector" in work.learns
    behind_body = behind_projector or "llm" in work.learns
    features = _empty(1, model.image_tokens, projector.input_size)
    cost = dict.fromkeys(("encoder", "projector", "llm", "head", "teacher"), 0.0)
    for rows, text, supervised in work.samples():
        row = _empty(1, model.image_tokens + text, llm.config.hidden_size)
        token = _empty(1, llm.config.hidden_size)
        cost["encoder"] += rows * _count(encoder, _views(model), upstream_learns=False)
        cost["projector"] += rows * _count(projector, features, behind_encoder)
        cost["llm"] += rows * _count(_Body(llm), row, behind_projector)
        cost["head"] += rows * supervised * _count(llm.get_output_embeddings(), token, behind_body)
    if work.crops:
        crop = _empty(1, 3, work.crop_size, work.crop_size)
        cost["teacher"] = work.crops * _count(encoder.requires_grad_(False), crop, upstream_learns=False)
    return cost | {"total": sum(cost.values())}


def training_memory(
    model: MLLM, work: Work, images: int, frozen_bf16: bool = False, checkpointing: bool = False
) -> dict[str, float]:
    """Bytes that a step on ``images`` images, at once and packed, keeps: weights, gradients, optimizer,
    teacher, activations, and their total.

    Weights are fp32 and computed with in bf16 (autocast), whose copies count as activations; ``frozen_bf16``:
    a frozen language model's are bf16; ``checkpointing``: of each layer the input is kept, and of one at a
    time the rest. What lives for one operation only is left out.
    """
    (_, text, supervised), *_ = work.samples()
    with FakeTensorMode():
        encoder = Encoder(_hollow_twin(model.encoder.model), model.encoder.family, model.encoder.spec)
        projector = Projector(model.projector.input_size, model.projector.output_size)
        half = frozen_bf16 and "llm" not in work.learns
        llm = _hollow_twin(model.llm, torch.bfloat16 if half else torch.float32)
        parts = {"encoder": encoder, "projector": projector, "llm": llm}
        for part, module in parts.items():
            module.requires_grad_(part in work.learns).train()
        size = model.encoder.spec.image_size
        views = torch.empty(images * model.views, 3, size, size)
        positions = images, model.image_tokens + text
        saved = _Saved(*parts.values())
        layers = [_Layer(layer, saved) for part in (encoder, llm.model) for layer in part.layers]
        with saved, torch.autocast("cpu", dtype=torch.bfloat16):
            features = encoder(views).new_empty(images, model.image_tokens, projector.input_size)
            features.requires_grad_("encoder" in work.learns)
            seen = projector(features)
            row = torch.empty(*positions, llm.config.hidden_size, dtype=llm.dtype)
            states = _Body(llm)(row.requires_grad_(seen.requires_grad))
            chosen = states.flatten(0, 1)[: round(images * supervised)]
            logits = llm.get_output_embeddings()(chosen).float()
            F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long), reduction="none")
        activations = saved.bytes()
        if checkpointing:
            activations += sum(layer.input for layer in layers) + max(layer.kept for layer in layers)
            activations -= sum(layer.kept for layer in layers)
        learning = sum(p.numel() for p in encoder.feature_parameters() if p.requires_grad)
        learning += sum(p.numel() for m in (projector, llm) for p in m.parameters() if p.requires_grad)
        memory = {
            "weights": sum(_bytes(module) for module in parts.values()),
            "gradients": 4 * learning,
            "optimizer": 8 * learning,
            "teacher": _bytes(encoder) if work.crops else 0,
            "activations": activations,
        }
    return memory | {"total": sum(memory.values())}


class _Saved(torch.autograd.graph.saved_tensors_hooks):
    """Within it, what autograd keeps for the backward pass, the weights of ``modules`` apart."""

    def __init__(self, *modules: nn.Module) -> None:
        own = {_storage(p) for module in modules for p in (*module.parameters(), *module.buffers())}
        self.kept: dict[int, torch.UntypedStorage] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            if _storage(tensor) not in own:
                self.kept[_storage(tensor)] = tensor.untyped_storage()
            return tensor

        super().__init__(keep, lambda tensor: tensor)

    def __enter__(self) -> _Saved:
        super().__enter__()
        return self

    def bytes(self) -> int:
        return sum(storage.nbytes() for storage in self.kept.values())


class _Layer:
    """Bytes that ``saved`` keeps of a layer, and those of the layer's input where it keeps any."""

    def __init__(self, layer: nn.Module, saved: _Saved) -> None:
        self.kept, self.input, self.before = 0, 0, 0

        def enter(*_: object) -> None:
            self.before = saved.bytes()

        def leave(_: nn.Module, inputs: tuple, __: object) -> None:
            self.kept = saved.bytes() - self.before
            self.input = inputs[0].numel() * inputs[0].element_size() if self.kept else 0

        layer.register_forward_pre_hook(enter)
        layer.register_forward_hook(leave)


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _bytes(module: nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in module.parameters())


def _count(module: nn.Module, inputs: torch.Tensor, upstream_learns: bool) -> int:
    """FLOPs of ``module`` on ``inputs``: forward, and backward as far as somebody asks for a gradient. Equal
    modules are counted once: a plan asks for hundreds of runs of a few models."""
    learns = torch.is_grad_enabled() and tuple(p.requires_grad for p in module.parameters())
    key = repr(module), str(getattr(module, "spec", None)), learns, inputs.shape, upstream_learns
    if key not in _counted:
        inputs.requires_grad_(upstream_learns)
        counter = FlopCounterMode(display=False)
        with counter:
            output = module(inputs)
            if output.requires_grad:
                output.backward(torch.empty_like(output))
        _counted[key] = counter.get_total_flops()
    return _counted[key]


class _Body(nn.Module):
    """The language model without its head, on rows whose attention is masked."""

    def __init__(self, llm: nn.Module) -> None:
        super().__init__()
        self.model = llm.model

    def forward(self, row: torch.Tensor) -> torch.Tensor:
        length, device = row.shape[1], row.device
        mask = torch.ones(len(row), 1, length, length, dtype=torch.bool, device=device)
        positions = torch.zeros(1, length, dtype=torch.long, device=device)
        output = self.model(inputs_embeds=row, attention_mask=mask, position_ids=positions, use_cache=False)
        return output.last_hidden_state


def _meta_encoder(encoder: Encoder) -> Encoder:
    return Encoder(_meta_twin(encoder.model), encoder.family, encoder.spec).to("meta")


def _meta_twin(model: nn.Module) -> nn.Module:
    """A model of the same configuration without weights."""
    with torch.device("meta"):
        return _hollow_twin(model)


def _hollow_twin(model: nn.Module, dtype: torch.dtype = torch.float32) -> nn.Module:
    """The same with weights that nobody has set. SDPA: FlexAttention wants real tensors."""
    config = copy.deepcopy(model.config)
    with no_init_weights():
        twin = type(model)._from_config(config, attn_implementation="sdpa", dtype=dtype)
    twin.tie_weights()  # a head that is the embedding is no weight of its own
    return twin


def _views(model: MLLM) -> torch.Tensor:
    size = model.encoder.spec.image_size
    return _empty(model.views, 3, size, size)


def _empty(*shape: int) -> torch.Tensor:
    return torch.empty(*shape, device="meta")
