"""URL lists: the real img2dataset against a real server, resumed after a kill, done once."""

from __future__ import annotations

import csv
import http.server
import json
import os
import shutil
import threading
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_worlds import image_bytes, spec

from granvit.data.sources import downloads
from granvit.data.sources.catalogue import catalogue_source, read_catalogue
from granvit.data.sources.places import ImagePlaces
from granvit.errors import GranvitError

COMMAND = os.environ.get("IMG2DATASET", "img2dataset")
needs_img2dataset = pytest.mark.skipif(
    shutil.which(COMMAND) is None, reason="img2dataset is not here; IMG2DATASET names the command"
)


class _Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        super().do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    """A web server of six images; what it was asked for is in ``asked``."""
    (tmp_path / "web").mkdir()
    for i in range(6):
        (tmp_path / f"web/{i}.jpg").write_bytes(image_bytes(f"web{i}", size=(64, 48)))
    handler = partial(_Handler, directory=str(tmp_path / "web"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.asked = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def _list(root, server, names):
    root.mkdir(exist_ok=True)
    with open(root / "urls.tsv", "w", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerow(["link", "words"])
        for name in names:
            writer.writerow([f"http://127.0.0.1:{server.server_port}/{name}.jpg", f"caption {name}"])


def _source(root):
    return spec(root, adapter="urls", options="list=urls.tsv;url=link;caption=words")


def _rows(source, out):
    catalogue_source(source, out / "c.sqlite", out / "log")
    return [row for shard in range(source.shards) for row in read_catalogue(out / "c.sqlite", shard)]


@needs_img2dataset
def test_a_url_list_becomes_images_whose_bytes_are_untouched(tmp_path, server):
    _list(tmp_path / "raw", server, [*range(6), "gone"])
    rows = _rows(_source(tmp_path / "raw"), tmp_path)
    captions = [item.caption for _, item, _ in rows]
    assert sorted(captions) == [f"caption {i}" for i in range(6)]
    with ImagePlaces(tmp_path / "raw") as places:
        for caption, (_, item, _) in zip(captions, rows, strict=True):
            assert places.read(item.place) == image_bytes(f"web{caption[-1]}", size=(64, 48))
    assert "urls 7, downloaded 6, failed_to_download 1, failed_to_resize 0" in (tmp_path / "log").read_text()


@needs_img2dataset
def test_what_was_downloaded_is_not_asked_for_again(tmp_path, server, monkeypatch):
    _list(tmp_path / "raw", server, range(6))
    first = _rows(_source(tmp_path / "raw"), tmp_path)
    server.asked.clear()
    monkeypatch.setenv("IMG2DATASET", "no such command")
    assert _rows(_source(tmp_path / "raw"), tmp_path) == first
    assert server.asked == []


@needs_img2dataset
def test_a_url_list_may_be_a_folder_of_parquet_files(tmp_path, server):
    for part in range(2):
        path = tmp_path / f"raw/urls/part-{part}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        links = [f"http://127.0.0.1:{server.server_port}/{3 * part + i}.jpg" for i in range(3)]
        pq.write_table(pa.table({"url": links}), path)
    rows = _rows(spec(tmp_path / "raw", adapter="urls", options="list=urls"), tmp_path)
    with ImagePlaces(tmp_path / "raw") as places:
        found = sorted(places.read(item.place) for _, item, _ in rows)
    assert found == sorted(image_bytes(f"web{i}", size=(64, 48)) for i in range(6))


@needs_img2dataset
def test_a_killed_download_goes_on_with_the_missing_shards(tmp_path, server, monkeypatch):
    _list(tmp_path / "raw", server, range(6))
    plain = downloads._command
    monkeypatch.setattr(downloads, "_command", lambda *a: [*plain(*a), "--number_sample_per_shard=2"])
    whole = _rows(_source(tmp_path / "raw"), tmp_path)
    tars = tmp_path / "raw/tars"
    note = tmp_path / "raw" / downloads.NOTE
    note.write_text(json.dumps(json.loads(note.read_text()) | {"done": False}))
    (tars / "00001_stats.json").unlink()  # as a kill leaves it: a tar without its report
    (tars / "00001.tar").write_bytes((tars / "00001.tar").read_bytes()[:700])
    server.asked.clear()
    again = _rows(_source(tmp_path / "raw"), tmp_path)
    assert sorted(server.asked) == ["/2.jpg", "/3.jpg"]
    # img2dataset's threads decide the order inside a tar.
    rows = [sorted((key, item.caption) for key, item, _ in found) for found in (again, whole)]
    assert rows[0] == rows[1]


def test_an_absent_command_list_or_ending_says_what_to_do(tmp_path, monkeypatch):
    (tmp_path / "raw").mkdir()
    source = _source(tmp_path / "raw")
    with pytest.raises(GranvitError, match=r"urls\.tsv: no such URL list.*`list`"):
        _rows(source, tmp_path)
    (tmp_path / "raw/urls.tsv").write_text("link\nx\n")
    monkeypatch.setenv("IMG2DATASET", "no-such-command")
    with pytest.raises(
        GranvitError, match="no-such-command is not here.*pip install img2dataset.*IMG2DATASET="
    ):
        _rows(source, tmp_path)
    monkeypatch.setenv("IMG2DATASET", "true")
    with pytest.raises(GranvitError, match=r"wrote no shard.*log"):
        _rows(source, tmp_path)
    (tmp_path / "raw/urls.xls").write_text("x")
    with pytest.raises(
        GranvitError, match=r"urls\.xls: expected files whose names end in one of txt, csv.*found xls"
    ):
        _rows(spec(tmp_path / "raw", adapter="urls", options="list=urls.xls"), tmp_path)


def test_a_failing_command_is_shown_with_its_last_words(tmp_path, monkeypatch):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/urls.tsv").write_text("link\nx\n")
    (tmp_path / "fail").write_text("#!/bin/sh\necho the disk is full\nexit 3\n")
    (tmp_path / "fail").chmod(0o755)
    monkeypatch.setenv("IMG2DATASET", str(tmp_path / "fail"))
    with pytest.raises(
        GranvitError, match=r"(?s)ended with 3; run the same again to go on.*the disk is full"
    ):
        _rows(_source(tmp_path / "raw"), tmp_path)
