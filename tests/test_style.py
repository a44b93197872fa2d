"""What the formatters would say: a contributor's first diff holds their change and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

TOOLS = Path(sys.executable).parent
CHECKS = [
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("snakefmt", "--check", "Snakefile", "rules"),
]


@pytest.mark.parametrize("command", CHECKS, ids=" ".join)
def test_code_is_as_the_formatter_writes_it(command):
    done = subprocess.run([TOOLS / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
