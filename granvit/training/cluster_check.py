"""What the devices of a job, the network between them and the file system they share can do: five minutes
before the first training run (`snakemake check_cluster`, docs/clusters.md).

python -m granvit.training.cluster_check CHECK.json      # what every process runs
"""

from __future__ import annotations

import hashlib
import os
import shlex
import socket
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

from granvit.config.base import PositiveInt, Strict
from granvit.errors import GranvitError
from granvit.files import write_json
from granvit.processes import end_with_parent, rank_environment
from granvit.training.launch import as_rank, launch_command

PACKAGES = ("torch", "torch_npu", "deepspeed", "transformers")
SLOW = 0.7  # of the median rate of products: a device below it holds all others up
SECONDS = 2.0  # that each rate is measured for
MIB = 2**20
FAULTS = "faults.txt"


class Check(Strict):
    """One check: on ``nodes`` with ``devices`` processes each. ``out``: the report, of the first rank;
    ``folder``: on the file system that is measured; every rank writes ``file_mib`` there and removes it.
    ``device`` as in ``compute.device``."""

    out: Path
    folder: Path
    device: str
    devices: PositiveInt
    nodes: PositiveInt
    file_mib: PositiveInt


def check_devices(check: Check, launcher: str | None) -> None:
    """Run ``check`` in this process, or by ``launcher`` as a training run is. Writes ``check.out``.

    Raises GranvitError with the reasons where anything is not as asked, and then writes nothing.
    """
    check.folder.mkdir(parents=True, exist_ok=True)
    said = check.folder / FAULTS
    for earlier in (check.out, said):
        earlier.unlink(missing_ok=True)
    if launcher is None:
        _check(check)
        return
    file = check.folder / "check.json"
    file.write_text(check.model_dump_json(), encoding="utf-8")
    command = launch_command(launcher, check.devices, check.nodes, file, __name__)
    environment = rank_environment(check.devices)
    ended = subprocess.run(command, env=environment, preexec_fn=end_with_parent, check=False).returncode
    if said.is_file():
        raise GranvitError(said.read_text(encoding="utf-8"))
    if not check.out.is_file():
        raise GranvitError(
            f"check_cluster: the launcher ended with code {ended}; what its processes said is above. "
            f"Command: {shlex.join(command)}"
        )


def _check(check: Check) -> None:
    import torch

    from granvit.training.engine import Cluster

    cluster = Cluster(check.device, "ddp", None)
    torch.manual_seed(0)
    own = describe(cluster.device)
    own |= {"rank": cluster.rank, "TFLOP/s": product_rate(cluster.device)}
    own |= collective_rate(cluster) | file_rates(check, cluster)
    found = cluster.gather([own])
    wrong = faults(found, check)
    if cluster.is_main and not wrong:
        write_json(check.out, {"nodes": check.nodes, "devices": check.devices, "ranks": found})
    told = f"check_cluster: {'; '.join(wrong)}"
    if cluster.is_main and wrong:  # for the job that started the ranks: its log is the one that is shown
        (check.folder / FAULTS).write_text(told, encoding="utf-8")
    cluster.close()
    if wrong:
        raise GranvitError(told)


def describe(device) -> dict:
    """The node, the device (its own number on the node), driver and versions, as one rank sees them; None for
    what is not there."""
    from granvit.device import describe_device, device_number, driver_version

    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return {
        "node": os.environ.get("SLURMD_NODENAME") or socket.gethostname(),
        "device": describe_device(device),
        "number": device_number(device),
        "driver": driver_version(device),
        "python": sys.version.split()[0],
        **versions,
    }


def product_rate(device) -> float:
    """TFLOP/s of square matrix products: in bf16 on an accelerator, in fp32 on a CPU."""
    import torch

    from granvit.device import is_accelerator

    fast = is_accelerator(device)
    side, dtype = (8192, torch.bfloat16) if fast else (512, torch.float32)
    left = torch.ones(side, side, device=device, dtype=dtype)

    def products(count: int) -> None:
        for _ in range(count):
            result = left @ left
        result[0, 0].item()  # waits for the device

    return round(_rate(lambda: products(10), 10 * 2 * side**3) / 1e12, 3)


def collective_rate(cluster) -> dict[str, float | str | None]:
    """GB/s on the slowest link while all ranks add up what each of them has (all-reduce, ring: a rank sends
    2 (n - 1) / n of the tensor); None for one rank. A wrong sum is a ``fault``."""
    import torch

    from granvit.device import is_accelerator

    if cluster.size == 1:
        return {"all-reduce GB/s": None}
    values = (256 if is_accelerator(cluster.device) else 4) * MIB // 4
    own = torch.full((values,), float(cluster.rank + 1), device=cluster.device)
    total = cluster.sum(own.clone())
    right = cluster.size * (cluster.size + 1) / 2
    wrong = {"fault": "all-reduce gives a wrong sum"} if (total != right).any().item() else {}
    rounds = 5
    begin = time.perf_counter()
    for _ in range(rounds):
        cluster.sum(total)[0].item()
    seconds = time.perf_counter() - begin
    sent = rounds * values * 4 * 2 * (cluster.size - 1) / cluster.size
    return {"all-reduce GB/s": round(sent / seconds / 1e9, 3)} | wrong


def file_rates(check: Check, cluster) -> dict[str, float | str]:
    """MB/s at which a rank writes a file to the disk (fsync), and reads the next rank's, which another node
    may have written. A file that is not there, or not the same, is a ``fault``: the folder is not shared."""
    content = os.urandom(MIB) * check.file_mib
    own = check.folder / f"rank{cluster.rank}.bin"
    begin = time.perf_counter()
    with open(own, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    written = time.perf_counter() - begin
    hashes = cluster.gather([hashlib.sha256(content).hexdigest()])
    other = (cluster.rank + 1) % cluster.size
    read = _read(check.folder / f"rank{other}.bin", hashes[other])
    cluster.wait()
    own.unlink()
    size = len(content) / 1e6
    rates = {"write MB/s": round(size / written)}
    return rates | ({"fault": read} if isinstance(read, str) else {"read MB/s": round(size / read)})


def _read(file: Path, expected: str) -> float | str:
    """Seconds that it takes to read a file, not out of this node's memory; or what is wrong with it."""
    try:
        with open(file, "rb") as opened:
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            begin = time.perf_counter()
            content = opened.read()
            seconds = time.perf_counter() - begin
    except OSError as error:
        return (
            f"{file} of another process cannot be read ({error.strerror}): is the folder on a file system "
            "that all nodes see?"
        )
    if hashlib.sha256(content).hexdigest() != expected:
        return f"{file} is not what another process has written there"
    return seconds


def faults(found: list[dict], check: Check) -> list[str]:
    """What is not as ``check`` asks, out of what all ranks found."""
    wrong = [f"{_place(one)}: {one['fault']}" for one in found if "fault" in one]
    if len(found) != check.devices * check.nodes:
        wrong.append(
            f"{len(found)} processes instead of {check.nodes} x {check.devices}: see compute.launcher"
        )
    nodes = sorted({one["node"] for one in found})
    if len(nodes) != check.nodes:
        wrong.append(f"{len(nodes)} nodes instead of {check.nodes}: {', '.join(nodes)}")
    numbered = [(one["node"], one["number"]) for one in found if one["number"] is not None]
    for place in sorted({place for place in numbered if numbered.count(place) > 1}):
        wrong.append(f"{place[0]}: {numbered.count(place)} processes share device {place[1]}")
    for name in ("device", "driver", "python", *PACKAGES):
        seen = sorted({str(one[name]) for one in found})
        if len(seen) > 1:
            wrong.append(f"{name} is not the same everywhere: {', '.join(seen)}")
    usual = median(one["TFLOP/s"] for one in found)
    wrong += [
        f"{_place(one)}: {one['TFLOP/s']} TFLOP/s, where the median is {usual}"
        for one in found
        if one["TFLOP/s"] < SLOW * usual and one["number"] is not None
    ]
    return wrong


def _place(one: dict) -> str:
    return f"rank {one['rank']} on {one['node']}"


def _rate(work, amount: float) -> float:
    """``amount`` a call of ``work``, per second."""
    work()
    calls, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < SECONDS:
        work()
        calls += 1
    return amount * calls / (time.perf_counter() - begin)


if __name__ == "__main__":
    asked = Check.model_validate_json(Path(sys.argv[-1]).read_text(encoding="utf-8"))
    sys.exit(as_rank(lambda: _check(asked)))
