"""Language models: Qwen2.5 and LLaMA3 from a local folder or the hub, with their tokenizer and chat
template."""

from __future__ import annotations

from importlib.util import find_spec
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


def load_llm(spec, dtype: torch.dtype | None = None) -> PreTrainedModel:
    """The causal language model of ``spec.path`` (folder, hub id or .gguf file), on the CPU: in ``dtype``, or
    in bf16 where it was published so, else in fp32. Weights of a folder in the dtype of their file are mapped
    from it: processes of a host share them, until they are moved or cast (``cast_weights``).
    Raises GranvitError where weights don't fit."""
    if is_gguf(spec.path):
        return _load_gguf(require_gguf(spec.path)).to(dtype or torch.float32)
    path = require_model(spec.path, "llm")
    dtype = dtype or published_dtype(model_folder(path, "llm"))
    return load_pretrained(AutoModelForCausalLM, path, "llm", dtype=dtype).eval()


def is_gguf(path: str) -> bool:
    """Whether a path names one file of llama.cpp's format."""
    return path.endswith(".gguf")


def require_gguf(path: str) -> Path:
    """The file, if it and what reads it are there; raises GranvitError where not."""
    if not Path(path).is_file():
        raise GranvitError(
            f"llm: model file {path!r} does not exist; give the right path in config/llms.yaml, or download "
            "the model there"
        )
    if find_spec("gguf") is None:
        raise GranvitError(f"llm: {path!r} needs the package gguf to be read: `pip install gguf`")
    return Path(path)


def _load_gguf(file: Path) -> PreTrainedModel:
    """The model of a .gguf file in fp32. transformers calls what it reads of one quantized, and neither
    saves it nor lets it learn; its weights, which it has made fp32, go into a plain model."""
    try:
        read = load_pretrained(AutoModelForCausalLM, str(file.parent), "llm", gguf_file=file.name)
    except Exception as error:  # a damaged file ends in any
        if isinstance(error, GranvitError):
            raise
        raise GranvitError(f"llm: cannot load {str(file)!r}: {str(error) or repr(error)}. {AGAIN}") from error
    config = read.config.to_dict()
    config.pop("quantization_config", None)
    plain = AutoModelForCausalLM.from_config(
        type(read.config).from_dict(config), dtype=torch.float32, attn_implementation="sdpa"
    )
    plain.load_state_dict(read.state_dict())
    plain.generation_config = read.generation_config
    return plain.eval()


@torch.no_grad()
def cast_weights(llm: nn.Module, dtype: torch.dtype) -> None:
    """Weights in ``dtype``, where they are. Buffers stay: rotary frequencies that bf16 rounds would turn far
    positions by whole radians."""
    for weight in llm.parameters():
        weight.data = weight.data.to(dtype)


def load_tokenizer(spec) -> PreTrainedTokenizerBase:
    """The tokenizer of ``spec.path``. Raises GranvitError where it cannot be read, or has no chat template:
    packing cuts that template into pieces."""
    one_file = {}
    if is_gguf(spec.path):
        file = require_gguf(spec.path)
        path, one_file = str(file.parent), {"gguf_file": file.name}
    else:
        path = require_model(spec.path, "llm")
    try:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(path, **one_file)
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
