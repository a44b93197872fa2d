"""A judge that is down, slow, busy, or talks nonsense: the run ends, and each failure is a line."""

from __future__ import annotations

import json
import time

import judge_server
import pytest
from judge_server import answer, benchmark, judge_at

from granvit.config.loading import load_config
from granvit.errors import GranvitError
from granvit.evaluation.judge import GRADING_TRIES, KEY_VARIABLE
from granvit.evaluation.score import score
from granvit.servers import endpoint
from granvit.servers.replies import retry_after

server, pauses, mmvet = judge_server.server, judge_server.pauses, judge_server.mmvet  # fixtures

KEY = "sk-not-to-be-seen"


def rule_alone(run):
    return run(None)[0]["score"]


def test_a_busy_judge_is_asked_again_after_the_time_it_names(mmvet, server, tmp_path, pauses):
    seen = set()

    def busy_once(request):
        prompt = request["messages"][0]["content"]
        if prompt in seen:
            return "1"
        seen.add(prompt)
        return 429, {"Retry-After": "7"}, "slow down"

    server.say = busy_once
    found, lines = mmvet(judge_at(server, tmp_path))
    assert (found["score"], lines, pauses) == (100.0, [], [7.0] * 3)


def test_a_judge_that_stays_busy_costs_its_own_questions_only(mmvet, server, tmp_path, pauses):
    server.say = lambda request: (503, {}, "") if "a red thing" in request["messages"][0]["content"] else "1"
    found, lines = mmvet(judge_at(server, tmp_path))
    assert found["score"] == pytest.approx(100 * (1 + 0.5 + 1) / 3)
    assert (found["judged"], found["judge_failures"]) == (2, 1)
    assert lines == ["Toy: question 1: the judge failed (HTTP 503); scored by the rule alone"]
    assert len(pauses) == 2


def test_a_judge_that_wants_an_hour_is_not_waited_for(mmvet, server, tmp_path, pauses):
    server.say = lambda request: (429, {"Retry-After": "3600"}, "")
    found, lines = mmvet(judge_at(server, tmp_path))
    assert found["score"] == rule_alone(mmvet) and "asks to wait 3600 s" in lines[0] and pauses == []


def test_a_judge_that_is_down_leaves_the_rules_score_and_a_line_a_question(mmvet, server, tmp_path, pauses):
    server.server_close()
    found, lines = mmvet(judge_at(server, tmp_path))
    assert found["score"] == rule_alone(mmvet) and found["judge_failures"] == len(lines) == 3
    assert all("no connection" in line for line in lines)


def test_a_judge_without_replies_is_given_up_so_that_the_run_ends(server, tmp_path, pauses):
    path = answer(tmp_path, [{"answer": "x"}] * 40, ["y"] * 40)
    server.say = lambda request: (500, {}, "")
    lines = []
    judge = judge_at(server, tmp_path, concurrency=1)
    score(path, benchmark("mmvet_contains"), tmp_path, judge, lines.append)
    assert len(server.requests) == 3 * 3  # three questions, each with two retries
    assert len(lines) == 40 and "3 questions in a row had no reply (HTTP 500)" in lines[-1]


def test_a_slow_judge_is_a_failure_that_names_the_limit(mmvet, server, tmp_path, pauses):
    server.say = lambda request: time.sleep(1) or "1"
    found, lines = mmvet(judge_at(server, tmp_path, timeout=0.1, retries=0))
    assert found["score"] == rule_alone(mmvet) and "no reply within 0.1 s" in lines[0]


def test_a_reply_that_only_drips_in_is_a_slow_one(mmvet, server, tmp_path, pauses):
    def drip():
        for _ in range(40):
            time.sleep(0.05)
            yield " "

    server.say = lambda request: (200, {}, drip())
    _, lines = mmvet(judge_at(server, tmp_path, timeout=0.2, retries=0))
    assert len(lines) == 3 and "no reply within 0.2 s" in lines[0]


@pytest.mark.parametrize("nonsense", ["It is rather good.", "7", "-0.5", "1.5", ""])
def test_marks_that_are_none_are_asked_for_five_times_then_the_rule_stands(mmvet, server, tmp_path, nonsense):
    server.say = lambda request: nonsense
    found, lines = mmvet(judge_at(server, tmp_path))
    assert found["score"] == rule_alone(mmvet)
    assert len(server.requests) == 3 * GRADING_TRIES and "5 unusable replies" in lines[0]
    assert {request["temperature"] for request in server.requests} == {0.0, 0.5, 1.0, 1.5, 2.0}


def test_an_unusable_reply_is_not_kept_so_that_a_judge_set_right_is_heard(mmvet, server, tmp_path):
    server.say = lambda request: "It is rather good."
    assert mmvet(judge_at(server, tmp_path))[0]["judged"] == 0
    server.say = lambda request: "1.0"
    found, lines = mmvet(judge_at(server, tmp_path))
    assert (found["score"], found["judge"], found["judged"], lines) == (100.0, "m", 3, [])


def test_an_unusable_reply_that_an_older_cache_holds_is_asked_for_again(mmvet, server, tmp_path):
    mmvet(judge_at(server, tmp_path))
    cache = tmp_path / "cache.jsonl"
    cache.write_text(cache.read_text().replace('"reply": "1.0"', '"reply": "1/10"'))
    assert mmvet(judge_at(server, tmp_path))[0]["score"] == 100.0 and len(server.requests) == 6


def test_a_judge_that_failed_every_question_does_not_stand_in_the_score(mmvet, server, tmp_path):
    server.say = lambda request: (400, {}, "no")
    found, _ = mmvet(judge_at(server, tmp_path, give_up_after=100))
    assert found["judge"] == "rules (judge m failed: 3 of 3)"
    assert (found["judged"], found["marked_by_judge"]) == (0, False)
    server.say = lambda request: (400, {}, "no") if "a red thing" in str(request) else "1"
    assert mmvet(judge_at(server, tmp_path))[0]["judge"] == "m (failed: 1 of 3)"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ('{"error": {"message": "max_tokens is\\ntoo small", "code": 400}}', "max_tokens is too small"),
        ('{"error": "no such model"}', "no such model"),
        ('{"object": "error", "message": "context of 8 tokens"}', "context of 8 tokens"),
        ("<html>bad</html>", "<html>bad</html>"),
    ],
)
def test_a_refusal_is_told_in_the_servers_own_words(mmvet, server, tmp_path, body, reason):
    server.say = lambda request: (400, {}, body)
    _, lines = mmvet(judge_at(server, tmp_path, give_up_after=100))
    assert lines[0] == f"Toy: question 0: the judge failed (HTTP 400: {reason}); scored by the rule alone"


@pytest.mark.parametrize("body", ["<html>gateway</html>", '{"choices": []}', '{"error": "x"}', "null"])
def test_what_is_no_chat_completion_is_tried_again_then_a_failure(mmvet, server, tmp_path, pauses, body):
    server.say = lambda request: (200, {}, body)
    found, lines = mmvet(judge_at(server, tmp_path, give_up_after=100))
    assert found["score"] == rule_alone(mmvet) and len(pauses) == 3 * 2
    assert all("\n" not in line for line in lines)


def test_a_refused_key_is_told_once_and_stands_in_no_message_and_no_file(
    mmvet, server, tmp_path, pauses, monkeypatch
):
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    server.say = lambda request: (401, {}, f"bad key {KEY}")
    found, lines = mmvet(judge_at(server, tmp_path, concurrency=1))
    assert set(server.keys) == {f"Bearer {KEY}"} and len(server.requests) == 1
    assert len(lines) == 3 and KEY_VARIABLE in lines[0] and pauses == []
    server.say = lambda request: "1"
    mmvet(judge_at(server, tmp_path))
    written = "".join(path.read_text() for path in tmp_path.glob("*.jsonl"))
    assert KEY not in json.dumps(found) + "".join(lines) + written


def test_a_redirect_does_not_carry_the_key_elsewhere(mmvet, server, tmp_path, monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    server.say = lambda request: (302, {"Location": f"{server.url}/elsewhere"}, "")
    _, lines = mmvet(judge_at(server, tmp_path))
    assert len(server.requests) == 3 and "HTTP 302" in lines[0]


def test_the_key_is_not_replaced_by_one_of_netrc(mmvet, server, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    mmvet(judge_at(server, tmp_path))
    assert set(server.keys) == {f"Bearer {KEY}"}


def test_a_cache_that_cannot_be_written_is_named_with_its_setting(mmvet, server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(GranvitError, match="file/cache.jsonl: .*evaluation.judge.cache"):
        mmvet(judge_at(server, tmp_path, cache=str(tmp_path / "file" / "cache.jsonl")))


def test_an_address_is_shown_without_what_it_may_hold_in_secret():
    assert endpoint.shown("https://me:pw@host:8/v1?key=x") == "https://host:8/v1"


def test_a_date_is_a_time_to_wait_too():
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert retry_after("2.5") == 2.5
    assert retry_after("soon") is retry_after(None) is None


@pytest.mark.parametrize("values", [{"url": "http://x/v1"}, {"url": "file:///x", "model": "m"}])
def test_a_judge_that_cannot_be_asked_is_refused_at_once(values):
    with pytest.raises(GranvitError, match=r"evaluation\.judge"):
        load_config("smoke", {"evaluation": {"judge": values}})
