"""What `training.cluster_check` found, as lines for a console."""

from __future__ import annotations

from collections.abc import Iterator

from granvit.reporting import markdown

RATES = ["TFLOP/s", "all-reduce GB/s", "write MB/s", "read MB/s"]
VERSIONS = ["driver", "python", "torch", "torch_npu", "deepspeed", "transformers"]


def cluster_lines(checks: list[dict]) -> Iterator[str]:
    """A table a check, a row a rank, and the versions, which are the same everywhere."""
    for check in checks:
        ranks = sorted(check["ranks"], key=lambda one: one["rank"])
        yield f"{check['nodes']} x {check['devices']} processes:"
        rows = [
            [one["node"], str(one["rank"]), _name(one), *(_shown(one[rate]) for rate in RATES)]
            for one in ranks
        ]
        yield from markdown.table(["node", "rank", "device", *RATES], rows, left=3).splitlines()
        yield ", ".join(f"{name} {ranks[0][name]}" for name in VERSIONS if ranks[0][name])
    yield "check_cluster: everything is as the profile asks"


def _name(one: dict) -> str:
    return one["device"] if one["number"] is None else f"{one['device']} ({one['number']})"


def _shown(value: float | None) -> str:
    return "-" if value is None else str(value)
