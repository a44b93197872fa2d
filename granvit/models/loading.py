"""Loading of pretrained folders without silent surprises: a weight that is missing is an error, never a
random one."""

from __future__ import annotations

import os
from pathlib import Path

from transformers.utils import logging

from granvit.errors import GranvitError

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads would take the cores of other jobs
logging.set_verbosity_error()  # what matters in a loading report is raised as an error below
logging.disable_progress_bar()


def require_model(path: str, what: str) -> str:
    """Check that a local model folder is there; a hub id (``owner/name``) is left to the hub's client.

    Raises GranvitError when a local folder is missing or holds no config.json.
    """
    folder = Path(path)
    if (folder / "config.json").is_file():
        return str(folder)
    looks_local = (
        folder.is_absolute() or path.startswith(".") or len(folder.parts) != 2 or folder.parent.exists()
    )
    if looks_local:
        problem = "holds no config.json" if folder.exists() else "does not exist"
        raise GranvitError(
            f"{what}: model folder {path!r} {problem}; expected a folder in Hugging Face layout "
            f"(config.json, "
            "model.safetensors). Give the right path in config/encoders.yaml or config/llms.yaml, or "
            "download the model there"
        )
    return path


def load_pretrained(model_class: type, path: str, what: str, foreign: tuple[str, ...] = (), **options):
    """``model_class.from_pretrained`` in fp32 with SDPA attention that refuses missing, unexpected or
    misshapen weights.

    ``foreign``: prefixes of keys that belong to other parts of a larger checkpoint (a text tower) and may
    be left unread.
    """
    try:
        model, info = model_class.from_pretrained(
            path,
            dtype="float32",
            attn_implementation="sdpa",
            use_safetensors=True,
            output_loading_info=True,
            **options,
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise GranvitError(f"{what}: cannot load {path!r}: {str(error).strip().splitlines()[0]}") from error
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
