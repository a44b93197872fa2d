"""The command line as it is typed: its name, what wrong usage says, completion."""

from __future__ import annotations

import subprocess
import sys
import tomllib

import pytest
from benchmark_world import ROOT

from granvit.cli import main


def test_the_installed_command_is_this_one():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"]["granvit"] == f"{main.__module__}:{main.__name__}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND; see `granvit --help`"),
        (["locate", "a.png"], "the following arguments are required: text; see `granvit locate --help`"),
        (
            ["eval", "score", "--seed", "x"],
            "argument --seed: invalid int value: 'x'; see `granvit eval score",
        ),
        (
            ["caption", "a.png", "--run", "a", "--model", "b"],
            "argument --model: not allowed with argument --run",
        ),
        (["export", "mllm", "a"], "the following arguments are required: OUT; see `granvit export mllm"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(capsys, arguments, message):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    error = capsys.readouterr().err
    assert end.value.code == 2 and error.count("\n") == 1
    assert error.startswith(f"error: {message}")


def test_a_shell_can_complete_the_commands():
    for shell in ("bash", "zsh"):
        command = [sys.executable, "-m", "shtab", f"--shell={shell}", "granvit.cli.build_parser"]
        script = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert all(word in script for word in ("describe", "--box", "diff", "mllm", "--judge-url"))
