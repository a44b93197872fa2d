"""A job sees the NPUs that SLURM gave it: SLURM itself says so in `scontrol -d show job` only."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from granvit import slurm
from granvit.errors import GranvitError

SHOWN = """JobId=1 JobName=x
   JOB_GRES=npu:1
     Nodes=n1 CPU_IDs=0 Mem=1000 GRES={gres}
   MinCPUsNode=1
"""
ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    ("gres", "given"),
    [
        ("npu:1(IDX:3)", (1, [3])),
        ("npu:4(IDX:0-2,7)", (4, [0, 1, 2, 7])),
        ("npu:910b:2(IDX:4-5)", (2, [4, 5])),
        ("gpu:1(IDX:0),npu:1(IDX:2)", (1, [2])),
        ("npu(CNT:2)", (2, [])),
        ("npu:2(CNT:2)", (2, [])),
        ("gpu:1(IDX:0)", None),
        ("", None),
    ],
)
def test_devices_are_read_from_what_slurm_shows(gres, given):
    assert slurm.given_npus(SHOWN.format(gres=gres)) == given


def test_job_of_several_nodes_has_them_whole():
    lines = [f"     Nodes=n{node} CPU_IDs=0 Mem=1 GRES=npu:8(IDX:0-7)" for node in (1, 2)]
    assert slurm.given_npus("\n".join(lines)) is None
    assert slurm.given_npus("     Nodes=n[1-2] CPU_IDs=0 Mem=1 GRES=npu:8(IDX:0-7)\n") is None


@pytest.fixture
def node(tmp_path, monkeypatch):
    """A node of four devices; `tell(gres)` is what its SLURM shows of the job."""
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.delenv(slurm.VISIBLE, raising=False)
    monkeypatch.setattr(slurm, "DEVICES", tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name in ("davinci0", "davinci1", "davinci2", "davinci3", "davinci_manager"):
        (tmp_path / name).touch()
    command = tmp_path / "scontrol"
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    def tell(gres: str) -> None:
        command.write_text(f"#!/bin/sh\ncat <<'EOF'\n{SHOWN.format(gres=gres)}EOF\n")
        command.chmod(0o755)

    return tell


def test_job_sees_its_own_devices_and_no_others(node, monkeypatch):
    node("npu:2(IDX:1,3)")
    assert slurm.show_own_devices() == "devices: NPU 1,3 of this node, of SLURM job 1"
    assert os.environ[slurm.VISIBLE] == "1,3"
    node("npu:1(IDX:0)")
    assert slurm.show_own_devices() == "" and os.environ[slurm.VISIBLE] == "1,3"  # what is set stays


def test_no_job_and_no_npu_change_nothing(node, monkeypatch):
    node("gpu:1(IDX:0)")
    assert slurm.show_own_devices() == "" and slurm.VISIBLE not in os.environ
    node("npu:4(CNT:4)")
    assert slurm.show_own_devices() == "" and slurm.VISIBLE not in os.environ  # the whole node
    monkeypatch.delenv("SLURM_JOB_ID")
    node("npu:1(IDX:2)")
    assert slurm.show_own_devices() == "" and slurm.VISIBLE not in os.environ


def test_counted_devices_are_shared_out_by_locks_and_free_again_with_their_job(node, tmp_path):
    node("npu(CNT:3)")
    other = subprocess.Popen(
        [sys.executable, "-c", "import sys, tempfile; from pathlib import Path; from granvit import slurm; "
         f"slurm.DEVICES = Path({str(tmp_path)!r}); tempfile.tempdir = {str(tmp_path)!r}; "
         "print(slurm.show_own_devices(), flush=True); sys.stdin.read()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert "NPU 0,1,2 " in other.stdout.readline()
    with pytest.raises(GranvitError, match=r"3 NPUs by number only, .* all but 1 of this node's 4"):
        slurm.show_own_devices()
    for handle in slurm._locks:
        os.close(handle)
    slurm._locks.clear()
    other.communicate("")
    assert "NPU 0,1,2 " in slurm.show_own_devices()
