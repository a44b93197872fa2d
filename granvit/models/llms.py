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
from granvit.models.loading import load_pretrained, require_model


def load_llm(spec) -> PreTrainedModel:
    """The causal language model of ``spec.path`` (folder or hub id) in fp32; raises GranvitError where
    weights don't fit."""
    path = require_model(spec.path, "llm")
    return load_pretrained(AutoModelForCausalLM, path, "llm").eval()


def load_tokenizer(spec) -> PreTrainedTokenizerBase:
    """The tokenizer of ``spec.path``. Raises GranvitError where it has no chat template: packing cuts that
    template into pieces."""
    path = require_model(spec.path, "llm")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(path)
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
