"""Loading of pretrained folders without silent surprises: a weight that is missing is an error, never a
random one."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from huggingface_hub import hf_hub_download, snapshot_download
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from transformers.utils import logging

from granvit.errors import GranvitError
from granvit.files import is_hub_id

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads would take the cores of other jobs
# openai/clip-vit-large-patch14-336 has a .bin only; transformers would ask a bot on the hub to convert it
os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
logging.set_verbosity_error()  # what matters in a loading report is raised as an error below
logging.disable_progress_bar()

AGAIN = "Download the model again, or run the training run again that made it"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


def require_model(path: str, what: str) -> str:
    """Check that a local model folder is there; a hub id (``owner/name``) is left to the hub's client.

    Raises GranvitError when a local folder is missing or holds no config.json.
    """
    folder = Path(path)
    if (folder / "config.json").is_file():
        return str(folder)
    if not is_hub_id(path):
        problem = "holds no config.json" if folder.exists() else "does not exist"
        raise GranvitError(
            f"{what}: model folder {path!r} {problem}; expected a folder in Hugging Face layout "
            "(config.json, model.safetensors). Give the right path in config/encoders.yaml or "
            "config/llms.yaml, or download the model there"
        )
    return path


def read_config(path: str, what: str) -> dict:
    """config.json of a local folder or hub id, as it was published: no class fills in what it leaves out.

    Raises GranvitError where it cannot be read or names no model_type.
    """
    file = Path(path) / "config.json"
    if not file.is_file():
        file = Path(_from_hub(hf_hub_download, path, what, filename="config.json"))
    config = read_json(file, what)
    if not isinstance(config.get("model_type"), str):
        raise GranvitError(f"{what}: {path}/config.json names no model_type. Download the model again")
    return config


def read_json(file: Path, what: str) -> dict:
    """A JSON file of a model's folder. Raises GranvitError where it is missing, cut off or no mapping."""
    try:
        value = json.loads(Path(file).read_text(encoding="utf-8"))
        if not isinstance(value, dict):
            raise ValueError("expected a mapping of keys")
    except (OSError, ValueError) as error:
        raise GranvitError(f"{what}: cannot read {file}: {error}. {AGAIN}") from error
    return value


def read_weights(path: str, what: str) -> dict[str, torch.Tensor]:
    """All weights of a local folder or hub id under the names they were published with: one file or shards.

    Raises GranvitError where the folder has no safetensors, or a shard is missing or cut off.
    """
    folder = Path(path)
    if not (folder / "config.json").is_file():
        patterns = ["config.json", "*.safetensors", INDEX]
        folder = Path(_from_hub(snapshot_download, path, what, allow_patterns=patterns))
    try:
        if (folder / WEIGHTS).is_file():
            return load_file(folder / WEIGHTS)
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        weights = {}
        for shard in sorted(set(index["weight_map"].values())):
            weights |= load_file(folder / shard)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise GranvitError(
            f"{what}: cannot read the weights of {path!r}: {error}; expected {WEIGHTS}, or {INDEX} and "
            "all its shards. Download the model again"
        ) from error
    return weights


def published_dtype(folder: Path) -> torch.dtype:
    """bf16 where all weights of a local folder are; else fp32, which holds any others. What a config.json
    says of them is not asked: it may be wrong, and weights rounded for it."""
    try:
        kinds = {kind for file in folder.glob("model*.safetensors") for kind in _kinds(file)}
    except (OSError, SafetensorError):  # which loading tells about, with the remedy
        kinds = set()
    return torch.bfloat16 if kinds == {"BF16"} else torch.float32


def _kinds(file: Path) -> set[str]:
    with safe_open(file, "pt") as weights:
        return {weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118


def load_pretrained(
    model_class: type,
    path: str,
    what: str,
    foreign: tuple[str, ...] = (),
    dtype: torch.dtype = torch.float32,
    **source,
):
    """``model_class.from_pretrained`` with SDPA attention that refuses missing, unexpected or misshapen
    weights. In the ``dtype`` of their file they are mapped from it, not copied.

    ``foreign``: prefixes of keys that belong to other parts of a larger checkpoint (a text tower) and may
    be left unread. ``source``: ``config`` and ``state_dict``, where they are not those of ``path`` unchanged,
    or ``gguf_file``, which of its files holds both.
    Raises GranvitError that names the weights, or the file.
    """
    try:
        model, info = model_class.from_pretrained(
            None if "state_dict" in source else path,
            dtype=dtype,
            attn_implementation="sdpa",
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that they are listed, and refused with their names below
            **source,
        )
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise GranvitError(
            f"{what}: cannot load {path!r}: {str(error).strip().splitlines()[0]}. {AGAIN}"
        ) from error
    unexpected = [key for key in info["unexpected_keys"] if not key.startswith(foreign)]
    problems = {
        "missing": info["missing_keys"],
        "unexpected": unexpected,
        "of another shape": info["mismatched_keys"],
    }
    for problem, keys in problems.items():
        if keys:
            shown = ", ".join(str(key) for key in sorted(keys, key=str)[:5])
            raise GranvitError(
                f"{what}: {len(keys)} weights of {path!r} are {problem} for {model_class.__name__}: {shown}; "
                "the checkpoint does not fit its config.json. Export it again with save_pretrained"
            )
    return model


def model_folder(path: str, what: str) -> Path:
    """The folder of a local model, or of a hub id's files once they are here. Raises GranvitError where the
    hub does not give them."""
    if (Path(path) / "config.json").is_file():
        return Path(path)
    patterns = ["*.json", "*.jinja", "model*.safetensors"]
    return Path(_from_hub(snapshot_download, path, what, allow_patterns=patterns))


def _from_hub(download, path: str, what: str, **wanted) -> str:
    try:
        return download(path, **wanted)
    except (OSError, ValueError) as error:
        raise GranvitError(
            f"{what}: cannot get {path!r} from the hub: {str(error).strip().splitlines()[0]} Go online (a "
            "gated model also needs `hf auth login`), or download it elsewhere and give its folder in "
            "config/encoders.yaml or config/llms.yaml"
        ) from error
