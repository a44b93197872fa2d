"""A real SLURM of three nodes on this host: munge, slurmctld and three slurmd as plain processes on loopback,
all their files in one folder. Nothing of the host's own configuration is read or changed.

    with cluster(folder) as slurm: call(..., env=slurm.environment)
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "sinfo", "scancel")
NODES = ("n1", "n2", "n3")
PACKAGES = "slurmctld slurmd slurm-client munge"
DEVICES = 8  # of each kind on a node, as in the shipped profiles

# Sizes are declared, not there (config_overrides), so that the shipped profiles' own requests fit.
CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=10
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
MpiDefault=none
ReturnToService=2
MinJobAge=300
KillWait=30
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
SlurmdParameters=config_overrides
MailProg=/bin/true
GresTypes=gpu,npu
NodeName=DEFAULT CPUs=128 RealMemory=1000000 Gres=gpu:{devices},npu:{devices} Weight=2
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]}
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]}
NodeName=n3 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[3]} Weight=1
PartitionName=test Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
PartitionName=other Nodes=n2,n3 MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Why no SLURM can be started here; empty where one can."""
    if os.geteuid() != 0:
        return "slurmd has to be started by root"
    absent = [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]
    return f"{', '.join(absent)} not installed (Debian: apt-get install {PACKAGES})" if absent else ""


def _path() -> str:
    return os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])


@dataclass
class Sample:
    """A job as squeue shows it: its name at Snakemake's, its state, nodes and devices on each of them."""

    job: str
    comment: str
    state: str
    nodes: str
    gres: str


@dataclass
class Slurm:
    folder: Path
    environment: dict[str, str]
    samples: list[Sample] = field(default_factory=list)
    daemons: dict[str, subprocess.Popen] = field(default_factory=dict)  # a slurmd by its node's name

    def ask(self, *command: str) -> str:
        """Output of a SLURM command."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=30, check=True
        )
        return done.stdout

    def jobs(self) -> list[Sample]:
        """All jobs that SLURM still knows, the ended ones too."""
        lines = self.ask("squeue", "--noheader", "--states=all", "--format=%i|%k|%T|%N|%b").splitlines()
        return [Sample(*line.split("|")) for line in lines]

    def lose(self, node: str) -> None:
        """Cut a node's power: all its processes are gone at once. SLURM, which would notice that after
        SlurmdTimeout (300 s), is told so."""
        jobs = [process for process in psutil.process_iter() if _variable(process, "SLURMD_NODENAME") == node]
        steps = {parent for process in jobs if (parent := process.parent()) and "slurmstepd" in parent.name()}
        for process in [self.daemons[node], *steps, *jobs]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.ask("scontrol", "update", f"nodename={node}", "state=down", "reason=no power")

    def sbatch_lines(self) -> list[str]:
        """Every call of sbatch, without the command that it wraps."""
        file = self.folder / "sbatch.log"
        return file.read_text().splitlines() if file.is_file() else []


@contextmanager
def cluster(folder: Path) -> Iterator[Slurm]:
    """Start the daemons, wait until all nodes are idle, and stop everything at the end."""
    folder.mkdir(parents=True)
    (folder / "state").mkdir()
    environment = _configure(folder)
    slurm = Slurm(folder, environment)
    try:
        for name, command in _daemons(folder).items():
            with open(folder / f"{name}.out", "w") as log:
                slurm.daemons[name] = subprocess.Popen(
                    command, env=environment, stdout=log, stderr=log, start_new_session=True
                )
            if name == "munged":
                _wait_for(lambda: (folder / "munge.socket").exists(), "munged", folder)
        _wait_for(lambda: _idle(slurm) == set(NODES), "idle nodes", folder)
        with _sampling(slurm):
            yield slurm
    finally:
        _quietly(slurm, "scancel", "--user", "root")
        _stop(slurm)


def _idle(slurm: Slurm) -> set[str]:
    return set(_quietly(slurm, "sinfo", "--Node", "--noheader", "--states=idle", "--format=%N").split())


def _configure(folder: Path) -> dict[str, str]:
    ports = _free_ports(4)
    host = socket.gethostname()
    text = CONFIG.format(folder=folder, host=host, ports=ports, user="root", devices=DEVICES)
    (folder / "slurm.conf").write_text(text)
    lines = ["AutoDetect=off"]
    for kind in ("gpu", "npu"):
        for number in range(DEVICES):
            device = folder / f"{kind}{number}"
            os.mknod(device, 0o600 | 0o020000, os.makedev(1, 3))  # what /dev/null is
        lines.append(f"Name={kind} File={folder}/{kind}[0-{DEVICES - 1}]")
    (folder / "gres.conf").write_text("\n".join(lines) + "\n")
    (folder / "munge.key").write_bytes(secrets.token_bytes(128))
    (folder / "munge.key").chmod(0o600)
    # Job steps of Snakemake's executor forget SLURM_CONF: these commands say it again.
    (folder / "bin").mkdir()
    for name in ("sbatch", "srun", "squeue", "scontrol", "sinfo", "scancel", "sacct"):
        real = shutil.which(name, path=_path())
        if real is None:
            continue
        said = 'echo "fork server: ${GRANVIT_FORK_SERVER:-none} sbatch $*" | sed "s/ --wrap=.*//"'
        log = f'{said} >> "{folder}/sbatch.log"\n'
        note = log if name == "sbatch" else ""
        script = folder / "bin" / name
        script.write_text(f'#!/bin/sh\nexport SLURM_CONF="{folder}/slurm.conf"\n{note}exec {real} "$@"\n')
        script.chmod(0o755)
    path = f"{folder / 'bin'}{os.pathsep}{_path()}"
    return {**os.environ, "PATH": path, "SLURM_CONF": f"{folder}/slurm.conf"}


def _daemons(folder: Path) -> dict[str, list[str]]:
    def at(name: str) -> str:
        return str(folder / name)

    def program(name: str) -> str:
        return shutil.which(name, path=_path())

    munged = [
        program("munged"), "--foreground", "--force", "--key-file", at("munge.key"),
        "--socket", at("munge.socket"), "--pid-file", at("munge.pid"),
        "--log-file", at("munge.log"), "--seed-file", at("munge.seed"),
    ]  # fmt: skip
    slurmd = {node: [program("slurmd"), "-D", "-N", node] for node in NODES}
    return {"munged": munged, "slurmctld": [program("slurmctld"), "-D", "-c"], **slurmd}


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _quietly(slurm: Slurm, *command: str) -> str:
    try:
        return slurm.ask(*command)
    except (subprocess.SubprocessError, OSError):
        return ""


def _wait_for(condition, what: str, folder: Path, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            logs = "\n".join(
                f"{file.name}: {file.read_text()[-800:]}" for file in folder.glob("*.[lo][ou][gt]")
            )
            raise TimeoutError(f"no {what} after {seconds} s\n{logs}")
        time.sleep(0.1)


@contextmanager
def _sampling(slurm: Slurm) -> Iterator[None]:
    """Look at the queue twice a second."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.5):
            for line in _quietly(slurm, "squeue", "--noheader", "--format=%i|%k|%T|%N|%b").splitlines():
                slurm.samples.append(Sample(*line.split("|")))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(40)


def _stop(slurm: Slurm) -> None:
    """End the daemons, in the reverse order of their start, and what is left of jobs."""
    for daemon in reversed(slurm.daemons.values()):
        daemon.terminate()
        try:
            daemon.wait(10)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait(10)
    for process in psutil.process_iter():
        if _variable(process, "SLURM_CONF") == f"{slurm.folder}/slurm.conf" and process.pid != os.getpid():
            with suppress(psutil.NoSuchProcess):
                process.kill()


def _variable(process: psutil.Process, name: str) -> str | None:
    """A variable of a process's environment; None where it has none, or is gone."""
    try:
        return process.environ().get(name)
    except psutil.Error:
        return None
