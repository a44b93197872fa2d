"""Captions by a real vision-language model of random weights, in this process and behind a real server."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from caption_server import captioner, needs_serve, sample, serving, write_shard
from tiny_vlm import make_llava, make_qwen

from granvit.data.annotators.annotate import annotate_shard
from granvit.data.annotators.caption import VERSION
from granvit.data.records.records import read_records
from granvit.errors import GranvitError

ROOT = Path(__file__).resolve().parent.parent
MODEL_LIBRARIES = {"torch", "transformers", "detectron2", "paddle", "paddleocr", "onnxruntime"}
OF_THE_PACKAGE = re.compile(r"(from|import) granvit\b")


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    return make_qwen(tmp_path_factory.mktemp("qwen"))


@pytest.fixture(scope="module")
def llava(tmp_path_factory):
    return make_llava(tmp_path_factory.mktemp("llava"))


def in_process(folder, model, **changes):
    return captioner(folder, backend="transformers", model=str(model), **changes)


def told(annotated):
    """What was made of the samples, as plain values."""
    return [
        (
            a.record.caption,
            [(r.box, r.text) for r in a.record.regions],
            [(r.what, r.cause) for r in a.rejects],
        )
        for a in annotated
    ]


def test_the_papers_captioner_writes_every_caption_or_says_why_not(qwen, tmp_path):
    samples = [sample(i) for i in range(6)]
    results = in_process(tmp_path, qwen).annotate(samples)
    regions = [region for result in results for region in result.record.regions]
    lost = sum(reject.regions for result in results for reject in result.rejects)
    assert len(regions) + lost == 12 and len(regions) >= 6
    assert all(0 < len(region.text.split()) <= 10 and region.text != "old" for region in regions)
    assert all(region.score == 0.9 for region in regions)
    captions = [result.record.caption for result in results]
    refused = sum(reject.what == "caption" for result in results for reject in result.rejects)
    assert captions.count(None) == refused < 6 and "old" not in captions
    assert len(set(captions)) > 2  # it looks at the image


def test_a_caption_depends_on_nothing_but_its_own_image(qwen, tmp_path):
    samples = [sample(i) for i in range(4)]
    together = told(in_process(tmp_path, qwen).annotate(samples))
    for number, each in enumerate(samples):
        alone = in_process(tmp_path / str(number), qwen, batch_size=1)
        assert told(alone.annotate([each])) == [together[number]]


def test_what_was_answered_is_kept_so_that_a_second_run_needs_no_model(qwen, tmp_path):
    model = shutil.copytree(qwen, tmp_path / "model")
    samples = [sample(i) for i in range(3)]
    first = told(in_process(tmp_path, model).annotate(samples))
    shutil.rmtree(model)
    assert told(in_process(tmp_path, model).annotate(samples)) == first
    with pytest.raises(GranvitError, match=r"data\.captioner\.model .*no vision-language model"):
        in_process(tmp_path, model).annotate([sample(9)])


@pytest.mark.slow
def test_answers_cut_off_by_a_kill_are_made_again_and_are_the_same(qwen, tmp_path):
    samples = [sample(i) for i in range(3)]
    first = told(in_process(tmp_path, qwen).annotate(samples))
    kept = tmp_path / "answers.jsonl"
    whole = kept.read_bytes()
    for share in (0.2, 0.5, 0.9):
        kept.write_bytes(whole[: int(len(whole) * share)])
        assert told(in_process(tmp_path, qwen).annotate(samples)) == first


@pytest.mark.slow
@needs_serve
def test_a_real_server_and_this_process_give_the_same_captions(llava, tmp_path):
    samples = [sample(i) for i in range(6)]
    here = in_process(tmp_path / "here", llava)
    with serving(llava) as url:
        there = captioner(tmp_path / "there", model=str(llava), url=url)
        assert told(there.annotate(samples)) == told(here.annotate(samples))
        in_tar = write_shard(tmp_path / "00000.tar", samples)
        out = [tmp_path / name for name in ("00000.jsonl", "rejects.csv", "counts.csv")]
        annotate_shard(in_tar, *out, [there])
    records = list(read_records(out[0]))
    assert [record.key for record in records] == [each.record.key for each in samples]
    assert all(VERSION in record.provenance["captioner"] for record in records)
    kept = [
        json.loads(line) for line in (tmp_path / "there" / "answers.jsonl").read_text().split("\n") if line
    ]
    assert (
        len(kept) == len({row["key"] for row in kept}) == 18
    )  # a caption and two regions an image, once each


@pytest.mark.slow
@needs_serve
def test_a_server_that_has_no_such_model_is_an_error_that_says_so(llava, tmp_path):
    with serving(llava) as url, pytest.raises(GranvitError, match=r"data\.captioner\.url .* of other there"):
        captioner(tmp_path, model="other", url=url, retries=0).annotate([sample(0)])


def test_the_command_line_and_the_workflow_load_no_model_library():
    rules = [ROOT / "Snakefile", *sorted((ROOT / "rules").glob("*.smk"))]
    imports = [line for file in rules for line in file.read_text().splitlines() if OF_THE_PACKAGE.match(line)]
    assert any("granvit.graph" in line for line in imports)
    imports += ["import sys, granvit.cli, granvit.data.annotators.choose, granvit.data.annotators.caption"]
    code = "\n".join([*imports, f"print({MODEL_LIBRARIES} & set(sys.modules))"])
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "set()"
