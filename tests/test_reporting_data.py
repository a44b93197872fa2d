"""Tables 6 and 7: own counts beside the paper's, nothing filled in."""

from __future__ import annotations

import pandas as pd
import pyarrow.parquet as pq
import pytest
from data_report_world import natural_record, pack, page_record
from data_worlds import read_csv

from granvit.errors import GranvitError
from granvit.reporting.data_tables import count_indexes, make_table6, make_table7

REPORTED = "config/reported/gran29m_sources.csv"


def frame_of(*sources):
    return pd.DataFrame(sources, columns=["source", "data_type", "group"])


def counts(**found):
    return pd.DataFrame(found.values(), index=list(found), columns=["images", "regions"])


OWN = frame_of(("Photos", "natural", "UMG-41M"), ("Pages", "ocr", "Text Images"))


def paper():
    """The paper's Table 6 by source."""
    return {row["source"]: row for row in read_csv(REPORTED)}


def assignment():
    return {row["name"]: row["group"] for row in read_csv("config/sources.tsv", delimiter="\t")}


def table6(tmp_path, sources, found, scale="mini"):
    make_table6(sources, found, scale, tmp_path / "table6.csv", tmp_path / "table6.md")
    return read_csv(tmp_path / "table6.csv"), (tmp_path / "table6.md").read_text()


def table7(tmp_path, sources, found, groups=None):
    out = (tmp_path / "table7.csv", tmp_path / "table7.md")
    make_table7(sources, found, groups or assignment(), "mini", *out)
    return read_csv(out[0]), out[1].read_text()


def test_counts_are_those_of_reading_the_indexes_whole(tmp_path):
    indexes = [
        pack(tmp_path, "Photos", [natural_record("Photos", i, boxes=i) for i in range(4)], shard=0),
        pack(tmp_path, "Photos", [natural_record("Photos", 9, boxes=2)], shard=1),
        pack(tmp_path, "Pages", [page_record("Pages", 1, lines=5)]),
        pack(tmp_path, "Empty", []),
    ]
    whole = {path: pq.read_table(path).to_pylist() for path in indexes}
    expected = {}
    for path, rows in whole.items():
        images, regions = expected.get(path.parent.name, (0, 0))
        expected[path.parent.name] = (
            images + len(rows),
            regions + sum(len(row["regions"]) for row in rows),
        )
    found = count_indexes(indexes)
    assert {name: tuple(row) for name, row in found.iterrows()} == expected
    assert tuple(found.loc["Photos"]) == (5, 8) and tuple(found.loc["Empty"]) == (0, 0)


def test_table_6_has_the_papers_38_rows_in_its_order_and_leaves_absent_sources_empty(tmp_path):
    rows, _ = table6(tmp_path, OWN, counts(Photos=(5, 8), Pages=(2, 9)))
    names = [row["source"] for row in rows if row["source"] in paper()]
    assert names == list(paper()) and len(names) == 38
    for row in rows:
        if row["source"] in paper():
            assert (row["reported_images"], row["reported_regions"]) == (
                paper()[row["source"]]["images"],
                paper()[row["source"]]["regions"],
            )
            assert row["images"] == row["regions"] == row["images_difference"] == ""


def test_own_sources_stand_below_the_papers_and_totals_sum_what_is_there(tmp_path):
    rows, _ = table6(tmp_path, OWN, counts(Photos=(5, 8), Pages=(2, 9)))
    by_name = {(row["data_type"], row["source"]): row for row in rows}
    photos = by_name["Natural", "Photos"]
    assert (photos["images"], photos["regions"], photos["reported_images"]) == ("5", "8", "")
    total = by_name["TOTAL", "TOTAL"]
    assert (total["images"], total["regions"]) == ("7", "17")
    assert int(total["reported_images"]) == sum(int(row["images"]) for row in paper().values())
    assert total["images_difference"] == ""  # five images of other sources are no shortfall of 29 million
    assert [row["source"] for row in rows].index("Photos") < [row["source"] for row in rows].index("Arxiv")


def test_a_source_that_lost_all_its_images_counts_zero(tmp_path):
    rows, _ = table6(tmp_path, OWN, counts(Pages=(2, 9)))
    assert next(row for row in rows if row["source"] == "Photos")["images"] == "0"


def test_the_papers_own_sources_are_compared_and_so_are_totals_once_all_are_there(tmp_path):
    kinds = {"Natural": "natural", "OCR": "ocr"}
    sources = frame_of(*((name, kinds[row["data_type"]], "") for name, row in paper().items()))
    found = counts(
        **{name: (int(row["images"]) - 1, int(row["regions"]) + 2) for name, row in paper().items()}
    )
    rows, _ = table6(tmp_path, sources, found, scale="paper")
    by_name = {(row["data_type"], row["source"]): row for row in rows}
    assert (by_name["OCR", "SROIE"]["images_difference"], by_name["OCR", "SROIE"]["regions_difference"]) == (
        "-1", "2",
    )  # fmt: skip
    assert by_name["TOTAL", "TOTAL"]["images_difference"] == "-38"
    assert by_name["OCR", "TOTAL"]["regions_difference"] == "60"


def test_markdown_says_which_scale_and_that_its_numbers_say_nothing_about_the_papers(tmp_path):
    text = table6(tmp_path, OWN, counts())[1]
    assert "Scale: **mini**; 2 sources, 0 of them among the paper's 38." in text
    assert "say nothing about the paper's counts" in text
    text = table6(tmp_path, frame_of(("SROIE", "ocr", "Invoice Receipt")), counts(), "paper")[1]
    assert "1 source, 1 of them" in text and "say nothing" not in text


def test_table_7_shows_the_gap_between_the_papers_two_tables(tmp_path):
    rows, text = table7(tmp_path, OWN, counts(Photos=(5, 8), Pages=(2, 9)))
    by_group = {row["group"]: row for row in rows if row["group"] != "TOTAL"}
    receipts = by_group["Invoice Receipt"]
    # POIE, SROIE and CORD exactly; 41K regions are 41,949 cut off
    assert (receipts["table6_images"], receipts["gap_images"], receipts["gap_regions"]) == (
        "2847",
        "0",
        "-949",
    )
    assert by_group["UMG-41M"]["images"] == "5" and by_group["LAION"]["images"] == ""
    assert by_group["LAION"]["reported_regions"] == "54350000"  # printed 54.35M
    for row in by_group.values():
        assert int(row["gap_images"]) == int(row["reported_images"]) - int(row["table6_images"])
    assert "27.63M" in text and "+15,983,891" in text
    assert sum(int(row["table6_images"]) for row in by_group.values()) == int(rows[-1]["table6_images"])


def test_that_no_assignment_closes_the_gap_follows_from_the_papers_numbers(tmp_path):
    text = table7(tmp_path, OWN, counts())[1]
    groups = {row["group"]: row for row in table7(tmp_path, OWN, counts())[0] if row["data_type"] == "OCR"}
    groups.pop("TOTAL")
    arxiv, docmatrix = paper()["Arxiv"], paper()["Docmatrix"]
    roomy = {name for name, row in groups.items() if int(row["reported_images"]) >= int(arxiv["images"])}
    roomy_regions = {
        name for name, row in groups.items() if int(row["reported_regions"]) >= int(docmatrix["regions"])
    }
    assert roomy == roomy_regions == {"Rich Text Images"}
    together = int(arxiv["regions"]) + int(docmatrix["regions"])
    assert together > 1.1 * int(groups["Rich Text Images"]["reported_regions"])
    assert f"together the two have {together:,} regions" in text


def test_a_source_of_the_paper_without_a_group_is_named(tmp_path):
    groups = assignment()
    del groups["CORD"]
    with pytest.raises(GranvitError, match=r"no group of Table 7 for CORD.*config/sources.tsv"):
        table7(tmp_path, OWN, counts(), groups)


def test_a_missing_or_foreign_index_is_named_with_what_to_do(tmp_path):
    with pytest.raises(GranvitError, match=r"00000\.parquet: no such index; make it with `snakemake"):
        count_indexes([tmp_path / "A" / "00000.parquet"])
    path = tmp_path / "B" / "00000.parquet"
    path.parent.mkdir()
    path.write_bytes(b"no parquet at all")
    with pytest.raises(GranvitError, match="not the index of a packed shard"):
        count_indexes([path])


def test_equal_counts_give_equal_bytes(tmp_path):
    found = counts(Photos=(5, 8))
    first = table6(tmp_path, OWN, found), table7(tmp_path, OWN, found)
    assert (table6(tmp_path, OWN, found), table7(tmp_path, OWN, found)) == first
