"""Which code a workflow step covers: everything that its jobs load, and no line of it unsaid."""

from __future__ import annotations

from granvit.config import steps
from granvit.config.steps import Code


def test_a_steps_code_does_not_change_unsaid():
    assert steps.changed_steps() == [], "run: python -m granvit.config.steps"


def test_every_module_that_makes_results_belongs_to_a_step():
    code = Code()
    covered = {module for step in steps.ROOTS for module in code.covered(step)}
    uncovered = {name.removeprefix("granvit.") for name in code.hashes if name not in covered}
    evaluation = {f"evaluation.{name}" for name in ("check_cases", "agreement", "export")}
    toolkits = {f"evaluation.toolkits{name}" for name in ("", ".vlmevalkit", ".lmms_eval")}
    commands = {"cli", "commands", "commands.data", "commands.evaluation", "reporting.recompute"}
    # What makes no result of the graph
    assert uncovered == evaluation | toolkits | commands | {"data.mixtures.export", "copy_files"}
