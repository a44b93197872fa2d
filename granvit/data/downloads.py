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
import subprocess
from pathlib import Path

from granvit.data.files import write_json
from granvit.errors import GranvitError
from granvit.progress import Progress, write_log

TARS = "tars"
_DONE = "downloaded.json"
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

    Raises GranvitError where the list, the command or a shard is missing.
    """
    root = Path(root)
    urls, tars = root / settings["list"], root / TARS
    if not urls.exists():
        raise GranvitError(f"{urls}: no such URL list; put it there or name it in the row's option `list`")
    wanted = _wanted(urls, settings)
    if _read_json(tars / _DONE) == wanted:
        return
    progress = Progress(0, f"download {urls.name}", log=log)
    progress.say(f"{progress.label} | into {tars}; what is there already is kept")
    _run(_command(urls, tars, settings), log)
    counts = _counts(tars)
    progress.say(f"{progress.label} | " + ", ".join(f"{name} {count:,}" for name, count in counts.items()))
    write_json(tars / _DONE, wanted)


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
    """The files of a URL list: itself, or those in the folder (but not the hub client's own notes)."""
    if urls.is_file():
        return [urls]
    inside = sorted(path for path in urls.rglob("*") if path.is_file())
    return [path for path in inside if not any(part[0] == "." for part in path.relative_to(urls).parts)]


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
    environment = os.environ | {"NO_ALBUMENTATIONS_UPDATE": "1"}
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
    ) as process:
        tail = []
        for line in process.stdout:
            write_log(log, line.rstrip())
            tail = [*tail[-9:], line]
    if process.returncode:
        raise GranvitError(
            f"{shlex.join(command)}: ended with {process.returncode}; run the same again to go on. "
            f"It said last:\n{''.join(tail)}"
        )


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
