"""Contamination: benchmark images among the training images are found, counted and, if wanted, left out."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_worlds import REAL, blocks_picture, encode, prepare, read_csv, spec, write_coco
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.fft import idctn

from granvit.data.mixtures.contamination import find_contamination, hash_benchmarks, near_pairs
from granvit.data.mixtures.mixture import Drawing
from granvit.data.records.images import decode_rgb
from granvit.data.records.shards import read_image_bytes
from granvit.errors import GranvitError


@pytest.fixture(scope="module")
def indexes(tmp_path_factory):
    """Source World: 12 pictures in two shards, 10 and 11 of them flat; source Other: 4 other pictures."""
    folder = tmp_path_factory.mktemp("world")
    made = []
    for name, images, first in (("World", 12, 0), ("Other", 4, 50)):
        root = write_coco(folder / name, images=images, tag=name)
        for i in range(min(images, 10)):
            picture = blocks_picture(first + i, (600, 500))
            (root / f"images/{i}.jpg").write_bytes(encode(picture, "JPEG", quality=95))
        made += prepare(spec(root, name=name, shards=2 if images > 4 else 1), folder)
    return made


def search(indexes, images, folder, max_distance=4):
    hash_benchmarks(images, folder / "hashes.parquet")
    find_contamination(
        indexes, folder / "hashes.parquet", folder / "m.parquet", folder / "m.csv", max_distance
    )
    matches = pq.read_table(folder / "m.parquet").to_pylist()
    report = {(row["source"], row["benchmark"]): row for row in read_csv(folder / "m.csv")}
    return matches, report


def benchmark_images():
    """Two copies (small, recompressed) and one stranger in A; a third copy, and it once more, in B."""
    small = blocks_picture(0, (600, 500)).resize((300, 250))
    yield "A", "q0", encode(small, "JPEG", quality=60)
    yield "A", "q1", encode(blocks_picture(1, (600, 500)), "PNG")
    yield "A", "q2", encode(blocks_picture(999), "JPEG", quality=90)
    yield "B", "q0", encode(blocks_picture(2, (600, 500)), "JPEG", quality=70)
    yield "B", "q1", encode(blocks_picture(2, (600, 500)), "JPEG", quality=70)


def test_resized_and_recompressed_copies_are_found_and_strangers_are_not(indexes, tmp_path):
    matches, _ = search(indexes, benchmark_images(), tmp_path)
    found = {(match["key"], match["source"], match["benchmark"], match["index"]) for match in matches}
    assert found == {
        ("World__0", "World", "A", "q0"),
        ("World__1", "World", "A", "q1"),
        ("World__2", "World", "B", "q0"),
    }
    assert all(match["distance"] <= 4 for match in matches)


def test_report_has_every_pair_of_source_and_benchmark_also_those_without_a_match(indexes, tmp_path):
    _, report = search(indexes, benchmark_images(), tmp_path)
    assert set(report) == {(s, b) for s in ("World", "Other", "all") for b in ("A", "B", "all")}
    counts = {
        pair: (int(row["images"]), int(row["benchmark_images"]), float(row["share"]))
        for pair, row in report.items()
    }
    assert counts["World", "A"] == counts["all", "A"] == (2, 2, 0.6667)
    assert counts["World", "B"] == (1, 1, 1.0)
    assert counts["World", "all"] == (3, 3, 0.75)
    assert counts["Other", "A"] == counts["Other", "all"] == (0, 0, 0.0)


def test_flat_images_match_by_equal_bytes_only(indexes, tmp_path):
    rows = [row | {"tar": i.with_suffix(".tar")} for i in indexes for row in pq.read_table(i).to_pylist()]
    row = next(row for row in rows if row["key"] == "World__10")
    same = read_image_bytes(row["tar"], row["offset"], row["size"])
    images = [("A", "same", same), ("A", "white", encode(Image.new("RGB", (600, 500), "white"), "JPEG"))]
    matches, _ = search(indexes, images, tmp_path, max_distance=10)
    assert [(match["key"], match["index"], match["distance"]) for match in matches] == [
        ("World__10", "same", 0)
    ]


def test_template_filled_in_differently_is_no_duplicate(tmp_path):
    """Two pages that share their coarse layout, as receipts of one shop do, and differ in every line."""
    layout = np.random.default_rng(7).normal(0, 800, (8, 8))
    pages = []
    for seed in (1, 2):
        frequencies = np.zeros((512, 512))
        frequencies[:16, :16] = np.random.default_rng(seed).normal(0, 600, (16, 16))
        frequencies[:8, :8] = layout
        pixels = np.clip(idctn(frequencies, norm="ortho") + 128, 0, 255).astype(np.uint8)
        pages.append(Image.fromarray(pixels).convert("RGB"))
    root = write_coco(tmp_path / "raw", images=1)
    (root / "images/0.jpg").write_bytes(encode(pages[0], "JPEG", quality=95))
    content = json.loads((root / "instances.json").read_text())
    content["images"][0] |= {"width": 512, "height": 512}
    (root / "instances.json").write_text(json.dumps(content))
    indexes = prepare(spec(root), tmp_path)
    (phash,) = pq.read_table(indexes[0])["phash"].to_pylist()
    images = [("A", "other", encode(pages[1], "JPEG")), ("A", "copy", encode(pages[0], "JPEG", quality=70))]
    matches, _ = search(indexes, images, tmp_path, max_distance=8)
    hashes = pq.read_table(tmp_path / "hashes.parquet")["phash"].to_pylist()
    assert (int(hashes[0], 16) ^ int(phash, 16)).bit_count() <= 8, "the coarse hash alone would take it"
    assert [match["index"] for match in matches] == ["copy"]


def test_matching_images_are_left_out_of_every_mixture_and_counted(indexes, tmp_path):
    search(indexes, benchmark_images(), tmp_path)
    dropped = {"World__0", "World__1", "World__2"}
    files = (tmp_path / "x.parquet", tmp_path / "x.json")
    for by in ("image", "region"):
        drawing = Drawing(indexes, *files, 0.0, contamination=tmp_path / "m.parquet")
        drawing.regions(["bbox2caption"], None, 1.0, sample_by=by)
        assert not dropped & set(pq.read_table(files[0])["key"].to_pylist())
        summary = json.loads(files[1].read_text())
        assert summary["left_out"] == {"contaminated": 3}
        assert summary["images"] == 13
    Drawing(indexes, *files, 1.0, contamination=tmp_path / "m.parquet").held_out()
    assert not dropped & set(pq.read_table(files[0])["key"].to_pylist())


def test_shard_without_hashes_and_broken_benchmark_image_are_told(indexes, tmp_path):
    with pytest.raises(GranvitError, match="A, question q9: its image"):
        hash_benchmarks([("A", "q9", b"no image")], tmp_path / "h.parquet")
    assert not list(tmp_path.iterdir())
    old = tmp_path / "old.parquet"
    table = pq.read_table(indexes[0])
    rows = [row | {"phash": None} for row in table.to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows, table.schema), old)
    with pytest.raises(GranvitError, match=r"old\.parquet: images without"):
        search([old], benchmark_images(), tmp_path)


@settings(derandomize=True, deadline=None, database=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 12))
def test_near_pairs_are_those_of_comparing_all_with_all(seed, max_distance):
    random = np.random.default_rng(seed)
    a, b = (random.integers(0, 2**64, size, dtype=np.uint64) for size in (60, 40))
    for k in range(30):  # copies with 0-14 bits turned over, in either direction of the limit
        flips = random.choice(64, k % 15, replace=False).astype(np.uint64)
        b[k] = a[k] ^ np.bitwise_or.reduce(np.uint64(1) << flips, initial=np.uint64(0))
    distances = np.bitwise_count(a[:, None] ^ b[None])
    i, j = np.nonzero(distances <= max_distance)
    found = near_pairs(a, b, max_distance)
    assert [values.tolist() for values in found] == [i.tolist(), j.tolist(), distances[i, j].tolist()]


@pytest.mark.skipif(not (REAL / "coco128").is_dir(), reason="needs shared/real")
def test_resized_copies_of_real_photographs_are_all_found_and_no_two_photographs_match(tmp_path):
    from granvit.config.data import FilterRules

    rules = FilterRules(min_image_side=None, image_aspect=None, box_aspect=None, min_box_area=None)
    indexes = prepare(spec(REAL / "coco128", name="coco128", captions="none"), tmp_path, rules)
    files = sorted((REAL / "coco128/images").iterdir())
    copies = {file.stem: decode_rgb(file.read_bytes()).resize((224, 224)) for file in files}
    images = [("A", name, encode(copy, "JPEG", quality=50)) for name, copy in copies.items()]
    matches, report = search(indexes, images, tmp_path)
    kept = {row["key"] for row in pq.read_table(indexes[0]).to_pylist()}
    assert len(kept) > 120
    assert len(matches) == len(kept) == int(report["coco128", "A"]["benchmark_images"])
    assert {match["key"] for match in matches} == kept
