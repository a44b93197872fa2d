"""URL lists that change, and downloads whose job is ended: no mixed tars, no process left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from data_worlds import write_file

from granvit.data.sources.downloads import NOTE, download_urls
from granvit.errors import GranvitError

# Stands for img2dataset: it writes a shard as that does, and what it was asked for.
WRITES = """#!/bin/sh
for option; do case $option in --output_folder=*) folder=${option#*=};; esac; done
mkdir -p $folder; echo asked >> $folder/../asked; cat $folder/../.tars.note > $folder/../note_meanwhile
[ -e $folder/../fail ] && { touch $folder/00000.tar; exit 3; }
echo x > $folder/00000.tar; echo '{"count": 1, "successes": 1}' > $folder/00000_stats.json
"""
# A launcher whose workers are no children of the job, as img2dataset's; one does not hear SIGTERM.
LAUNCHES = """#!/bin/sh
sleep 300 & echo $! >> {pids}
{deaf}
echo $$ >> {pids}; echo started; wait
"""
DEAF = "sh -c 'trap \"\" TERM; sleep 300 & echo $! >> {pids}; echo $$ >> {pids}; while :; do sleep 1; done' &"
JOB = """
import signal, sys
from granvit.data.sources.downloads import _run
from granvit.data.sources import downloads
downloads._PATIENCE = 0.5
# A shell that starts the tests in the background has them ignore it, and what they start too.
signal.signal(signal.SIGINT, signal.default_int_handler)
_run([sys.argv[1]], sys.argv[2])
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    write_file(tmp_path / "stand-in", WRITES).chmod(0o755)
    monkeypatch.setenv("IMG2DATASET", str(tmp_path / "stand-in"))
    write_file(tmp_path / "raw/urls.txt", "http://a/1.jpg\n")
    return tmp_path / "raw"


def _asked(root):
    return (root / "asked").read_text().count("asked")


def test_the_note_lies_beside_the_tars_and_tells_done_from_begun(stand_in):
    download_urls(stand_in, {"list": "urls.txt"})
    assert json.loads((stand_in / "note_meanwhile").read_text())["done"] is False
    assert json.loads((stand_in / NOTE).read_text())["done"] is True
    assert sorted(path.name for path in (stand_in / "tars").glob("*.json")) == ["00000_stats.json"]
    download_urls(stand_in, {"list": "urls.txt"})
    assert _asked(stand_in) == 1


def test_a_download_that_failed_goes_on_with_the_same_list(stand_in):
    (stand_in / "fail").touch()
    with pytest.raises(GranvitError, match="ended with 3"):
        download_urls(stand_in, {"list": "urls.txt"})
    (stand_in / "fail").unlink()
    download_urls(stand_in, {"list": "urls.txt"})
    assert _asked(stand_in) == 2


@pytest.mark.parametrize("how", ["whole", "failed", "another column", "without a note"])
def test_tars_of_another_list_are_never_taken_for_those_of_this_one(stand_in, how):
    if how == "failed":
        (stand_in / "fail").touch()
        with pytest.raises(GranvitError, match="ended with 3"):
            download_urls(stand_in, {"list": "urls.txt"})
        (stand_in / "fail").unlink()
    else:
        download_urls(stand_in, {"list": "urls.txt"})
    settings = {"list": "urls.txt"}
    if how == "another column":
        settings["url"] = "link"
    elif how == "without a note":
        (stand_in / NOTE).unlink()
    else:
        write_file(stand_in / "urls.txt", "http://a/2.jpg\n")
    asked = _asked(stand_in)
    with pytest.raises(GranvitError, match=r"raw/tars: made from another list.*remove .*raw/tars"):
        download_urls(stand_in, settings)
    assert _asked(stand_in) == asked
    for path in (stand_in / "tars").iterdir():
        path.unlink()
    download_urls(stand_in, settings)
    assert _asked(stand_in) == asked + 1


def _running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _wait(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's word to orphans is Linux's own")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_of_a_download_outlives_its_job(tmp_path, how):
    pids = tmp_path / "pids"
    deaf = DEAF if how == signal.SIGINT else ""  # where the job itself sees its end, it waits, then kills
    content = LAUNCHES.replace("{deaf}", deaf).replace("{pids}", str(pids))
    write_file(tmp_path / "launcher", content).chmod(0o755)
    arguments = [str(tmp_path / "launcher"), str(tmp_path / "log")]
    job = subprocess.Popen([sys.executable, "-c", JOB, *arguments], stderr=subprocess.DEVNULL)
    try:
        _wait(lambda: pids.exists() and len(pids.read_text().split()) == (4 if deaf else 2))
        os.kill(job.pid, how)
        assert job.wait(30) == -how
        _wait(lambda: not any(_running(pid) for pid in pids.read_text().split()))
    finally:
        job.kill()
        for pid in filter(_running, pids.read_text().split() if pids.exists() else ()):
            os.kill(int(pid), signal.SIGKILL)


def test_what_cannot_be_logged_ends_the_download(tmp_path):
    write_file(tmp_path / "launcher", f"#!/bin/sh\necho $$ > {tmp_path}/pid\necho a line\nsleep 300\n").chmod(
        0o755
    )
    (tmp_path / "log").mkdir()
    ran = subprocess.run(
        [sys.executable, "-c", JOB, str(tmp_path / "launcher"), str(tmp_path / "log")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "IsADirectoryError" in ran.stderr
    _wait(lambda: not _running((tmp_path / "pid").read_text().strip()))
