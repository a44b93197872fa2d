"""Language models: Qwen2.5 and LLaMA3 from a local folder or the hub, with their tokenizer and chat
template."""

from __future__ import annotations

from pathlib import Path

from transformers import (
    AutoModelForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from granvit.errors import GranvitError
from granvit.models.loading import AGAIN, load_pretrained, require_model


def load_llm(spec) -> PreTrainedModel:
    """The causal language model of ``spec.path`` (folder or hub id) in fp32; raises GranvitError where
    weights don't fit."""
    path = require_model(spec.path, "llm")
    return load_pretrained(AutoModelForCausalLM, path, "llm").eval()


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
