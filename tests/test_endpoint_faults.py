"""Faults of a server, of one image and of a key: the key is never told, one image stops no source, and no
answer is taken for another's."""

from __future__ import annotations

import json
import threading

import judge_server
import pytest
from caption_server import captioner, images_of, playing, polite, sample, text_of, write_shard
from data_worlds import read_csv
from judge_server import judge_at
from tiny_vlm import make_qwen

from granvit.data.annotators.annotate import annotate_shard
from granvit.data.annotators.caption_backends import KEY_VARIABLE as CAPTIONER_KEY
from granvit.data.records.records import read_records
from granvit.errors import GranvitError
from granvit.evaluation.judge import KEY_VARIABLE as JUDGE_KEY

pauses, mmvet = judge_server.pauses, judge_server.mmvet  # fixtures
KEY = "sk-not-to-be-seen"
UNSENDABLE = ["sk-not…seen", "sk-not\nto-be-seen", "sk-not\n to-be-seen", "sk-nöt-to-be-seen", "sk-not\tseen"]


@pytest.fixture
def server():
    with playing() as running:
        yield running


def page_with_key(request):
    """A proxy's page that shows the headers it got; the key begins before the 80th character, ends after."""
    return 200, {}, f"<html>{'-' * 60}Bearer {KEY}</html>"


def test_the_line_break_behind_a_key_is_not_part_of_it(mmvet, server, tmp_path, monkeypatch):
    monkeypatch.setenv(CAPTIONER_KEY, f" {KEY}\r\n")
    assert not captioner(tmp_path, url=server.url).annotate([sample(0)])[0].rejects
    monkeypatch.setenv(JUDGE_KEY, f"{KEY}\n")
    server.say = lambda request: "1"
    found, lines = mmvet(judge_at(server, tmp_path))
    assert (found["judged"], lines) == (3, []) and set(server.keys) == {f"Bearer {KEY}"}


def test_a_key_of_blanks_is_none(server, tmp_path, monkeypatch):
    monkeypatch.setenv(CAPTIONER_KEY, " \n")
    captioner(tmp_path, url=server.url).annotate([sample(0)])
    assert set(server.keys) == {None}


@pytest.mark.parametrize("key", UNSENDABLE)
def test_a_key_that_no_header_can_hold_stops_captions_and_is_not_told(server, tmp_path, monkeypatch, key):
    monkeypatch.setenv(CAPTIONER_KEY, key)
    log = tmp_path / "log.txt"
    with pytest.raises(
        GranvitError, match=rf"\${CAPTIONER_KEY} holds characters that no header can"
    ) as error:
        captioner(tmp_path, url=server.url, log=log).annotate([sample(0)])
    assert "sk-n" not in f"{error.value!r}{log.read_text()}" and not server.requests


def test_a_key_that_no_header_can_hold_fails_each_question_of_a_judge(mmvet, server, tmp_path, monkeypatch):
    monkeypatch.setenv(JUDGE_KEY, f"{KEY}…")
    found, lines = mmvet(judge_at(server, tmp_path))
    assert found["judge_failures"] == len(lines) == 3 and not server.requests
    assert all(f"${JUDGE_KEY} holds characters that no header can" in line for line in lines)
    assert "sk-n" not in json.dumps(found) + "".join(lines)


def test_a_page_that_shows_the_key_puts_it_into_no_message_and_no_log(
    mmvet, server, tmp_path, pauses, monkeypatch
):
    monkeypatch.setenv(CAPTIONER_KEY, f"{KEY}\n")
    monkeypatch.setenv(JUDGE_KEY, KEY)
    server.say = page_with_key
    log = tmp_path / "log.txt"
    with pytest.raises(GranvitError, match="not a chat completion: '<html>") as error:
        captioner(tmp_path, url=server.url, log=log).annotate([sample(0)])
    found, lines = mmvet(judge_at(server, tmp_path))
    told = str(error.value) + log.read_text() + json.dumps(found) + "".join(lines)
    assert "not a chat completion" in lines[0] and "***" in told and "sk-n" not in told


def test_a_refusal_that_ends_in_the_middle_of_the_key_shows_no_half_of_it(server, tmp_path, monkeypatch):
    monkeypatch.setenv(CAPTIONER_KEY, KEY)
    server.say = lambda request: (400, {}, f"{'no ' * 63} {KEY}")
    with pytest.raises(GranvitError, match="HTTP 400: no no") as error:
        captioner(tmp_path, url=server.url).annotate([sample(0)])
    assert "sk-n" not in str(error.value)


@pytest.mark.parametrize(
    "reply", [(302, {"Location": "http://["}, ""), (200, {}, "[" * 200_000)], ids=["redirect", "brackets"]
)
def test_an_answer_that_cannot_be_read_is_a_fault_of_the_server(server, tmp_path, pauses, reply):
    server.say = lambda request: reply
    with pytest.raises(GranvitError, match=r"data\.captioner\.url"):
        captioner(tmp_path, url=server.url).annotate([sample(0)])


def broken_for(image: bytes, fault):
    """A server that answers everything but questions about this image."""
    return lambda request: fault(request) if images_of(request)[0][1] == image else polite(request)


def annotate(folder, samples, **changes):
    """A shard's records, rejects and counts by rule."""
    in_tar = write_shard(folder / "0.tar", samples)
    out = [folder / name for name in ("0.jsonl", "rejects.csv", "counts.csv")]
    annotate_shard(in_tar, *out, [captioner(folder, **changes)], folder / "journal.jsonl")
    return list(read_records(out[0])), read_csv(out[1]), {row["rule"]: row for row in read_csv(out[2])}


MANY = [[10.0 * i, 10.0, 10.0 * i + 60, 150.0] for i in range(12)]


@pytest.mark.parametrize("concurrency", [1, 3])
@pytest.mark.parametrize("place", [0, 2, 5])
def test_an_image_that_breaks_each_of_its_questions_costs_itself_alone(
    server, tmp_path, pauses, concurrency, place
):
    samples = [sample(i, boxes=MANY) if i == place else sample(i) for i in range(6)]
    server.say = broken_for(samples[place].image, lambda request: (500, {}, "boom"))
    records, rejects, counts = annotate(
        tmp_path, samples, url=server.url, concurrency=concurrency, give_up_after=5, retries=1
    )
    assert [row["key"] for row in rejects] == [samples[place].record.key] * 13
    assert {row["cause"] for row in rejects} == {"caption_unanswered"}
    others = [record for record in records if record.key != samples[place].record.key]
    assert [(record.caption is None, len(record.regions)) for record in others] == [(False, 2)] * 5
    unanswered = counts["caption_unanswered"]
    assert int(unanswered["regions_in"]) - int(unanswered["regions_out"]) == 12
    assert (counts["annotate"]["regions_in"], counts["annotate"]["regions_out"]) == ("22", "10")


def test_an_image_that_takes_too_long_costs_itself_alone(server, tmp_path, pauses):
    over = threading.Event()
    samples = [sample(i) for i in range(3)]
    server.say = broken_for(samples[0].image, lambda request: over.wait(20) and "late")
    try:
        records, rejects, _ = annotate(
            tmp_path, samples, url=server.url, concurrency=1, give_up_after=1, retries=0, timeout=0.5
        )
    finally:
        over.set()
    assert {(row["key"], row["cause"]) for row in rejects} == {(samples[0].record.key, "caption_unanswered")}
    assert [len(record.regions) for record in records] == [0, 2, 2]


def test_a_broken_image_under_two_keys_ends_too(server, tmp_path, pauses):
    first, second = sample(1), sample(1)
    second.record.key = "S__copy"
    server.say = broken_for(first.image, lambda request: (500, {}, ""))
    results = captioner(tmp_path, url=server.url, give_up_after=1, concurrency=1).annotate([first, second])
    assert [len(result.rejects) for result in results] == [3, 3]


def test_a_question_not_asked_when_the_server_fell_silent_is_asked_when_it_is_back(server, tmp_path, pauses):
    def back_after_two(request):
        return (503, {}, "") if len(server.requests) <= 2 else polite(request)

    server.say = back_after_two
    chosen = captioner(tmp_path, url=server.url, concurrency=1, give_up_after=1, retries=1)
    results = chosen.annotate([sample(i) for i in range(4)])
    assert not any(result.rejects for result in results)
    assert len(server.requests) == 2 + 1 + 12  # one question, failing twice; the plain one; all of them


def test_a_server_that_dies_with_a_broken_image_still_stops_the_job(server, tmp_path, pauses):
    samples = [sample(0, boxes=MANY), sample(1)]

    def ever_worse(request):
        if len(server.requests) > 20:
            dead.set()
        well = text_of(request) == "Describe the second image." and not dead.is_set()
        return polite(request) if well else (500, {}, "")

    dead = threading.Event()
    server.say = ever_worse
    with pytest.raises(GranvitError, match="plain question with two images .*HTTP 500"):
        annotate(tmp_path, samples, url=server.url, concurrency=1, give_up_after=5, retries=1)
    assert dead.is_set() and not (tmp_path / "0.jsonl").exists()


@pytest.mark.parametrize("status", [401, 404])
def test_a_server_that_refuses_every_question_alike_is_asked_no_further_one(server, tmp_path, status):
    server.say = lambda request: polite(request) if len(server.requests) > 1 else (status, {}, "")
    with pytest.raises(GranvitError, match=f"HTTP {status}"):
        captioner(tmp_path, url=server.url, concurrency=1).annotate([sample(0), sample(1)])
    assert len(server.requests) == 1


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    return make_qwen(tmp_path_factory.mktemp("qwen"))


def kept(folder):
    lines = (folder / "answers.jsonl").read_text().split("\n")
    return [json.loads(line) for line in lines if line]


def test_an_answer_that_is_kept_is_not_written_again_with_its_batch(qwen, tmp_path):
    def run():
        chosen = captioner(tmp_path, backend="transformers", model=str(qwen))
        return chosen.annotate([sample(0)])[0].record

    whole = run()
    answers = kept(tmp_path)
    (tmp_path / "answers.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in answers[:-1]))
    assert run() == whole and kept(tmp_path) == answers and len(answers) == 3


def test_answers_of_another_back_end_are_not_taken_over(qwen, server, tmp_path):
    server.say = lambda request: "From the server."
    there = captioner(tmp_path, model=str(qwen), url=server.url)
    here = captioner(tmp_path, model=str(qwen), backend="transformers")
    assert there.annotate([sample(0)])[0].record.caption == "From the server."
    assert here.annotate([sample(0)])[0].record.caption != "From the server."
    assert len({row["key"] for row in kept(tmp_path)}) == 6 and here.describe() != there.describe()
