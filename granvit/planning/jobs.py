"""One job of the graph, as a plan sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Job:
    """What Snakemake says of a job. ``needs``: numbers of the jobs whose files it reads; ``threads`` and
    ``resources``: as its rule or a profile declares them; ``phase``: the file of rules/ that its rule stands
    in; ``makes_nothing``: a target that only names others; ``benchmark``: where its time is written."""

    number: int
    rule: str
    wildcards: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[int, ...] = ()
    priority: float = 0.0
    threads: int = 1
    resources: Mapping[str, Any] = field(default_factory=dict)
    is_done: bool = False
    makes_nothing: bool = False
    outputs: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    benchmark: str | None = None
    phase: str = ""

    @property
    def name(self) -> str:
        """A rule and what tells this job from the others of it."""
        values = [value for key, value in self.wildcards.items() if key not in ("scale", "seed")]
        return " ".join([self.rule, *values])

    @property
    def nodes(self) -> int:
        """Nodes that it takes at once."""
        return max(int(self.resources.get("nodes", 1) or 1), 1)

    @property
    def cores(self) -> int:
        """Cores that it takes on each of its nodes; a profile says it beside ``threads``, which Snakemake
        cuts to the cores of the machine that it runs on."""
        return max(int(self.resources.get("cpus_per_task", 0) or 0), self.threads)

    @property
    def devices(self) -> int:
        """Accelerators that it takes on each of its nodes."""
        gres = str(self.resources.get("gres") or "").strip("'\"").rpartition(":")[2]
        if gres.isdigit():
            return int(gres)
        return -(-int(self.resources.get("accelerators", 0) or 0) // self.nodes)
