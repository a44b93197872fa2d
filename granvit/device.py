"""The accelerator seam: the only file that asks which kind of device it is."""

from __future__ import annotations

import contextlib
import os
import platform
from pathlib import Path

import torch

from granvit.errors import GranvitError

KINDS = ("npu", "cuda", "cpu")
# Which devices a process is shown, and where its driver says its version
_SHOWN = {"npu": "ASCEND_RT_VISIBLE_DEVICES", "cuda": "CUDA_VISIBLE_DEVICES"}
_DRIVERS = {"npu": "/usr/local/Ascend/driver/version.info", "cuda": "/proc/driver/nvidia/version"}


def _available(kind: str) -> bool:
    if kind == "cpu":
        return True
    module = getattr(torch, kind, None)
    return module is not None and module.is_available()


def pick_device(name: str = "auto") -> torch.device:
    """``auto`` takes the first of npu, cuda, cpu that is there; any other name is taken at its word.

    Raises GranvitError for an unknown name and for a device that is not there.
    """
    if name == "auto":
        name = next(kind for kind in KINDS if _available(kind))
    kind = name.split(":")[0]
    if kind not in KINDS:
        raise GranvitError(f"device: {name!r} is unknown; expected auto or one of {', '.join(KINDS)}")
    if not _available(kind):
        raise GranvitError(
            f"device: {name!r} is not available here; use device: auto, or install torch for {kind}"
        )
    return torch.device(name)


def is_accelerator(device: torch.device) -> bool:
    """Whether it is anything but the CPU."""
    return device.type != "cpu"


def describe_device(device: torch.device) -> str:
    """What the manifest records: ``cpu x86_64``, or the accelerator's own name."""
    if not is_accelerator(device):
        return f"cpu {platform.machine()}"
    return f"{device.type} {getattr(torch, device.type).get_device_name(device)}"


def device_number(device: torch.device) -> str | None:
    """The node's own number of an accelerator, whatever this process was shown of them; None for a CPU."""
    if not is_accelerator(device):
        return None
    index = device.index or 0
    shown = os.environ.get(_SHOWN[device.type], "").split(",")
    return shown[index] if index < len(shown) and shown[index] else str(index)


def driver_version(device: torch.device) -> str | None:
    """The first line that the driver of an accelerator says of its version; None where it says nothing."""
    file = Path(_DRIVERS.get(device.type, ""))
    return file.read_text(encoding="utf-8").splitlines()[0].strip() if file.is_file() else None


def autocast(device: torch.device, precision: str):
    """Context for forward passes: bf16 autocast over fp32 weights (updates at 1e-5 vanish in bf16 ones),
    or nothing. Raises GranvitError for another precision than fp32 and bf16."""
    if precision == "fp32":
        return contextlib.nullcontext()
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    raise GranvitError(f"precision: {precision!r} is unknown; expected fp32 or bf16")


def rng_state(device: torch.device) -> dict[str, torch.Tensor]:
    """State of the random number generators that a run may use: the CPU's and its device's."""
    states = {"cpu": torch.get_rng_state()}
    if is_accelerator(device):
        states["device"] = getattr(torch, device.type).get_rng_state(device)
    return states


def set_rng_state(device: torch.device, states: dict[str, torch.Tensor]) -> None:
    """Take over what ``rng_state`` gave."""
    torch.set_rng_state(states["cpu"])
    if is_accelerator(device):
        getattr(torch, device.type).set_rng_state(states["device"], device)


def has_fused_optimizer(device: torch.device) -> bool:
    """Whether torch's fused AdamW runs on this device."""
    return device.type in ("cpu", "cuda")


def has_flex_attention(device: torch.device) -> bool:
    """Whether torch compiles FlexAttention, forward and backward, for this device."""
    return device.type == "cuda"


def compiles_layers(device: torch.device) -> bool:
    """Whether torch.compile makes training faster here: measured on CUDA; a CPU's pointwise work is cheap
    beside its products, and Ascend's compiler is a package of its own."""
    return device.type == "cuda"


def seed_everything(seed: int) -> None:
    """Same seed, same threads, same bytes: seeds torch and forbids kernels that are not deterministic."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = (
        False  # a debugging aid that costs a pass over memory
    )
