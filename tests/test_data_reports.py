"""The reports on what was left out: sums over shards, rules in their order, nothing lost on the way."""

from __future__ import annotations

import pytest
from data_worlds import read_csv

from granvit.data.records.records import COUNT_COLUMNS, REJECT_COLUMNS
from granvit.data.records.reports import filter_report, reject_report
from granvit.errors import GranvitError
from granvit.files import write_csv


def counts(root, step, source, shard, *rules):
    """A shard's counts file; ``rules``: (mode, rule, images in, images out, regions in, regions out)."""
    path = root / step / source / f"{shard:05d}.counts.csv"
    write_csv(path, COUNT_COLUMNS, [[source, *rule] for rule in rules])
    return path


def rejects(root, step, source, shard, *rows):
    path = root / step / source / f"{shard:05d}.rejects.csv"
    write_csv(path, REJECT_COLUMNS, ([*row, f"images/{row[0]}"] for row in rows))
    return path


@pytest.fixture
def two_sources(tmp_path):
    """Counts of a source of pages that OCR reads, and of a natural one in two shards; the natural one has
    more rules.
    """
    pages = [
        counts(tmp_path, "ingested", "Pages", 0, ("sequence", "ingest", 10, 9, 0, 0)),
        counts(tmp_path, "annotated", "Pages", 0, ("sequence", "ocr_score", 9, 9, 50, 40)),
        counts(tmp_path, "filtered", "Pages", 0, ("alone", "image_side", 9, 8, 40, 36),
               ("alone", "regions", 9, 9, 40, 40), ("off", "box_area", 9, 9, 40, 2),
               ("sequence", "image_side", 9, 8, 40, 36),
               ("sequence", "regions", 8, 8, 36, 36), ("sequence", "all", 9, 8, 40, 36)),
    ]  # fmt: skip
    photos = [[], [], []]
    for shard in (0, 1):
        photos[0].append(counts(tmp_path, "ingested", "Photos", shard, ("sequence", "ingest", 5, 5, 20, 18)))
        photos[1].append(
            counts(tmp_path, "annotated", "Photos", shard, ("sequence", "no_region_text", 5, 5, 18, 17))
        )
        photos[2].append(
            counts(tmp_path, "filtered", "Photos", shard, ("sequence", "image_side", 5, 4, 17, 14),
                   ("sequence", "box_area", 4, 4, 14, 9), ("sequence", "regions", 4, 3, 9, 9),
                   ("sequence", "all", 5, 3, 17, 9))
        )  # fmt: skip
    files = [file for step in range(3) for file in [pages[step], *photos[step]]]
    filter_report(files, tmp_path / "filter_report.csv")
    return read_csv(tmp_path / "filter_report.csv")


def test_rules_stand_in_the_order_in_which_they_apply_also_where_sources_differ(two_sources):
    def order(source, mode):
        return [row["rule"] for row in two_sources if (row["source"], row["mode"]) == (source, mode)]

    assert order("Pages", "sequence") == ["ingest", "ocr_score", "image_side", "regions", "all"]
    assert order("Photos", "sequence") == [
        "ingest", "no_region_text", "image_side", "box_area", "regions", "all",
    ]  # fmt: skip
    assert order("TOTAL", "sequence") == [
        "ingest", "ocr_score", "no_region_text", "image_side", "box_area", "regions", "all",
    ]  # fmt: skip
    assert [row["source"] for row in two_sources][-1] == "TOTAL"


def test_shards_are_summed_and_each_rule_takes_in_what_the_rule_before_it_left(two_sources):
    rows = [row for row in two_sources if (row["source"], row["mode"]) == ("Photos", "sequence")]
    assert [row["images_in"] for row in rows] == ["10", "10", "10", "8", "8", "10"]
    steps = rows[:-1]  # the last is the outcome of the filters together
    for before, after in zip(steps, steps[1:], strict=False):
        assert (before["images_out"], before["regions_out"]) == (after["images_in"], after["regions_in"])
    assert (steps[-1]["images_out"], steps[-1]["regions_out"]) == ("6", "18")


def test_totals_are_the_sums_of_the_sources(two_sources):
    totals = {(row["mode"], row["rule"]): row for row in two_sources if row["source"] == "TOTAL"}
    assert totals
    for (mode, rule), total in totals.items():
        parts = [row for row in two_sources if row["source"] != "TOTAL"]
        parts = [row for row in parts if (row["mode"], row["rule"]) == (mode, rule)]
        for column in COUNT_COLUMNS[3:]:
            assert int(total[column]) == sum(int(row[column]) for row in parts)


def test_rejects_are_counted_by_cause_with_the_boxes_they_took_along(tmp_path):
    files = [
        rejects(tmp_path, "ingested", "A", 0, ("k1", "image", "corrupt_image", 4),
                ("k2", "region", "empty_box", 1), ("k3", "region", "empty_box", 1)),
        rejects(tmp_path, "ingested", "A", 1, ("k4", "image", "corrupt_image", 3)),
        rejects(tmp_path, "annotated", "A", 0, ("k5", "caption", "refusal", 0)),
        rejects(tmp_path, "ingested", "Clean", 0),
    ]  # fmt: skip
    reject_report(files, tmp_path / "rejects.csv")
    assert (tmp_path / "rejects.csv").read_text().splitlines() == [
        "source,step,what,cause,count,regions,example",
        "A,ingest,image,corrupt_image,2,7,images/k1",
        "A,ingest,region,empty_box,2,2,images/k2",
        "A,annotate,caption,refusal,1,0,images/k5",
    ]


def test_lists_of_shards_that_were_ingested_before_paths_were_listed_are_still_summed(tmp_path):
    path = tmp_path / "ingested" / "A" / "00000.rejects.csv"
    write_csv(path, REJECT_COLUMNS[:-1], [("k", "region", "empty_box", 1)])
    reject_report([path], tmp_path / "rejects.csv")
    assert (tmp_path / "rejects.csv").read_text().splitlines()[1] == "A,ingest,region,empty_box,1,1,"


def test_the_order_of_the_shards_changes_no_byte(tmp_path):
    files = [
        rejects(tmp_path, "ingested", name, 0, ("k", "image", cause, 1))
        for name, cause in (("B", "too_large"), ("A", "no_image"))
    ]
    reject_report(files, tmp_path / "a.csv")
    reject_report(reversed(files), tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_a_file_of_another_version_is_named_with_the_command_that_makes_it_again(tmp_path):
    path = tmp_path / "ingested" / "A" / "00000.rejects.csv"
    write_csv(path, ["key", "cause"], [("k", "empty_box")])
    with pytest.raises(GranvitError, match=r"00000\.rejects\.csv: columns are key, cause; .*snakemake"):
        reject_report([path], tmp_path / "rejects.csv")
    assert not (tmp_path / "rejects.csv").exists()


def test_a_count_that_is_no_number_is_named(tmp_path):
    path = counts(tmp_path, "filtered", "A", 0, ("sequence", "all", "x", 1, 1, 1))
    with pytest.raises(GranvitError, match=r"00000\.counts\.csv: images_in is 'x'"):
        filter_report([path], tmp_path / "out.csv")


def test_rejects_outside_a_steps_folder_are_refused(tmp_path):
    path = rejects(tmp_path, "elsewhere", "A", 0)
    with pytest.raises(GranvitError, match="expected ingested or annotated"):
        reject_report([path], tmp_path / "rejects.csv")


def _ending_with_nothing(tmp_path):
    return [
        counts(tmp_path, "ingested", "Mine", 0, ("sequence", "ingest", 128, 127, 929, 920)),
        counts(tmp_path, "filtered", "Mine", 0, ("alone", "box_area", 127, 127, 920, 0),
               ("sequence", "image_side", 127, 126, 920, 900), ("sequence", "box_area", 126, 126, 900, 0),
               ("sequence", "regions", 126, 0, 0, 0), ("sequence", "all", 127, 0, 920, 0)),
    ]  # fmt: skip


def test_a_source_that_ends_with_nothing_is_an_error_that_says_which_rule_took_how_many(tmp_path):
    told = (
        r"source 'Mine': nothing is left of 128 images and 929 regions; taken by "
        r"ingest \(1 images, 9 regions\), image_side \(1 images, 20 regions\), "
        r"box_area \(0 images, 900 regions\), regions \(126 images"
    )
    with pytest.raises(GranvitError, match=told):
        filter_report(_ending_with_nothing(tmp_path), tmp_path / "report.csv")


def test_three_lines_a_source_say_what_came_what_is_left_and_what_took_most(tmp_path, capsys):
    with pytest.raises(GranvitError):
        filter_report(_ending_with_nothing(tmp_path), tmp_path / "report.csv", tmp_path / "job.log")
    assert (tmp_path / "job.log").read_text().splitlines() == [
        "Mine | in: 128 images, 929 regions",
        "Mine | out: 0 images, 0 regions",
        "Mine | most taken by: regions (126 images, 0 regions), box_area (0 images, 900 regions)",
    ]
    assert "Mine | out" in capsys.readouterr().err


def test_regions_that_an_annotator_found_came_in(two_sources, tmp_path, capsys):
    assert two_sources
    steps = ("ingested", "annotated", "filtered")
    files = [tmp_path / step / "Pages" / "00000.counts.csv" for step in steps]
    filter_report(files, tmp_path / "again.csv")
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["Pages | in: 10 images, 50 regions", "Pages | out: 8 images, 36 regions"]
