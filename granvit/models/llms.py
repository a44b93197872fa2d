"""Language models: Qwen2.5 and LLaMA3 from a local folder or the hub, with their tokenizer and chat
template."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from granvit.errors import GranvitError
from granvit.models.loading import AGAIN, load_pretrained, model_folder, published_dtype, require_model


def load_llm(spec) -> PreTrainedModel:
    """The causal language model of ``spec.path`` (folder or hub id), on the CPU: in bf16 where it was
    published so, else in fp32. Its weights are mapped from their file: processes of a host share them, until
    they are moved or cast (``cast_weights``). Raises GranvitError where weights don't fit."""
    folder = model_folder(require_model(spec.path, "llm"), "llm")
    dtype = published_dtype(folder)
    return load_pretrained(AutoModelForCausalLM, str(folder), "llm", dtype=dtype).eval()


@torch.no_grad()
def cast_weights(llm: nn.Module, dtype: torch.dtype) -> None:
    """Weights in ``dtype``, where they are. Buffers stay: rotary frequencies that bf16 rounds would turn far
    positions by whole radians."""
    for weight in llm.parameters():
        weight.data = weight.data.to(dtype)


def load_tokenizer(spec) -> PreTrainedTokenizerBase:
    """The tokenizer of ``spec.path``. Raises GranvitError where it cannot be read, or has no chat template:
    packing cuts that template into pieces."""
    path = require_model(spec.path, "llm")
    try:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(path)
    except Exception as error:  # a cut tokenizer.json is a bare Exception of the library in Rust
        problem = str(error).strip().splitlines()[0]
        raise GranvitError(f"llm: cannot load the tokenizer of {path!r}: {problem}. {AGAIN}") from error
    if not tokenizer.chat_template:
        raise GranvitError(
            f"llm: the tokenizer of {spec.path!r} has no chat template; "
            "use an instruction-tuned model, or add chat_template.jinja to its folder"
        )
    return tokenizer


def save_llm(
    llm: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, weights: dict | None = None
) -> None:
    """Write model and tokenizer as one Hugging Face folder (safetensors); ``weights``: a state dict instead
    of the module's own."""
    llm.save_pretrained(folder, state_dict=weights)
    tokenizer.save_pretrained(folder)
