"""A judge over HTTP, against a real server: what it is asked, which replies count, and what is kept."""

from __future__ import annotations

import json
import threading
import time

import judge_server
import pytest
from benchmark_world import picture, write_rows
from judge_server import Crowd, answer, benchmark, judge_at

from granvit.config.judge import JudgeSettings
from granvit.evaluation.judge import identity, make_judge
from granvit.evaluation.judge_replies import last_words, read_mark
from granvit.evaluation.score import score
from granvit.servers.reply_cache import Reply

server, mmvet = judge_server.server, judge_server.mmvet  # fixtures


def test_mmvets_score_is_the_mean_of_the_judges_marks(mmvet, server, tmp_path):
    server.say = lambda request: "0.3" if "a red thing" in request["messages"][0]["content"] else "1.0"
    found, lines = mmvet(judge_at(server, tmp_path))
    assert found["score"] == pytest.approx(100 * (0.3 + 1 + 1) / 3)
    assert (found["judge"], found["judged"], found["judge_failures"], lines) == ("m", 3, 0, [])
    assert all("4 <AND> red" in prompt for prompt in server.prompts())


def test_without_an_endpoint_the_rule_stands_and_the_score_says_so(mmvet):
    assert make_judge(JudgeSettings()) is None
    found, _ = mmvet(None)
    assert found["judge"] == "none (rule-based)"
    assert found["score"] == pytest.approx(100 * (0.5 + 0.5 + 1) / 3)


def test_nothing_that_is_in_the_cache_is_asked_again(mmvet, server, tmp_path):
    first, _ = mmvet(judge_at(server, tmp_path))
    asked = len(server.requests)
    again, _ = mmvet(judge_at(server, tmp_path))
    assert again == first and len(server.requests) == asked == 3


def test_a_reply_that_a_kill_cut_off_is_asked_for_again_and_loses_no_other(mmvet, server, tmp_path):
    mmvet(judge_at(server, tmp_path))
    cache = tmp_path / "cache.jsonl"
    cache.write_bytes(cache.read_bytes()[:-10])
    mmvet(judge_at(server, tmp_path))
    assert len(server.requests) == 4
    mmvet(judge_at(server, tmp_path))
    assert len(server.requests) == 4


def test_another_model_does_not_take_over_replies(mmvet, server, tmp_path):
    mmvet(judge_at(server, tmp_path))
    mmvet(judge_at(server, tmp_path, model="n"))
    assert [request["model"] for request in server.requests].count("n") == 3


def test_the_same_words_are_asked_once_even_at_the_same_time(server, tmp_path):
    started = threading.Event()

    def slowly(request):
        started.set()
        time.sleep(0.2)
        return "0.5"

    server.say = slowly
    judge = judge_at(server, tmp_path)
    said = []
    threads = [threading.Thread(target=lambda: said.append(judge.endpoint.reply("x").text)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == ["0.5"] * 3 and len(server.requests) == 1


def test_never_more_questions_at_once_than_allowed(mmvet, server, tmp_path):
    server.say = crowd = Crowd(lambda request: "1")
    mmvet(judge_at(server, tmp_path, concurrency=2))
    assert crowd.most == 2


def test_another_address_is_no_reason_to_score_again_but_another_model_is():
    base = JudgeSettings(url="http://a/v1", model="m")
    assert identity(base) == identity(base.model_copy(update={"url": "http://b/v1", "timeout": 1.0}))
    assert identity(base) != identity(base.model_copy(update={"model": "n"}))
    assert identity(JudgeSettings(model="m")) is None


NUMBER = {"question_type": "free_form", "answer_type": "integer", "choices": "", "answer_option": ""}
CHOICE = {"question_type": "multi_choice", "answer_type": "text", "choices": "['cat', 'dog']"}


def test_mathvista_asks_only_about_answers_that_the_rule_cannot_read(server, tmp_path):
    rows = [
        {**NUMBER, "answer": "7"},
        {**NUMBER, "answer": "7"},
        {**CHOICE, "answer": "dog", "answer_option": "B"},
        {**NUMBER, "answer": "[1]", "answer_type": "list"},
    ]
    path = answer(tmp_path, rows, ["7", "There are seven.", "The second animal.", "one"])
    server.say = lambda request: "7" if "seven" in request["messages"][0]["content"] else "B"
    found = score(path, benchmark("mathvista"), tmp_path, judge_at(server, tmp_path))
    assert found["score"] == 75.0 and found["judged"] == len(server.requests) == 2
    assert found["failed_extractions"] == 0.25  # a list can never be read


def test_an_extraction_that_is_none_leaves_the_answer_unread(server, tmp_path):
    path = answer(tmp_path, [{**NUMBER, "answer": "7"}], ["There are seven."])
    server.say = lambda request: "none"
    lines = []
    found = score(path, benchmark("mathvista"), tmp_path, judge_at(server, tmp_path), lines.append)
    assert (found["score"], found["failed_extractions"], len(lines)) == (0.0, 1.0, 1)


OPTIONS = {"A": "a cat", "B": "a dog", "answer": "B"}


@pytest.mark.parametrize(("choices", "asked", "share"), [(False, 0, 100 / 3), (True, 2, 200 / 3)])
def test_options_are_read_by_the_judge_only_where_that_is_asked_for(server, tmp_path, choices, asked, share):
    path = answer(tmp_path, [OPTIONS] * 3, ["B", "the animal that barks", "no animal that I know"])
    server.say = lambda request: "B." if "barks |" in request["messages"][0]["content"] else "Z"
    judge = judge_at(server, tmp_path, choices=choices)
    found = score(path, benchmark("multiple_choice", prompt="choice"), tmp_path, judge)
    assert found["score"] == pytest.approx(share) and len(server.requests) == asked


def test_a_yes_in_other_words_is_read_by_the_judge(server, tmp_path):
    row = {"answer": "Yes", "l2-category": "chart", "index": "1_VD_chart_0_0_0"}
    write_rows(tmp_path / "Toy.tsv", [{"image": picture(1), "question": "Is it?", **row}])
    path = tmp_path / "Toy.jsonl"
    path.write_text(json.dumps({"index": row["index"], "prediction": "Indeed."}) + "\n")
    server.say = lambda request: "Yes"
    found = score(path, benchmark("hallusion_aggregate"), tmp_path, judge_at(server, tmp_path, choices=True))
    assert (found["score"], found["failed_extractions"]) == (100.0, 0.0)


def test_rules_that_need_no_judge_ask_none(server, tmp_path):
    path = answer(tmp_path, [{"answer": "x"}], ["x"])
    found = score(path, benchmark("exact_match"), tmp_path, judge_at(server, tmp_path, choices=True))
    assert (found["judge"], server.requests) == ("not needed", [])


READ = {
    "0.5": 0.5, " 1.0": 1.0, "0": 0.0, "1": 1.0, ".5": 0.5, "1.": 1.0, "0.": 0.0, "0,5": 0.5, "1e-1": 0.1,
    "0.5.": 0.5, "0.7 because": 0.7, "1 because": 1.0, "0.7 - one part is missing": 0.7,
    "0.7\n\nIt names a chair.": 0.7,
    "Mark: 0.5": 0.5, "mark = .5": 0.5, "Score: 1": 1.0, "The mark is 0.5.": 0.5, "I would give 0.3": 0.3,
    "**0.5**": 0.5, "**Mark:** 0.5": 0.5, "`0.5`": 0.5, "[0.5]": 0.5, '"0.5"': 0.5, "(0.5)": 0.5,
    "<think>1/10? No, 0.2.</think>0.4": 0.4, "<think>hm</think>\n\nMark: 0.4": 0.4,
}  # fmt: skip
NOT_READ = [
    "1/10", "1 / 10", "0.5/1", "1 out of 10", "1 of 2", "50%", "0.5 %", "1 percent", "1%", "0.4-0.6", "0-1",
    "0.4 – 0.6", "0.4 to 0.6", "0.4 or 0.5", "0.4 and 0.5", "0.4, 0.5", "0.4 0.5", "between 0.4 and 0.6",
    "1.1", "10", "7", "-0.5", "+-0.5", "1:10", "1,000", "1.0.0", "1st", "0.5x", "x", "", "one", "½", "1/",
    "It has 1 of 2 parts", "0.4~0.6", "0...1", "<think>0.5", "nan", "inf", "1e1", "0.1.2026", "٠.٥",
    "1. It names", "1) It names", "1 part is missing", "0 parts",
]  # fmt: skip


@pytest.mark.parametrize(("reply", "mark"), [*READ.items(), *((reply, None) for reply in NOT_READ)])
def test_a_mark_is_a_number_from_0_to_1_or_nothing(reply, mark):
    assert read_mark(last_words(Reply(reply))) == mark


@pytest.mark.parametrize(
    ("reply", "mark"), [("0.", None), ("The mark is 0.", None), ("0.7 because", 0.7), ("Mark: 1", None)]
)
def test_the_last_word_of_a_reply_that_was_cut_off_is_not_read(reply, mark):
    assert read_mark(last_words(Reply(reply, cut_off=True))) == mark


def test_a_letter_behind_thoughts_or_the_prompts_own_last_word_is_read(server, tmp_path):
    path = answer(tmp_path, [OPTIONS] * 2, ["the animal that barks", "no animal that I know"])
    server.say = lambda request: (
        "<think>A barks?</think>\nLetter: **B**" if "barks |" in request["messages"][0]["content"] else "Z"
    )
    judge = judge_at(server, tmp_path, choices=True)
    assert score(path, benchmark("multiple_choice", prompt="choice"), tmp_path, judge)["score"] == 50.0
