"""A machine with an accelerator named npu, for tests: a process in which npu_device.cpp is registered.

A device is registered for a whole process and cannot be removed, so never in the one that runs the tests.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType

import torch
from torch.utils import cpp_extension

SOURCE = Path(__file__).with_name("npu_device.cpp")
COMPILER = os.environ.get("CXX", "c++")


def obstacle() -> str | None:
    """Why this machine cannot build the device, or None."""
    if sys.platform != "linux":
        return "the test device npu is built on Linux only"
    if not shutil.which(COMPILER):
        return f"no C++ compiler ({COMPILER}) to build the test device npu with"
    return None


def build(folder: Path) -> Path:
    """The device's library in ``folder``, compiled (half a minute) unless this source's for this torch is
    there."""
    digest = hashlib.sha256(f"{torch.__version__} {sys.version}".encode() + SOURCE.read_bytes()).hexdigest()
    library = folder / f"npu_device-{digest[:16]}.so"
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the workers of one test session compile once
        if not library.is_file():
            _compile(library)
    return library


def _compile(library: Path) -> None:
    unfinished = library.with_suffix(".tmp")
    command = [COMPILER, "-std=c++20", "-O0", "-w", "-shared", "-fPIC", str(SOURCE), "-o", str(unfinished)]
    command += [f"-I{path}" for path in cpp_extension.include_paths()]
    command += [f"-L{path}" for path in cpp_extension.library_paths()]
    done = subprocess.run([*command, "-ltorch_cpu", "-lc10"], capture_output=True, text=True)
    assert done.returncode == 0, f"{SOURCE.name} does not compile:\n{done.stderr[:6000]}"
    unfinished.replace(library)


def machine(library: Path) -> ProcessPoolExecutor:
    """A process with the device: ``machine.submit(function, ...).result()`` calls a function there."""
    return ProcessPoolExecutor(1, get_context("spawn"), initializer=register, initargs=(library,))


def register(library: Path) -> None:
    """Give this process the device npu and ``torch.npu``."""
    torch.ops.load_library(library)
    torch.utils.rename_privateuse1_backend("npu")
    torch._register_device_module("npu", _device_module())
    torch.utils.generate_methods_for_privateuse1_backend()
    torch.set_num_threads(1)


def _device_module() -> ModuleType:
    """``torch.npu``: what PyTorch and a training loop ask a device's module."""
    module = ModuleType("torch.npu")
    module.is_available = module.is_initialized = module.is_bf16_supported = lambda: True
    module.device_count = lambda: 1
    module.current_device = lambda: 0
    module.set_device = lambda device: None
    module.device = nullcontext  # `with torch.npu.device(0)`: there is no other
    module.synchronize = lambda device=None: None
    module.empty_cache = lambda: None
    module.get_device_name = lambda device=None: "CPU that is called npu"
    module.get_amp_supported_dtype = lambda: [torch.float16, torch.bfloat16]
    # Its random numbers are the CPU's, which torch seeds, saves and restores anyway.
    module._is_in_bad_fork = lambda: False
    module.manual_seed = module.manual_seed_all = lambda seed: None
    module.get_rng_state = lambda device="npu": torch.get_rng_state()
    module.set_rng_state = lambda state, device="npu": torch.set_rng_state(state)
    return module
