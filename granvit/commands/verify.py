"""``granvit verify``: whether the files under results/ are still what the jobs wrote."""

from __future__ import annotations

import argparse
import json
from typing import Any


def add_commands(groups: Any) -> None:
    """Add the command `verify` to the command line."""
    command = groups.add_parser(
        "verify", help="whether runs and shards are still what was written",
        epilog="example: granvit verify --quick",
    )  # fmt: skip
    command.add_argument("results", nargs="?", default="results", help="folder that holds {scale}/ (results)")
    command.add_argument(
        "--quick", action="store_true", help="sizes and parents alone: no large file is read"
    )
    command.add_argument("--json", action="store_true", help="print JSON instead")
    command.set_defaults(run=run_verify)


def run_verify(arguments: argparse.Namespace) -> int:
    """Print a line a fault; exit status 1 if there is one."""
    from granvit.reporting.verify import verify

    report = verify(arguments.results, arguments.quick)
    if arguments.json:
        faults = [fault._asdict() for fault in report.faults]
        print(json.dumps({**report._asdict(), "faults": faults}, indent=2, ensure_ascii=False))
        return 1 if report.faults else 0
    for fault in report.faults:
        print(fault)
    for folder in report.unknown:
        print(f"{folder}: no hashes, made by an older version; only what it learned from was looked at")
    how, count = "sizes" if arguments.quick else "bytes", len(report.faults)
    faults = f"{count or 'no'} fault{'' if count == 1 else 's'}"
    print(f"{report.checked} files and shards looked at ({how}): {faults}")
    return 1 if report.faults else 0
