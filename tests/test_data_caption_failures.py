"""A captioning server that is busy, down or refuses: nothing is lost, and no caption is given up for a fault
of the server."""

from __future__ import annotations

import threading
import time
from base64 import b64encode
from collections import Counter
from itertools import cycle

import judge_server
import pytest
from caption_server import (
    about_region,
    captioner,
    images_of,
    playing,
    polite,
    sample,
    text_of,
    write_shard,
)  # fmt: skip
from data_worlds import read_csv

from granvit.config.loading import load_config
from granvit.data.annotators.annotate import annotate_shard
from granvit.data.annotators.caption_backends import KEY_VARIABLE
from granvit.data.annotators.caption_pictures import Picture
from granvit.data.records.records import read_records
from granvit.errors import GranvitError

pauses = judge_server.pauses  # fixture
KEY = "sk-not-to-be-seen"


@pytest.fixture
def server():
    with playing() as running:
        yield running


def test_a_busy_server_is_asked_again_after_the_time_it_names(server, tmp_path, pauses):
    seen = set()

    def busy_once(request):
        if text_of(request) in seen:
            return polite(request)
        seen.add(text_of(request))
        return 429, {"Retry-After": "3"}, "slow down"

    server.say = busy_once
    result = captioner(tmp_path, url=server.url, concurrency=1).annotate([sample(0)])[0]
    assert len(result.record.regions) == 2 and not result.rejects and pauses == [3.0] * 3


@pytest.mark.parametrize("body", ["<html>gateway</html>", '{"choices": []}', "null"])
def test_what_is_no_chat_completion_is_tried_again(server, tmp_path, pauses, body):
    answers = iter([(200, {}, body), (500, {}, ""), *["A thing."] * 3])
    server.say = lambda request: next(answers)
    result = captioner(tmp_path, url=server.url, concurrency=1).annotate([sample(0)])[0]
    assert not result.rejects and len(pauses) == 2


def test_refusals_and_empty_answers_are_counted_by_cause_and_in_no_record(server, tmp_path):
    said = cycle(["I'm sorry, but I can't help with that.", "", "A cup."])
    server.say = lambda request: next(said) if about_region(request) else "As an AI, no."
    in_tar = write_shard(tmp_path / "0.tar", [sample(i) for i in range(6)])
    out = [tmp_path / name for name in ("0.jsonl", "rejects.csv", "counts.csv")]
    annotate_shard(in_tar, *out, [captioner(tmp_path, url=server.url, concurrency=1)])
    records = list(read_records(out[0]))
    lost = Counter((row["what"], row["cause"]) for row in read_csv(out[1]))
    assert {region.text for record in records for region in record.regions} == {"A cup."}
    assert [record.caption for record in records] == [None] * 6
    assert lost["caption", "caption_refused"] == 6
    kept = sum(len(record.regions) for record in records)
    assert kept + lost["region", "caption_refused"] + lost["region", "caption_empty"] == 12
    assert kept and lost["region", "caption_refused"] and lost["region", "caption_empty"]
    counts = {row["rule"]: row for row in read_csv(out[2])}
    assert (counts["annotate"]["regions_in"], counts["annotate"]["regions_out"]) == ("12", str(kept))


def test_a_server_that_is_down_stops_the_job_and_the_same_command_goes_on(tmp_path, pauses):
    samples = [sample(i) for i in range(6)]
    limit = threading.Semaphore(7)

    def dying(request):
        return polite(request) if limit.acquire(blocking=False) else (503, {}, "")

    with playing(dying) as server:
        with pytest.raises(
            GranvitError, match=r"data\.captioner\.url http://127\.0\.0\.1:\d+/v1: .*HTTP 503"
        ) as error:
            captioner(tmp_path, url=server.url).annotate(samples)
        assert str(tmp_path / "answers.jsonl") in str(error.value)
    with playing() as server:
        results = captioner(tmp_path, url=server.url).annotate(samples)
        assert not any(result.rejects for result in results)
        assert len(server.requests) == 18 - 7


def test_a_server_that_was_never_there_stops_the_job_even_for_one_image(server, tmp_path, pauses):
    server.server_close()
    with pytest.raises(GranvitError, match=r"data\.captioner\.url .*no connection"):
        captioner(tmp_path, url=server.url, give_up_after=100).annotate([sample(0)])


def test_a_question_that_is_refused_costs_itself_alone(server, tmp_path):
    def refuse_one(request):
        too_large = about_region(request) and "[21, " in text_of(request)
        return (400, {}, "image too large") if too_large else polite(request)

    server.say = refuse_one
    log = tmp_path / "log.txt"
    results = captioner(tmp_path, url=server.url, give_up_after=2, log=log).annotate(
        [sample(i) for i in range(4)]
    )
    assert [[(r.what, r.cause, r.regions) for r in result.rejects] for result in results] == [
        [("region", "caption_http_400", 1)]
    ] * 4
    assert all(len(result.record.regions) == 1 and result.record.caption for result in results)
    assert "S/3: a question had no answer (HTTP 400: image too large)" in log.read_text()


def test_a_server_that_takes_one_image_at_a_time_does_not_cost_every_region(server, tmp_path):
    server.say = lambda request: (400, {}, "At most 1 image") if len(images_of(request)) > 1 else "A ground."
    with pytest.raises(GranvitError, match="plain question with two images .*At most 1 image"):
        captioner(tmp_path, url=server.url).annotate([sample(0)])


def test_a_question_that_breaks_a_server_that_is_well_is_given_up_and_counted(server, tmp_path, pauses):
    server.say = lambda request: (500, {}, "") if "[154, " in text_of(request) else polite(request)
    results = captioner(tmp_path, url=server.url, concurrency=1).annotate([sample(i) for i in range(3)])
    assert [[(r.what, r.cause) for r in result.rejects] for result in results] == [
        [("region", "caption_unanswered")]
    ] * 3


def test_a_server_that_answers_nothing_but_a_plain_question_costs_no_captions(server, tmp_path):
    plain = "Describe the second image."
    server.say = lambda request: polite(request) if text_of(request) == plain else (400, {}, "too long")
    in_tar = write_shard(tmp_path / "0.tar", [sample(i) for i in range(6)])
    out = [tmp_path / name for name in ("0.jsonl", "rejects.csv", "counts.csv")]

    def annotate():
        asker = captioner(tmp_path, url=server.url, max_reject_share=0.1)
        annotate_shard(in_tar, *out, [asker], tmp_path / "journal")

    message = r"answers a plain question, but left 18 of 18 unanswered \(HTTP 400: 18\), such as about S/0,"
    with pytest.raises(GranvitError, match=message):
        annotate()
    assert not out[0].exists()
    server.say = polite  # mended
    annotate()
    assert not read_csv(out[1]) and sum(len(record.regions) for record in read_records(out[0])) == 12


def test_a_server_that_answers_without_a_word_costs_no_captions(server, tmp_path):
    server.say = lambda request: ""
    in_tar = write_shard(tmp_path / "0.tar", [sample(i) for i in range(6)])
    out = [tmp_path / name for name in ("0.jsonl", "rejects.csv", "counts.csv")]

    def annotate():
        asker = captioner(tmp_path, url=server.url, max_reject_share=0.1)
        annotate_shard(in_tar, *out, [asker], tmp_path / "journal")

    with pytest.raises(GranvitError, match=r"left 18 of 18 unanswered \(an empty answer: 18\)"):
        annotate()
    server.say = polite  # mended
    annotate()
    assert not read_csv(out[1]) and sum(len(record.regions) for record in read_records(out[0])) == 12


@pytest.mark.parametrize("images", [1, 2, 6])
def test_an_image_that_breaks_each_of_its_questions_does_not_stop_its_source(server, tmp_path, images):
    broken = Picture(sample(0)).data_uri(None).encode().partition(b",")[2]
    server.say = lambda request: (
        (400, {}, "broken") if b64encode(images_of(request)[0][1]) == broken else polite(request)
    )
    asker = captioner(tmp_path, url=server.url, max_reject_share=0.01)
    made = asker.annotate([sample(i) for i in range(images)])
    assert [len(result.rejects) for result in made] == [3] + [0] * (images - 1)


def test_a_slow_server_is_a_fault_that_names_the_limit(server, tmp_path, pauses):
    server.say = lambda request: time.sleep(1) or "A thing."
    with pytest.raises(GranvitError, match=r"no reply within 0\.1 s"):
        captioner(tmp_path, url=server.url, timeout=0.1, retries=0, give_up_after=2).annotate([sample(0)])


def test_the_key_goes_to_the_server_and_stands_in_no_message_and_no_file(server, tmp_path, monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    log = tmp_path / "log.txt"
    captioner(tmp_path, url=server.url, log=log).annotate([sample(0)])
    assert set(server.keys) == {f"Bearer {KEY}"}
    server.say = lambda request: (400, {}, f"bad request with {KEY}")
    with pytest.raises(GranvitError, match="bad request with") as refused:
        captioner(tmp_path, url=server.url, log=log).annotate([sample(1)])
    server.say = lambda request: (401, {}, f"bad key {KEY}")
    with pytest.raises(GranvitError, match=KEY_VARIABLE) as error:
        captioner(tmp_path, url=server.url, log=log).annotate([sample(2)])
    written = "".join(path.read_text() for path in tmp_path.iterdir())
    assert KEY not in written + str(refused.value) + str(error.value) and "HTTP 401" in written


def test_an_image_that_no_model_takes_is_left_out_without_a_question(server, tmp_path):
    result = captioner(tmp_path, url=server.url).annotate([sample(0, size=(4100, 20))])[0]
    assert {(r.what, r.cause) for r in result.rejects} == {
        ("caption", "caption_image_too_thin"), ("region", "caption_image_too_thin")
    }  # fmt: skip
    assert sum(r.regions for r in result.rejects) == 2 and not server.requests and not result.record.regions


def test_a_server_without_an_address_is_refused_at_once(tmp_path):
    with pytest.raises(GranvitError, match=r"data\.captioner\.url is not set"):
        captioner(tmp_path)
    with pytest.raises(GranvitError, match=r"data\.captioner\.url: 'file:///x' must begin with http"):
        load_config("smoke", {"data": {"captioner": {"url": "file:///x"}}})


def test_a_cache_that_cannot_be_written_stops_the_job_and_is_named(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(GranvitError, match=r"file/answers\.jsonl: a reply cannot be kept"):
        captioner(tmp_path / "file", url=server.url).annotate([sample(0)])
