"""Copies of the repository that tests run the workflow in, and the one smoke run that they share."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from forks import address_of, run, run_snakemake, share_servers

from granvit.fork_server import ADDRESS

ROOT = Path(__file__).resolve().parent.parent
SMOKE_RUN = ("test_graph_runs", "test_graph_steps", "test_graph_contributing")  # files that share one
LONGEST_FIRST = ("graph", "ranks", "slow")


def group(stem: str) -> str:
    """Whose tests go to one worker: a file's, as its fixtures are made for all of them."""
    return "smoke run" if stem in SMOKE_RUN else stem


def pytest_configure(config: pytest.Config) -> None:
    """What is forked in any worker is a fork of the same servers."""
    if getattr(config.option, "numprocesses", None):  # this process has workers
        share_servers()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first, so that the workers end together."""
    marks = {(group(item.path.stem), mark.name) for item in items for mark in item.iter_markers()}

    def rank(item: pytest.Item) -> tuple[bool, int]:
        own = group(item.path.stem)
        places = [place for place, mark in enumerate(LONGEST_FIRST) if (own, mark) in marks]
        return own != "smoke run", min(places, default=len(LONGEST_FIRST))

    items.sort(key=rank)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log):
    """Groups are dealt, not tests (`--dist loadgroup` of pytest-xdist 3.8 sees none under pytest 9.2)."""
    from xdist.scheduler import LoadScopeScheduling

    class GroupScheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group(Path(nodeid.partition("::")[0]).stem)

    return GroupScheduling(config, log)


def copy_repository(target: Path) -> Path:
    """What a clone of the working tree would hold: tracked files, and new ones that git does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=True, text=True,
    ).stdout.split("\0")  # fmt: skip
    for name in filter(None, listed):
        source = ROOT / name
        if source.is_symlink() or source.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name, follow_symlinks=False)
    return target


def environment(folder: Path) -> dict[str, str]:
    """The test's own interpreter, importing the copy's package instead of the installed one; which modules
    the workflow's jobs import is written down (tests/recorder)."""
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{folder}{os.pathsep}{folder / 'tests/recorder'}",
        "RECORDED": str(folder / ".snakemake/recorded"),
        "OMP_NUM_THREADS": "1",
    }


def call(folder: Path, *command: str, fails: bool = False) -> str:
    """Run a command in a copy; its output. `fails`: it has to fail instead of succeed."""
    own = environment(folder)
    if command[0] in ("snakemake", "dvc", "bash") and "-n" not in command:
        own[ADDRESS] = address_of("jobs")
    if command[0] == "snakemake":
        code, output = run_snakemake(folder, [*command[1:]], own)
    else:
        done = subprocess.run(
            command, cwd=folder, env=own, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        code, output = done.returncode, done.stdout
    assert (code != 0) == fails, f"{' '.join(command)} ended with {code}\n{output[-6000:]}"
    return output


def last_line(benchmark: str, *options: str) -> dict:
    """What the last line of a benchmark's output says, in JSON."""
    script = str(ROOT / "benchmarks" / f"{benchmark}.py")
    with tempfile.TemporaryFile("w+") as errors:
        code, output = run("jobs", script, ROOT, [*options], environment(ROOT), errors.fileno())
        errors.seek(0)
        assert code == 0, errors.read()[-3000:]
    return json.loads(output.splitlines()[-1])


def planned(output: str) -> dict[str, int]:
    """rule -> number of jobs, from a dry-run's statistics."""
    stats = output.partition("Job stats:")[2].partition("total")[0]
    return {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", stats, re.MULTILINE)}


@pytest.fixture(scope="session")
def clone(tmp_path_factory) -> Path:
    """A copy of the repository in which nothing has been made; only for commands that make nothing."""
    return copy_repository(tmp_path_factory.mktemp("clone"))


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A copy of the code that steps may cover: the package and the workflow's scripts."""
    for folder in ("granvit", "workflow_scripts"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def commit(folder: Path, message: str) -> None:
    """Everything in a git clone."""
    call(folder, "git", "add", "--all")
    author = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    call(folder, "git", *author, "commit", "--quiet", "--message", message)


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory) -> Path:
    """A git clone set to smoke scale, in which `dvc repro` has made Table 1 without interruption; only for
    commands that change no result."""
    folder = copy_repository(tmp_path_factory.mktemp("smoke"))
    config = folder / "config/config.yaml"
    config.write_text(config.read_text().replace("scale: mini", "scale: smoke", 1))
    call(folder, "git", "init", "--quiet")
    commit(folder, "clone")
    call(folder, "dvc", "repro")
    commit(folder, "reproduced")
    return folder


def copy_of_run(run: Path, target: Path) -> Path:
    """A run with all it made; the copy is no clone."""
    return shutil.copytree(run, target, symlinks=True, ignore=shutil.ignore_patterns(".git", ".dvc"))


@pytest.fixture
def made(smoke_run, tmp_path) -> Path:
    """A copy of the smoke run that a test may change."""
    return copy_of_run(smoke_run, tmp_path / "made")
