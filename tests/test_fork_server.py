"""A script that a fork of the server runs ends as it would by itself, and never outlives who waits for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from granvit import fork_server

ROOT = Path(__file__).resolve().parent.parent
SERVER = "from granvit import fork_server as server; server.LIBRARIES = ('wave',); server.main()"
CLIENT = """
import sys
from granvit.fork_server import run_in_fork
sys.exit(run_in_fork(sys.argv[1]))
"""


def eventually(condition, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server that has one small library; its own process."""
    (tmp_path / "s").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(fork_server.ADDRESS, "s/socket")  # short: the kernel takes 107 characters
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    process = subprocess.Popen([sys.executable, "-c", SERVER], stdin=subprocess.PIPE)
    assert eventually(Path("s/socket").exists)
    yield process
    process.stdin.close()
    process.wait(20)


def client(script: str, **options) -> subprocess.Popen:
    Path("script.py").write_text(script)
    command = [sys.executable, "-c", CLIENT, "script.py"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


WHERE = """
import os, sys
from pathlib import Path
print("main", __name__, sys.argv, os.getcwd(), os.environ["GIVEN"], "wave" in sys.modules)
import helper
print(helper.__file__, file=sys.stderr)
print(Path(f"/proc/{os.getppid()}/cmdline").read_text().split("\\0")[2][:4])
"""


def test_a_script_has_its_own_folder_environment_arguments_and_streams(server, tmp_path):
    Path("helper.py").touch()
    out, errors = client(WHERE, env={**os.environ, "GIVEN": "word"}).communicate(timeout=30)
    assert out.splitlines() == [f"main __main__ ['script.py'] {tmp_path} word True", "from"]
    assert Path(errors.strip()).name == "helper.py"


@pytest.mark.parametrize(
    "script, status",
    [("", 0), ("raise SystemExit(3)", 3), ("raise SystemExit('no such file')", 1), ("1 / 0", 1)],
)
def test_the_status_is_the_scripts(server, script, status):
    process = client(script)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == status
    assert ("ZeroDivisionError" in errors) == ("/" in script) and ("no such file" in errors) == (
        "file" in script
    )


def test_what_a_script_does_as_it_ends_is_done_when_its_status_is_there(server):
    slow = (
        "import atexit, time, pathlib\natexit.register(lambda: (time.sleep(1), pathlib.Path('end').touch()))"
    )
    process = client(slow)
    process.communicate(timeout=30)
    assert process.returncode == 0 and Path("end").exists()


SAVES = """
import os, signal, sys, time, pathlib
def save(*_):
    pathlib.Path("saved").touch()
    sys.exit(7)
signal.signal(signal.SIGTERM, save)
pathlib.Path("process.part").write_text(str(os.getpid()))
os.rename("process.part", "process")
while True:
    time.sleep(0.1)
"""


def test_sigterm_is_passed_on_and_waited_for(server):
    process = client(SAVES)
    assert eventually(Path("process").exists)
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 7 and Path("saved").exists()


def test_a_script_whose_waiter_was_killed_is_told_to_end(server):
    process = client(SAVES)
    assert eventually(Path("process").exists)
    process.kill()
    assert eventually(Path("saved").exists)
    fork = int(Path("process").read_text())
    assert eventually(lambda: not alive(fork))


def test_a_script_that_was_killed_has_failed(server):
    process = client(SAVES)
    assert eventually(Path("process").exists)
    os.kill(int(Path("process").read_text()), signal.SIGKILL)
    process.communicate(timeout=30)
    assert process.returncode == fork_server.KILLED == 137


KILLED_JOB = """
import os, signal, sys
from types import SimpleNamespace
sys.path.insert(0, {scripts!r})
from _script import run
def main(job, log):
    os.kill(os.getpid(), signal.SIGKILL)
run(SimpleNamespace(threads=1, log=["job.log"], resources={{}}), main)
"""


def test_a_job_that_was_killed_says_so_on_the_screen_and_in_its_log(server):
    Path("script.py").write_text(KILLED_JOB.format(scripts=str(ROOT / "workflow_scripts")))
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 137 and "Traceback" not in done.stderr
    assert "error: this job's process was killed" in Path("job.log").read_text()
    assert Path("job.log").read_text() in done.stderr


def test_scripts_run_at_the_same_time(server):
    meet = """
import pathlib, sys, time
own, other = {}
pathlib.Path(own).touch()
for _ in range(200):
    if pathlib.Path(other).exists():
        sys.exit(0)
    time.sleep(0.05)
sys.exit(1)
"""
    first = client(meet.format("'a', 'b'"))
    assert eventually(Path("a").exists)
    second = client(meet.format("'b', 'a'"))
    for process in (first, second):
        process.communicate(timeout=30)
    assert [first.returncode, second.returncode] == [0, 0]


def test_the_server_ends_with_who_started_it_and_leaves_no_folder(server):
    server.stdin.close()
    server.wait(20)
    assert not Path("s").exists()


def test_without_a_server_a_script_runs_by_itself(monkeypatch, tmp_path):
    monkeypatch.delenv(fork_server.ADDRESS, raising=False)
    assert fork_server.run_in_fork("script.py") is None
    monkeypatch.setenv(fork_server.ADDRESS, str(tmp_path / "gone"))
    assert fork_server.run_in_fork("script.py") is None


def test_nobody_else_can_ask_for_a_script(monkeypatch, tmp_path):
    started = []
    monkeypatch.setattr(
        fork_server.subprocess, "Popen", lambda command, **given: started.append(given["env"])
    )
    monkeypatch.setenv(fork_server.ADDRESS, "")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    fork_server.start()
    folder = Path(os.environ[fork_server.ADDRESS]).parent
    assert folder.stat().st_mode & 0o777 == 0o700
    assert started[0]["OMP_NUM_THREADS"] == "1"


def test_the_libraries_are_there():
    """A name that is no more would be passed over in silence, and every job would be slow again."""
    code = (
        "import importlib; from granvit.fork_server import LIBRARIES\n"
        "for name in LIBRARIES: importlib.import_module(name)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
