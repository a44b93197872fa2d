"""Downloading images by their URLs, with img2dataset, into tars.

img2dataset is a command and no import: its pinned dependencies (an old webdataset among them) are not this
project's, so it lives in an environment of its own. The variable ``IMG2DATASET`` says where.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from granvit.errors import GranvitError
from granvit.files import write_json
from granvit.processes import end_with_parent
from granvit.progress import Progress, write_log

TARS = "tars"
# What the tars are made from. Beside them: img2dataset takes each *.json among its tars for a shard's report.
NOTE = f".{TARS}.note"
# A shell in front of the command ends the whole group when the job is killed: the kernel tells the job's own
# child alone, and img2dataset's workers would go on without it.
_GUARD = ["sh", "-c", 'trap "trap - TERM; kill 0" TERM; "$@" & wait $!', "sh"]
_PATIENCE = 10.0  # seconds between asking a download to end and making it
_FORMATS = ("txt", "csv", "tsv", "json", "jsonl", "parquet")
_COUNTS = {
    "urls": "count",
    "downloaded": "successes",
    "failed_to_download": "failed_to_download",
    "failed_to_resize": "failed_to_resize",
}


def download_urls(root: str | Path, settings: dict[str, str], log: str | Path | None = None) -> None:
    """Download the URLs of ``settings["list"]`` in ``root`` into ``root/tars``, where it is not done yet.

    Bytes are kept as they came: no resizing, no encoding. A killed download goes on with the shards that are
    missing. URLs that cannot be had are no rejects, as the web forgets: they are counted in the log and in
    ``tars/*_stats.json``.

    Raises GranvitError where the list, the command or a shard is missing, or where the tars that are there
    were made from another list: img2dataset goes by the shards' numbers and would keep them.
    """
    root = Path(root)
    urls, tars = root / settings["list"], root / TARS
    if not urls.exists():
        raise GranvitError(f"{urls}: no such URL list; put it there or name it in the row's option `list`")
    wanted = _wanted(urls, settings)
    note = _read_json(root / NOTE) or {}
    if note.get("wanted") != wanted and tars.is_dir() and any(tars.iterdir()):
        raise GranvitError(
            f"{tars}: made from another list, or with other options, than {urls} as it is now; remove "
            f"{tars} to download this one, or put the old list back"
        )
    if note.get("wanted") == wanted and note.get("done"):
        return
    command = _command(urls, tars, settings)
    progress = Progress(0, f"download {urls.name}", log=log)
    progress.say(f"{progress.label} | into {tars}; what is there already is kept")
    write_json(root / NOTE, {"wanted": wanted, "done": False})
    _run(command, log)
    counts = _counts(tars)
    progress.say(f"{progress.label} | " + ", ".join(f"{name} {count:,}" for name, count in counts.items()))
    write_json(root / NOTE, {"wanted": wanted, "done": True})


def _wanted(urls: Path, settings: dict[str, str]) -> dict[str, object]:
    """What decides which images there are; machines and speed do not."""
    digest = hashlib.sha256()
    for path in _files(urls):
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return {"list": digest.hexdigest(), "url": settings.get("url", "url"), "caption": settings.get("caption")}


def _command(urls: Path, tars: Path, settings: dict[str, str]) -> list[str]:
    program = shlex.split(os.environ.get("IMG2DATASET", "img2dataset"))
    if not program or shutil.which(program[0]) is None:
        raise GranvitError(
            f"{urls}: img2dataset downloads it, and {' '.join(program) or 'its command'} is not here; run "
            "`python -m venv img2dataset && img2dataset/bin/pip install img2dataset`, then "
            "`export IMG2DATASET=$PWD/img2dataset/bin/img2dataset`"
        )
    form = _form(urls)
    options = {
        "url_list": urls,
        "input_format": form,
        "output_folder": tars,
        "output_format": "webdataset",
        "resize_mode": "no",
        "skip_reencode": True,
        "incremental_mode": "incremental",
        "retries": 2,
        "processes_count": min(16, os.cpu_count() or 1),
        "thread_count": 64,
        "enable_wandb": False,
    }
    if form.removesuffix(".gz") != "txt":
        options["url_col"] = settings.get("url", "url")
        if "caption" in settings:
            options["caption_col"] = settings["caption"]
    return [*program, *(f"--{name}={value}" for name, value in options.items())]


def _files(urls: Path) -> list[Path]:
    """The files of a URL list: itself, or those in the folder, but not in folders there (as img2dataset)."""
    if urls.is_file():
        return [urls]
    return sorted(path for path in urls.iterdir() if path.is_file() and path.name[0] != ".")


def _form(urls: Path) -> str:
    """What img2dataset calls the format, which it cannot tell from the name itself."""
    forms = set()
    for path in _files(urls):
        name = path.name.removesuffix(".gz")
        forms.add(name.rpartition(".")[2] + (".gz" if path.name.endswith(".gz") else ""))
    if len(forms) != 1 or min(forms).removesuffix(".gz") not in _FORMATS:
        raise GranvitError(
            f"{urls}: expected files whose names end in one of {', '.join(_FORMATS)} (also with .gz behind), "
            f"all alike; found {', '.join(sorted(forms)) or 'none'}"
        )
    return forms.pop()


def _run(command: list[str], log: str | Path | None) -> None:
    """Run ``command`` as a group of processes of its own, of which none outlives this one."""
    with subprocess.Popen(
        [*_GUARD, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=os.environ | {"NO_ALBUMENTATIONS_UPDATE": "1"},
        start_new_session=True,
        preexec_fn=end_with_parent,
    ) as process:
        tail = []
        try:
            for line in process.stdout:
                write_log(log, line.rstrip())
                tail = [*tail[-9:], line]
        except BaseException:
            _end(process)
            raise
    if process.returncode:
        raise GranvitError(
            f"{shlex.join(command)}: ended with {process.returncode}; run the same again to go on. "
            f"It said last:\n{''.join(tail)}"
        )


def _end(process: subprocess.Popen) -> None:
    with suppress(ProcessLookupError, subprocess.TimeoutExpired):
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(_PATIENCE)
    with suppress(ProcessLookupError):  # whoever did not hear it
        os.killpg(process.pid, signal.SIGKILL)


def _counts(tars: Path) -> dict[str, int]:
    """Sums over the shards' reports, each of which img2dataset writes when its tar is whole."""
    totals = dict.fromkeys(_COUNTS, 0)
    for tar in sorted(tars.glob("*.tar")):
        stats = _read_json(tar.with_name(f"{tar.stem}_stats.json"))
        if stats is None:
            raise GranvitError(f"{tar}: not finished (no {tar.stem}_stats.json); run the same again to go on")
        for name, key in _COUNTS.items():
            totals[name] += int(stats.get(key, 0))
    if not totals["urls"]:
        raise GranvitError(f"{tars}: img2dataset wrote no shard; its own lines are in the job's log")
    return totals


def _read_json(path: Path) -> dict | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
