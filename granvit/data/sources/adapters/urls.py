"""A list of URLs, downloaded into tars (granvit.data.sources.downloads) before they are read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from granvit.data.sources.adapters.tars import read_tars
from granvit.data.sources.items import RawItem

OPTIONS = {
    "list": "the URLs: a txt, csv, tsv, json, jsonl or parquet file, or a folder of one kind; needed",
    "url": "its column of URLs (url)",
    "caption": "its column of captions (none)",
}
REQUIRED = ("list",)


def read_urls(root: Path, settings: dict[str, str]) -> Iterator[RawItem]:
    """The tars that the download left, in img2dataset's own names: ``tars/00000/000000012``."""
    del settings  # they are the download's
    return read_tars(root, {"files": "tars/*.tar"})
