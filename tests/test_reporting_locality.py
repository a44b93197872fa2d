"""attention_locality.csv from rows of boxes."""

from __future__ import annotations

import pandas as pd
import pytest

from granvit.errors import GranvitError
from granvit.evaluation.locality import MEASURES
from granvit.reporting.locality_table import make_locality


def write_rows(path, values, data_types=("natural",)):
    """One row a value of `attention`; three boxes an image."""
    rows = [
        {
            "key": f"image {n // 3}",
            "data_type": data_types[n // 3 % len(data_types)],
            "box": [0.0, 0.0, 1.0, 1.0],
        }
        | {"share": 0.1}
        | dict.fromkeys(MEASURES, 1.0)
        | {"attention": value}
        for n, value in enumerate(values)
    ]
    pd.DataFrame(rows).to_parquet(path)
    return path


def table(tmp_path, *files, names=("GranViT", "SigLIP2")):
    recipes = {name: f"sft-{name.lower()}" for name in names}
    out = tmp_path / "attention_locality.csv"
    make_locality(dict(zip(names, files, strict=False)), recipes, "mini", out)
    return pd.read_csv(out).set_index(["encoder", "measure", "data_type"])


def test_uniform_map_is_one_without_width(tmp_path):
    row = table(tmp_path, write_rows(tmp_path / "a.parquet", [1.0] * 9)).loc["GranViT", "attention", "all"]
    assert (row["mean"], row["low"], row["high"], row["boxes"], row["images"]) == (1, 1, 1, 9, 3)
    assert (row["recipe"], row["scale"]) == ("sft-granvit", "mini")


def test_interval_is_over_images_not_boxes(tmp_path):
    alike = [value for n in range(40) for value in [n % 4] * 3]  # boxes of one image agree
    mixed = [alike[n * 41 % 120] for n in range(120)]  # the same values all over the images
    found = table(
        tmp_path, write_rows(tmp_path / "a.parquet", alike), write_rows(tmp_path / "b.parquet", mixed)
    )
    clustered, spread = (found.loc[name, "attention", "all"] for name in ("GranViT", "SigLIP2"))
    assert clustered["mean"] == spread["mean"] == 1.5
    assert clustered["low"] < 1.5 < clustered["high"]
    assert clustered["high"] - clustered["low"] > 1.4 * (spread["high"] - spread["low"])


def test_data_types_apart_and_values_that_are_not_there_are_not_counted(tmp_path):
    values = [4.0] * 3 + [2.0] * 3 + [None] * 3 + [2.0] * 3
    found = table(tmp_path, write_rows(tmp_path / "a.parquet", values, ("natural", "ocr")))
    means = {kind: found.loc["GranViT", "attention", kind] for kind in ("all", "natural", "ocr")}
    assert [row["mean"] for row in means.values()] == [pytest.approx(8 / 3, abs=1e-4), 4, 2]
    assert [row["boxes"] for row in means.values()] == [9, 3, 6]
    assert [row["images"] for row in means.values()] == [3, 1, 2]
    assert found.loc["GranViT", "cosine", "all"]["boxes"] == 12


def test_missing_rows_are_named_with_their_command(tmp_path):
    with pytest.raises(GranvitError, match=r"nowhere.parquet: no such file; make it with `snakemake"):
        table(tmp_path, tmp_path / "nowhere.parquet")
