"""Before the first run on a cluster: what its devices, network and files can do, and what is not as asked."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from granvit.errors import GranvitError
from granvit.training.cluster_check import Check, check_devices, faults

OWN = {
    "node": "n1", "rank": 0, "device": "npu Ascend910B", "number": "0", "driver": "Version=25.0",
    "python": "3.11.7", "torch": "2.13.0", "torch_npu": "2.13.0", "deepspeed": "0.19.8",
    "transformers": "5.23.0", "TFLOP/s": 200.0, "all-reduce GB/s": 20.0, "write MB/s": 900, "read MB/s": 900,
}  # fmt: skip


def make_check(folder: Path, devices: int = 1, nodes: int = 1) -> Check:
    return Check(
        out=folder / "out.json",
        folder=folder / "files",
        device="cpu",
        devices=devices,
        nodes=nodes,
        file_mib=1,
    )


def rank(place: int, **changes) -> dict:
    """What a rank of two nodes of two devices finds."""
    own = {"rank": place, "node": f"n{place // 2 + 1}", "number": str(place % 2)}
    return {**OWN, **own, **changes}


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({}, None),
        ({3: {"number": "0"}}, "n2: 2 processes share device 0"),
        ({2: {"node": "n1", "number": "2"}, 3: {"node": "n1", "number": "3"}}, "1 nodes instead of 2: n1"),
        ({1: {"torch_npu": None}}, "torch_npu is not the same everywhere: 2.13.0, None"),
        ({1: {"driver": "Version=24.1"}}, "driver is not the same everywhere: Version=24.1, Version=25.0"),
        ({2: {"TFLOP/s": 120.0}}, "rank 2 on n2: 120.0 TFLOP/s, where the median is 200.0"),
        ({2: {"TFLOP/s": 150.0}}, None),
        ({1: {"fault": "all-reduce gives a wrong sum"}}, "rank 1 on n1: all-reduce gives a wrong sum"),
    ],
)
def test_what_is_not_as_asked_is_named_with_its_place(tmp_path, changed, says):
    found = [rank(number, **changed.get(number, {})) for number in range(4)]
    assert faults(found, make_check(tmp_path, devices=2, nodes=2)) == ([says] if says else [])


def test_processes_that_did_not_start_are_counted(tmp_path):
    (said, nodes) = faults([rank(0), rank(1)], make_check(tmp_path, devices=2, nodes=2))
    assert said == "2 processes instead of 2 x 2: see compute.launcher"
    assert nodes == "1 nodes instead of 2: n1"


def test_one_process_reports_its_rates_and_removes_its_file(tmp_path):
    check = make_check(tmp_path)
    check_devices(check, launcher=None)
    (own,) = json.loads(check.out.read_text())["ranks"]
    assert own["TFLOP/s"] > 0 and own["write MB/s"] > 0 and own["read MB/s"] > 0
    assert own["all-reduce GB/s"] is None and own["device"].startswith("cpu ")
    assert not list(check.folder.iterdir())


@pytest.mark.ranks
def test_two_ranks_are_measured_together_and_a_third_is_missed(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    two = make_check(tmp_path / "two", devices=2)
    check_devices(two, "torchrun --standalone --nproc-per-node {devices}")
    ranks = json.loads(two.out.read_text())["ranks"]
    assert [one["rank"] for one in ranks] == [0, 1] and all(one["all-reduce GB/s"] > 0 for one in ranks)
    three = make_check(tmp_path / "three", devices=3)
    with pytest.raises(GranvitError, match=r"2 processes instead of 1 x 3: see compute\.launcher"):
        check_devices(three, "torchrun --standalone --nproc-per-node 2")
    assert not three.out.exists()
    with pytest.raises(GranvitError, match=r"launcher ended with code 1; .*Command: false --nproc"):
        check_devices(three, "false --nproc-per-node {devices}")
