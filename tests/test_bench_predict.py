"""The speed benchmark of prediction runs at its smallest setting and says what it promises."""

from __future__ import annotations

import pytest
from conftest import last_line


@pytest.mark.slow
def test_the_benchmark_of_prediction_ends_with_one_line_of_json():
    line = last_line("bench_predict", "--images", "2", "--seconds", "0")
    assert line["benchmark"] == "predict" and line["unit"] == "questions/s"
    assert line["ratio"] == round(line["ours"] / line["baseline"], 2)
    assert line["ratio_batched"] == round(line["ours"] / line["batched"], 2)
