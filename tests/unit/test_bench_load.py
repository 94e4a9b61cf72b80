"""The load generators' words are read rightly, and the requests they play are what they should be."""

from __future__ import annotations

import msgspec
import pytest

from bench.actions import refuse_repetitions
from bench.load.actions import ACTORS, actions_of, make_action_file
from bench.load.identity import AUDIENCE, ISSUER, Identity
from bench.load.pgbench import parse_latencies, parse_outcome, percentile
from bench.load.requests import learner_id, make_request_file, request_record
from bench.load.wrk import Summary, parse_summary
from bench.peers.bearer import BearerVerifier, NotAuthenticatedError
from bench.results import Run

WRK_OUTPUT = """Running 3s test @ http://127.0.0.1:9901/v1/sessions
  2 threads and 64 connections
Requests/sec:   4129.55
Transfer/sec:      2.17MB
{"duration_us":3009050,"answered":12427,"sent":12489,"exhausted":0,"refused":0,"connect_errors":0,\
"read_errors":0,"write_errors":0,"timeouts":0,"p50_us":14360,"p90_us":29906,"p99_us":58371,"max_us":135768}
"""

PGBENCH_OUTPUT = """pgbench (18.4)
transaction type: bench/peers/pgbench/start.sql
number of clients: 64
number of transactions actually processed: 4
number of failed transactions: 1 (0.050%)
latency average = 6.153 ms
initial connection time = 81.204 ms
tps = 2.000000 (without initial connection time)
"""

PGBENCH_LOG = """0 1 4100 0 1763676000 100000
0 2 5200 0 1763676000 105200
1 1 3300 0 1763676000 99000
"""


def _summary(**changes: int) -> Summary:
    return msgspec.structs.replace(parse_summary(WRK_OUTPUT), **changes)


@pytest.fixture(scope="module")
def identity(tmp_path_factory) -> Identity:
    return Identity.load(tmp_path_factory.mktemp("bench-cache"))


def test_the_line_of_the_script_is_found_in_the_output_of_wrk():
    summary = parse_summary(WRK_OUTPUT)
    assert (summary.answered, summary.sent, summary.p99_us) == (12427, 12489, 58371)
    assert summary.problems == []


def test_an_output_without_that_line_is_refused():
    with pytest.raises(ValueError, match="nothing that can be read"):
        parse_summary("unable to connect to 127.0.0.1:9901 Connection refused")


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("refused", "3 answers of 400 and above"),
        ("connect_errors", "3 connections refused"),
        ("read_errors", "3 reads broken"),
        ("write_errors", "3 writes broken"),
        ("timeouts", "3 answers later than"),
        ("exhausted", "the request file ran out"),
    ],
)
def test_a_run_with_any_error_has_a_problem(field, words):
    (problem,) = _summary(**{field: 3}).problems
    assert words in problem


def test_pgbench_is_read_without_its_connection_time():
    outcome = parse_outcome(PGBENCH_OUTPUT, [3.3, 4.1, 5.2, 9.9], generator_cpu_seconds=0.5)
    assert (outcome.succeeded, outcome.sent, outcome.seconds, outcome.rate) == (4, 5, 2.0, 2.0)
    assert (outcome.p50_ms, outcome.p99_ms, outcome.max_ms) == (4.1, 9.9, 9.9)
    assert outcome.problems == ["1 failed transactions"]


def test_pgbench_that_aborted_is_refused():
    with pytest.raises(ValueError, match="nothing that can be read"):
        parse_outcome("pgbench: error: Run was aborted", [1.0], generator_cpu_seconds=0)


def test_latencies_are_the_third_column_of_the_log():
    assert parse_latencies(PGBENCH_LOG) == [4.1, 5.2, 3.3]


@pytest.mark.parametrize(("percent", "value"), [(1, 1.0), (50, 50.0), (90, 90.0), (99, 99.0), (100, 100.0)])
def test_a_percentile_is_a_value_that_was_measured(percent, value):
    assert percentile([float(number) for number in range(1, 101)], percent) == value


def test_one_value_is_every_percentile():
    assert {percentile([7.0], percent) for percent in (1, 50, 99, 100)} == {7.0}


def test_every_request_has_one_length_and_its_own_learner_token_and_key(identity):
    verifier = BearerVerifier(jwks=identity.jwks, issuer=ISSUER, audience=AUDIENCE)
    records = [request_record(identity, index).decode() for index in (0, 1, 99_999, 9_999_999)]
    assert len({len(record) for record in records}) == 1
    heads = [dict(line.split(": ", 1) for line in record.splitlines()[1:6]) for record in records]
    learners = [verifier.learner(head["Authorization"]) for head in heads]
    assert learners == [learner_id(index) for index in (0, 1, 99_999, 9_999_999)]
    assert len({head["Idempotency-Key"] for head in heads}) == len(heads)
    for record, head in zip(records, heads, strict=True):
        assert len(record.split("\r\n\r\n", 1)[1]) == int(head["Content-Length"])


def test_a_token_of_another_key_or_role_is_refused(identity, tmp_path):
    verifier = BearerVerifier(jwks=identity.jwks, issuer=ISSUER, audience=AUDIENCE)
    stranger = Identity.load(tmp_path)
    for token in (stranger.token("learner-1", "learner"), identity.token("learner-1", "admin"), "nonsense"):
        with pytest.raises(NotAuthenticatedError):
            verifier.learner(f"Bearer {token}")
    with pytest.raises(NotAuthenticatedError):
        verifier.learner("")


def test_the_request_file_is_signed_once_and_found_again(tmp_path):
    advanced: list[int] = []
    first = make_request_file(tmp_path, 700, advanced.append)
    assert sum(advanced) == 700
    assert first.path.stat().st_size == 700 * first.record_bytes
    content = first.path.read_bytes()
    again = make_request_file(tmp_path, 700, advanced.append)
    assert again == first
    assert again.path.read_bytes() == content
    identity = Identity.load(tmp_path)
    record = content[699 * first.record_bytes :]
    assert record == request_record(identity, 699)


def test_the_requests_of_an_action_have_one_length_and_keys_of_their_own(identity, tmp_path):
    tokens = [f"token-{index:04d}" for index in range(ACTORS)]
    (action,) = (each for each in actions_of("session-1") if each.name == "completions")
    file = make_action_file(action, identity, tokens, tmp_path)
    content = file.path.read_bytes()
    assert len(content) == file.count * file.record_bytes == ACTORS * action.rounds * file.record_bytes
    records = [content[at : at + file.record_bytes] for at in range(0, len(content), file.record_bytes)]
    assert all(record.startswith(b"POST /v1/lessons/bench-module-") for record in records)
    assert len({record.split(b"Idempotency-Key: ")[1].split(b"\r\n")[0] for record in records}) == file.count


def test_a_run_that_played_a_keyed_request_twice_is_invalid():
    run = Run(
        system="answers", connections=64, repeat=1, seconds=5.0, rate=1.0, p50_ms=1.0, p90_ms=1.0, p99_ms=1.0,
        max_ms=1.0, sent=60_000, succeeded=60_000, counts={}, cpu_us_per_start={},
        generator_cpu_us_per_start=0.0, bystanders_cores=0.0, elsewhere_cores=0.0, stolen_cores=0.0,
        problems=[],
    )  # fmt: skip
    good, bad = refuse_repetitions([run, run], {"answers": 120_000})
    assert (good.problems, bad.problems) == ([], ["requests were played twice: measure for a shorter time"])
    assert not refuse_repetitions([run, run], {})[1].problems
