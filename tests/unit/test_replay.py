"""The replay reads logs strictly and misses no difference between log and server."""

from __future__ import annotations

import gzip
import io
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench.replay.books import Books
from bench.replay.comparison import Comparison, compare, compare_plays
from bench.replay.errors import ReplayError
from bench.replay.log import PracticeLog, read_log
from bench.replay.passes import joined, log_of_pass
from bench.replay.play import Play, SessionSeen
from bench.replay.report import Outcome, as_json, replayed, show
from bench.replay.seen import Seen
from bench.replay.sending import operations_of, with_repeats

XP = 10
HEADER = "learner,session,occurred_at,question_id,choice,correct"
QUESTIONS = [
    {"questionId": "P1", "prompt": "The middle value?", "choices": [], "accepted": ["median"]},
    {"questionId": "P2", "prompt": "The usual value?", "choices": [], "accepted": ["mean", "average"]},
    {"questionId": "P3", "prompt": "The commonest value?", "choices": [], "accepted": ["mode"]},
    {"questionId": "P4", "prompt": "The spread?", "choices": [], "accepted": ["range"]},
]
ROWS = [
    "ada,s1,2015-10-22T22:36:33.833Z,P1,mean,0",
    "bob,s1,2015-10-22T22:36:40.000Z,P1,median,1",
    "ada,s1,2015-10-22T22:37:01.858Z,P1,median,1",
    "ada,s1,2015-10-22T22:37:26.325Z,P2,,0",
    'ada,s2,2015-10-23T22:37:26.325Z,P1,"a, b",0',
]


def write_log(folder: Path, rows: Sequence[str] = ROWS, header: str = HEADER) -> Path:
    with gzip.open(folder / "answers.csv.gz", "wt", encoding="utf-8", newline="") as file:
        file.write("\n".join([header, *rows]) + "\n")
    lines = [json.dumps(question) for question in QUESTIONS]
    (folder / "questions.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def log(tmp_path: Path) -> PracticeLog:
    return read_log(write_log(tmp_path))


def test_a_log_is_read_by_learner_session_and_answer_in_its_own_order(log: PracticeLog) -> None:
    assert [question["questionId"] for question in log.questions] == ["P1", "P2", "P3", "P4"]
    assert [(each.name, [session.name for session in each.sessions]) for each in log.learners] == [
        ("ada", ["s1", "s2"]),
        ("bob", ["s1"]),
    ]
    first, second = log.learners[0].sessions
    assert [(each.question_id, each.choice, each.correct, each.attempt) for each in first.answers] == [
        ("P1", "mean", False, 1),
        ("P1", "median", True, 2),
        ("P2", "", False, 1),
    ]
    assert [(each.choice, each.attempt) for each in second.answers] == [("a, b", 1)]
    assert (first.questions_answered, first.right_at_last) == (2, 1)
    assert (log.session_count, log.answer_count) == (3, 5)


def test_every_step_of_a_log_has_a_key_of_its_own_and_the_same_one_each_time(
    log: PracticeLog, tmp_path: Path
) -> None:
    def keys(of: PracticeLog) -> list[str]:
        sessions = [session for learner in of.learners for session in learner.sessions]
        return [session.key(step) for session in sessions for step in ("start", "answer 1", "complete")]

    assert len(set(keys(log))) == 9
    assert keys(log) == keys(read_log(tmp_path))


def test_the_first_learners_of_a_log_are_a_log(log: PracticeLog) -> None:
    assert [learner.name for learner in log.first(1).learners] == ["ada"]
    assert log.first(1).answer_count == 4


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([*ROWS, "ada,s2,2015-10-24T00:00:00Z,P9,x,0"], "line 7: there is no question 'P9'"),
        ([*ROWS, "ada,s2,2015-10-24T00:00:00Z,P1,x,maybe"], "line 7: correct is 'maybe'"),
        ([*ROWS, "ada,s2,2015-10-24T00:00:00Z,P1,1"], "line 7: 5 columns"),
        ([*ROWS, "ada,s1,2015-10-24T00:00:00Z,P1,x,0"], "line 7: ada goes on with s1 after a later one"),
    ],
)
def test_a_row_that_cannot_be_played_is_named(tmp_path: Path, rows: list[str], complaint: str) -> None:
    with pytest.raises(ReplayError, match=complaint):
        read_log(write_log(tmp_path, rows))


def test_other_columns_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ReplayError, match="the columns are not learner, session"):
        read_log(write_log(tmp_path, header=HEADER.replace("choice", "answer")))


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("not json", "line 5: not a JSON"),
        ('{"questionId": "P9", "prompt": "?"}', "without accepted, choices"),
    ],
)
def test_a_question_that_cannot_be_imported_is_named(tmp_path: Path, line: str, complaint: str) -> None:
    write_log(tmp_path)
    with (tmp_path / "questions.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ReplayError, match=complaint):
        read_log(tmp_path)


def test_a_folder_without_a_log_and_a_torn_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ReplayError, match="cannot be read"):
        read_log(tmp_path)
    write_log(tmp_path)
    torn = (tmp_path / "answers.csv.gz").read_bytes()[:-20]
    (tmp_path / "answers.csv.gz").write_bytes(torn)
    with pytest.raises(ReplayError, match="cannot be read"):
        read_log(tmp_path)


def right_play(log: PracticeLog, *, replayed: bool = False) -> Play:
    """What a server that works answers."""
    digests = map(str, itertools.count())

    def seen(status: int = 200, **fields: Any) -> Seen:
        return Seen(status, replayed, next(digests), fields)

    sessions: dict[str, list[SessionSeen]] = {}
    for learner in log.learners:
        sessions[learner.name] = [
            SessionSeen(
                start=seen(201, sessionId=f"{learner.name}-{session.name}", resumed=False),
                answers=tuple(
                    seen(
                        questionId=answer.question_id,
                        correct=answer.correct,
                        attempts=answer.attempt,
                        total=len(log.questions),
                    )
                    for answer in session.answers
                ),
                complete=seen(state="COMPLETED", answered=session.questions_answered),
            )
            for session in learner.sessions
        ]
    return Play(sessions, seconds=2.0, latencies_seconds=[0.001, 0.002], retries=0)


def right_books(log: PracticeLog) -> dict[str, Books]:
    """What a server that works shows afterwards."""
    return {
        learner.name: Books(
            stats={
                "completedSessions": len(learner.sessions),
                "answers": sum(len(session.answers) for session in learner.sessions),
                "correct": sum(answer.correct for session in learner.sessions for answer in session.answers),
                "questionsAnswered": sum(session.questions_answered for session in learner.sessions),
                "xp": XP * len(learner.sessions),
                "version": len(learner.sessions),
            },
            sessions=[
                {
                    "sessionId": f"{learner.name}-{session.name}",
                    "state": "COMPLETED",
                    "attempt": number,
                    "answered": session.questions_answered,
                    "total": len(log.questions),
                    "score": session.right_at_last / len(log.questions),
                }
                for number, session in enumerate(learner.sessions, start=1)
            ],
        )
        for learner in log.learners
    }


def compared(log: PracticeLog, play: Play, books: dict[str, Books]) -> Comparison:
    return compare(log, play, books, xp_per_session=XP)


def told(comparison: Comparison) -> set[tuple[str, str, str, Any, Any]]:
    return {
        (each.learner, each.where, each.what, each.expected, each.found) for each in comparison.differences
    }


def test_a_server_that_did_everything_right_differs_in_nothing(log: PracticeLog) -> None:
    comparison = compared(log, right_play(log), right_books(log))
    assert comparison.differences == []
    assert (comparison.log.sessions, comparison.log.answers, comparison.log.right_answers) == (3, 5, 2)
    assert comparison.log.attempts == comparison.answers_of_gateway.attempts == 5
    assert comparison.stats.xp == comparison.log.xp == 30


@pytest.mark.parametrize(
    ("figure", "what"),
    [
        ("completedSessions", "sessions"),
        ("answers", "answers"),
        ("correct", "right answers"),
        ("questionsAnswered", "questions answered"),
        ("xp", "xp"),
    ],
)
@pytest.mark.parametrize("error", [-1, 1])
def test_a_wrong_count_in_the_stats_is_reported(log: PracticeLog, figure: str, what: str, error: int) -> None:
    books = right_books(log)
    stats = dict(books["bob"].stats)
    right = stats[figure]
    stats[figure] += error
    books["bob"] = replace(books["bob"], stats=stats)
    assert told(compared(log, right_play(log), books)) == {
        ("bob", "in /v1/stats", what, right, right + error)
    }


@pytest.mark.parametrize(
    ("field", "wrong"),
    [("state", "ACTIVE"), ("attempt", 3), ("answered", 3), ("total", 5), ("score", 0.5), ("score", None)],
)
def test_a_wrong_session_is_reported(log: PracticeLog, field: str, wrong: Any) -> None:
    books = right_books(log)
    session = dict(books["ada"].sessions[0])
    right = session[field]
    session[field] = wrong
    if wrong is None:
        del session[field]
    books["ada"] = replace(books["ada"], sessions=[session, *books["ada"].sessions[1:]])
    assert ("ada", "s1", field, right, wrong) in told(compared(log, right_play(log), books))


def test_a_missing_and_a_surplus_session_are_reported(log: PracticeLog) -> None:
    books = right_books(log)
    books["ada"] = replace(books["ada"], sessions=books["ada"].sessions[:1])
    bobs = [*books["bob"].sessions, {**books["bob"].sessions[0], "sessionId": "a ghost"}]
    books["bob"] = replace(books["bob"], sessions=bobs)
    found = told(compared(log, right_play(log), books))
    assert ("ada", "s2", "in /v1/sessions", "there", "missing") in found
    assert ("ada", "in /v1/sessions", "how many", 2, 1) in found
    assert ("bob", "in /v1/sessions", "how many", 1, 2) in found
    assert ("bob", "in /v1/sessions", "sessions", 1, 2) in found


def with_session(play: Play, learner: str, change: Callable[[SessionSeen], SessionSeen]) -> Play:
    """The play with something else in the learner's first session."""
    first, *others = play.sessions[learner]
    return replace(play, sessions={**play.sessions, learner: [change(first), *others]})


def with_answer(play: Play, number: int, change: Callable[[Seen], Seen]) -> Play:
    def changed(session: SessionSeen) -> SessionSeen:
        answers = list(session.answers)
        answers[number - 1] = change(answers[number - 1])
        return replace(session, answers=tuple(answers))

    return with_session(play, "ada", changed)


@pytest.mark.parametrize(
    ("field", "wrong", "right"),
    [("correct", True, False), ("attempts", 2, 1), ("questionId", "P2", "P1"), ("total", 3, 4)],
)
def test_a_wrong_answer_of_the_gateway_is_reported(
    log: PracticeLog, field: str, wrong: Any, right: Any
) -> None:
    play = with_answer(right_play(log), 1, lambda seen: replace(seen, fields={**seen.fields, field: wrong}))
    assert ("ada", "s1, answer 1 (P1)", field, right, wrong) in told(compared(log, play, right_books(log)))


def test_a_wrong_number_of_attempts_shows_in_the_totals_too(log: PracticeLog) -> None:
    play = with_answer(right_play(log), 2, lambda seen: replace(seen, fields={**seen.fields, "attempts": 1}))
    assert ("ada", "in the answers", "attempts", 4, 3) in told(compared(log, play, right_books(log)))


def test_refused_steps_are_reported_with_their_reason(log: PracticeLog) -> None:
    def refused(seen: Seen) -> Seen:
        return replace(seen, status=409, fields={"reason": "SESSION_CLOSED", "detail": "It is over"})

    problem = "409 SESSION_CLOSED It is over"
    books = right_books(log)
    answer = told(compared(log, with_answer(right_play(log), 3, refused), books))
    assert ("ada", "s1, answer 3 (P2)", "answer", "accepted", problem) in answer
    assert ("ada", "in the answers", "answers", 4, 3) in answer

    play = with_session(right_play(log), "bob", lambda seen: SessionSeen(refused(seen.start), (), None))
    start = told(compared(log, play, books))
    assert ("bob", "s1", "start", "a session of its own", problem) in start
    assert ("bob", "in the answers", "sessions", 1, 0) in start

    def incomplete(seen: SessionSeen) -> SessionSeen:
        assert seen.complete is not None
        return replace(seen, complete=refused(seen.complete))

    end = told(compared(log, with_session(right_play(log), "bob", incomplete), books))
    assert ("bob", "s1", "complete", "COMPLETED", problem) in end


def test_a_start_that_found_a_session_under_way_is_reported(log: PracticeLog) -> None:
    def resumed(seen: SessionSeen) -> SessionSeen:
        return replace(seen, start=replace(seen.start, fields={**seen.start.fields, "resumed": True}))

    found = told(compared(log, with_session(right_play(log), "bob", resumed), right_books(log)))
    assert found == {("bob", "s1", "start", "a session of its own", "resumed")}


def test_a_second_play_of_replays_that_changes_nothing_is_right(log: PracticeLog) -> None:
    books = right_books(log)
    again = right_play(log, replayed=True)
    differences = compare_plays(right_play(log), again, books, right_books(log))
    assert differences == []
    counts = replayed(again, differences)
    assert (counts.answers, counts.answers_replayed, counts.steps, counts.steps_replayed) == (5, 5, 11, 11)


def test_a_second_answer_that_is_no_replay_or_has_another_body_is_reported(log: PracticeLog) -> None:
    first, books = right_play(log), right_books(log)
    again = right_play(log, replayed=True)

    anew = with_answer(again, 2, lambda seen: replace(seen, replayed=False))
    (difference,) = compare_plays(first, anew, books, books)
    assert (difference.where, difference.expected) == ("session 1, answer 2", "a replay")
    assert replayed(anew, []).answers_replayed == 4

    other = with_answer(again, 2, lambda seen: replace(seen, digest="other"))
    (difference,) = compare_plays(first, other, books, books)
    assert (difference.where, difference.found) == ("session 1, answer 2", "200 other")

    status = with_session(again, "bob", lambda seen: replace(seen, start=replace(seen.start, status=200)))
    (difference,) = compare_plays(first, status, books, books)
    assert difference.where == "session 1, start"

    shorter = with_session(again, "bob", lambda seen: replace(seen, answers=()))
    assert any(each.what == "steps" for each in compare_plays(first, shorter, books, books))


def test_anything_that_a_second_play_changed_is_reported(log: PracticeLog) -> None:
    first, again = right_play(log), right_play(log, replayed=True)
    before, after = right_books(log), right_books(log)
    after["ada"] = replace(after["ada"], stats={**after["ada"].stats, "version": 9})
    after["bob"] = replace(after["bob"], sessions=[])
    places = {(each.learner, each.where) for each in compare_plays(first, again, before, after)}
    assert places == {("ada", "in /v1/stats"), ("bob", "in /v1/sessions")}


def test_the_report_shows_the_totals_and_every_difference(log: PracticeLog) -> None:
    books = right_books(log)
    books["ada"] = replace(books["ada"], stats={**books["ada"].stats, "correct": 7})
    play = right_play(log)
    outcome = Outcome(log, (play,), compared(log, play, books), all_counted=True, second=None)
    text = io.StringIO()
    show(Console(file=text, width=120), outcome)
    assert "ada in /v1/stats: right answers should be 1, is 7" in text.getvalue()
    assert "1 difference\n" in text.getvalue()
    plain = json.loads(json.dumps(as_json(outcome)))
    assert plain["totals"]["stats"]["right_answers"] == 8
    assert [each["what"] for each in plain["differences"]] == ["right answers"]


def test_each_pass_over_a_log_has_learners_and_keys_of_its_own(log: PracticeLog) -> None:
    passes = [log_of_pass(log, number) for number in (1, 2, 3)]
    assert passes[0] == log
    assert [each.answer_count for each in passes] == [log.answer_count] * 3
    names = [learner.name for each in passes for learner in each.learners]
    assert len(set(names)) == 3 * len(log.learners)
    keys = [
        session.key("start") for each in passes for learner in each.learners for session in learner.sessions
    ]
    assert len(set(keys)) == 3 * log.session_count


def test_the_outcome_of_several_passes_is_their_sum_and_hides_no_difference(log: PracticeLog) -> None:
    outcomes = []
    for number in (1, 2, 3):
        played = log_of_pass(log, number)
        play, books = right_play(played), right_books(played)
        first = played.learners[0].name
        if number == 2:
            wrong = {**books[first].stats, "xp": 0}
            books[first] = Books(wrong, books[first].sessions)
        comparison = compared(played, play, books)
        outcomes.append(
            Outcome(
                played, (play,), comparison, all_counted=number != 3, second=None, statuses={"200": number}
            )
        )
    outcome = joined(outcomes)
    assert joined(outcomes[:1]) is outcomes[0]
    assert (outcome.passes, outcome.log.answer_count) == (3, 3 * log.answer_count)
    assert outcome.comparison.log.answers == 3 * log.answer_count
    assert outcome.comparison.answers_of_gateway.answers == 3 * log.answer_count
    assert outcome.differences == outcomes[1].differences != []
    assert not outcome.all_counted
    assert not outcome.sound
    assert outcome.statuses == {"200": 6}
    assert set(outcome.plays[0].sessions) == {learner.name for learner in outcome.log.learners}
    assert as_json(outcome)["passes"] == 3


def test_a_shuffled_log_has_the_same_answers_counted_in_their_new_order(log: PracticeLog) -> None:
    orders = set()
    for seed in range(20):
        shuffled = log.shuffled(seed)
        assert shuffled == log.shuffled(seed)
        for before, after in zip(log.learners, shuffled.learners, strict=True):
            for one, other in zip(before.sessions, after.sessions, strict=True):
                assert sorted(answer.choice for answer in one.answers) == sorted(
                    answer.choice for answer in other.answers
                )
                counted: dict[str, list[int]] = {}
                for answer in other.answers:
                    counted.setdefault(answer.question_id, []).append(answer.attempt)
                assert all(attempts == list(range(1, len(attempts) + 1)) for attempts in counted.values())
        orders.add(tuple(answer.choice for answer in shuffled.learners[0].sessions[0].answers))
    assert len(orders) > 1


def test_each_operation_is_sent_one_to_three_times_first_in_its_order(log: PracticeLog) -> None:
    session = log.learners[0].sessions[0]
    operations = operations_of(session)
    times = set()
    for seed in range(50):
        sent = with_repeats(session, operations, seed)
        assert list(dict.fromkeys(sent_one.key for sent_one in sent)) == [each.key for each in operations]
        assert sent == with_repeats(session, operations, seed)
        counts = [[each.key for each in sent].count(operation.key) for operation in operations]
        times |= set(counts)
        completions = [place for place, each in enumerate(sent) if each.kind == "complete"]
        assert completions == list(range(completions[0], len(sent)))
    assert times == {1, 2, 3}
