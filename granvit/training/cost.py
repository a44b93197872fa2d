"""What a forward pass costs (Table 9): matrix products, counted, not estimated."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from granvit.models.mllm import MLLM

TEXT_TOKENS = 25  # Table 9's printed figures fit 1024 image tokens and about so many of text
MATRIX_PRODUCTS = (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.convolution)


@torch.no_grad()
def forward_cost(model: MLLM, with_encoder: bool) -> dict[str, int]:
    """FLOPs and MACs of the language model on one image's tokens and 25 of text, and of the encoder where
    it is tuned.

    Weights' matrix products only, attention uncounted, as the paper's figures are. Counted on the meta
    device: nothing is computed.
    """
    llm, spec = model.llm, model.encoder.spec
    tokens = torch.empty(1, model.image_tokens + TEXT_TOKENS, llm.config.hidden_size, device="meta")
    pixels = torch.empty(model.views, 3, spec.image_size, spec.image_size, device="meta")
    counter = FlopCounterMode(display=False)
    with counter:
        _on_meta(llm, inputs_embeds=tokens)
        if with_encoder:
            _on_meta(model.encoder, pixels)
    counts = counter.get_flop_counts()["Global"]
    flops = sum(int(count) for operator, count in counts.items() if operator in MATRIX_PRODUCTS)
    return {"flops": flops, "macs": flops // 2}


def _on_meta(module: torch.nn.Module, *args, **kwargs) -> None:
    weights = {
        name: torch.empty_like(tensor, device="meta")
        for name, tensor in (*module.named_parameters(), *module.named_buffers())
    }
    torch.func.functional_call(module, weights, args, kwargs)
