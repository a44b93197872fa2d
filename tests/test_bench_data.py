"""The benchmarks of the data half run at their smallest setting and say what they promise."""

from __future__ import annotations

import pytest
from conftest import last_line


def _run(name: str, *arguments: str) -> dict:
    """The JSON of a benchmark's last line."""
    line = last_line(name, *arguments)
    assert {"benchmark", "ours", "baseline", "unit", "ratio"} <= set(line)
    return line


@pytest.mark.slow
def test_the_benchmark_of_packing_ends_with_one_line_of_json():
    line = _run("bench_pack", "--images", "12", "--repeats", "1")
    assert (line["benchmark"], line["unit"], line["images"]) == ("pack", "s", 12)
    assert line["ratio"] == pytest.approx(line["ours"] / line["baseline"], rel=0.05)


@pytest.mark.slow
def test_the_benchmark_of_the_loader_ends_with_one_line_of_json():
    line = _run("bench_loader", "--images", "20", "--repeats", "1", "--workers", "1")
    assert (line["benchmark"], line["unit"], line["workers"]) == ("loader", "images/s", 1)
    assert line["ratio"] == pytest.approx(line["ours"] / line["baseline"], rel=0.05)


@pytest.mark.slow
def test_no_shards_job_takes_more_memory_at_ten_shards_than_at_two():
    line = _run("bench_memory", "--images", "80")
    assert line["shards"] == [2, 10] and line["unit"] == "MB"
    jobs = {step: line["ratios"][step] for step in ("ingest", "annotate", "filter", "pack")}
    assert line["ratio"] == max(jobs.values()) <= 1.1, jobs
