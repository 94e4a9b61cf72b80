"""A store of session_service as a year of use leaves it, made by PostgreSQL itself.

Every row is one that the service could have written: each counter is its history, each verdict is right, and
attempts have no gaps. `tests/session/test_population.py` holds it to that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from chassis.postgres import Connection

SESSIONS_PER_LEARNER = 20
TESTS = 10
DAYS = 399
"""How long ago the first session began; within the retention of the timeline."""
KEYS_KEPT = timedelta(days=7)
BUILDER = 2
"""Changes with what is built."""
SLICE = 50_000
"""Sessions in one transaction."""
FILL = 85
"""How far PostgreSQL fills a page of sessions with new rows, in percent, by the schema."""
FILL_OF_OLD_PAGES = 87
"""How full the pages of the store are. A new row is shorter than one of a session that has ended, so many
pages that are filled to 85 % with old rows could take one new row each. PostgreSQL looks for such room before
it adds a page to the table. So a store that has grown by itself has none (docs/speed.md)."""
DRAWN = TESTS - 1
"""The test that asks only its easy questions, so its sessions have a drawn paper. It takes 30 days."""
HARD = 5
"""The questions of that test that are not easy: the first ones."""


def learner(number: int) -> str:
    return f"learner-{number:08d}"


def test_id(number: int) -> str:
    return f"bench-{number:02d}"


@dataclass(frozen=True, slots=True)
class SessionPopulation:
    """How large a store is.

    Attributes:
        sessions: how many, at least SESSIONS_PER_LEARNER; rounded down to whole learners.
        answers_per_session: on average, but for the few sessions that nobody answered; 2 to 100.
        live: whether one in 500 sessions is under way. If not, no hold may be open, so the store agrees with
            an empty subscription_service.
    """

    sessions: int
    answers_per_session: int = 10
    live: bool = True

    def __post_init__(self) -> None:
        if self.sessions < SESSIONS_PER_LEARNER:
            raise ValueError(f"at least {SESSIONS_PER_LEARNER} sessions")
        if not 2 <= self.answers_per_session <= 100:
            raise ValueError("2 to 100 answers per session")

    @property
    def signature(self) -> str:
        """Names what is built; see `kept_store`."""
        return f"{self!r}, builder {BUILDER}"

    @property
    def learners(self) -> int:
        return self.sessions // SESSIONS_PER_LEARNER

    @property
    def total(self) -> int:
        """How many sessions there are in fact: SESSIONS_PER_LEARNER for each learner."""
        return self.learners * SESSIONS_PER_LEARNER

    @property
    def questions(self) -> int:
        """How many questions a session asks."""
        return self.answers_per_session + 2


async def build(
    connection: Connection,
    population: SessionPopulation,
    *,
    told: Callable[[int], object] = lambda _: None,
    verify: bool = False,
) -> None:
    """Fill an empty, migrated database of session_service.

    Args:
        connection: of a superuser: the foreign keys are not checked row by row.
        population: what to make.
        told: called with the number of sessions that there are, after each slice.
        verify: check the foreign keys all the same, which takes about twice as long.
    """
    now: datetime = await connection.fetchval("SELECT date_trunc('second', now())")
    await connection.execute(_FUNCTIONS)
    await connection.execute(f"ALTER TABLE sessions SET (fillfactor = {FILL_OF_OLD_PAGES})")
    if not verify:
        await connection.execute("SET session_replication_role = replica")
    await connection.execute(_ADD_TESTS, population.questions, TESTS, DRAWN, HARD)
    for first in range(0, population.total, SLICE):
        last = min(first + SLICE, population.total) - 1
        await connection.execute(
            _ADD_SESSIONS,
            first,
            last,
            population.learners,
            population.answers_per_session,
            population.live,
            now,
            timedelta(days=DAYS) / population.total,
            now - KEYS_KEPT,
        )
        told(last + 1)
    await connection.execute("RESET session_replication_role")
    await connection.execute(f"ALTER TABLE sessions SET (fillfactor = {FILL})")
    await connection.execute("VACUUM (ANALYZE)")


# What looks like chance depends on the number of the session only, so that it can be told again.
_FUNCTIONS = """
    CREATE OR REPLACE FUNCTION pg_temp.chance(number bigint, salt integer, one_in integer) RETURNS boolean
    LANGUAGE sql IMMUTABLE AS $$ SELECT abs(hashint8(number * 64 + salt) % one_in) = 0 $$;

    CREATE OR REPLACE FUNCTION pg_temp.unused(number bigint) RETURNS boolean
    LANGUAGE sql IMMUTABLE AS $$ SELECT pg_temp.chance(number, 1, 50) $$;

    -- A UUID of version 7 whose other bits come from a number.
    CREATE OR REPLACE FUNCTION pg_temp.id_at(moment timestamptz, number bigint) RETURNS uuid
    LANGUAGE sql IMMUTABLE AS $$
        SELECT (lpad(to_hex((extract(epoch FROM moment) * 1000)::bigint), 12, '0')
                || '7' || substr(md5(number::text), 1, 3) || 'a' || substr(md5(number::text), 4, 15))::uuid
    $$;

    -- Fields of a protobuf message, with contents below 128 bytes, or numbers below 128.
    CREATE OR REPLACE FUNCTION pg_temp.message_field(number integer, content bytea) RETURNS bytea
    LANGUAGE sql IMMUTABLE AS $$
        SELECT set_byte(set_byte('\\x0000', 0, number * 8 + 2), 1, octet_length(content)) || content
    $$;
    CREATE OR REPLACE FUNCTION pg_temp.text_field(number integer, content text) RETURNS bytea
    LANGUAGE sql IMMUTABLE AS $$
        SELECT pg_temp.message_field(number, convert_to(content, 'UTF8'))
    $$;
    CREATE OR REPLACE FUNCTION pg_temp.number_field(number integer, content integer) RETURNS bytea
    LANGUAGE sql IMMUTABLE AS $$
        SELECT set_byte(set_byte('\\x0000', 0, number * 8), 1, content)
    $$;
"""

# Tests 0 to 4 have a time limit of an hour, 5 to 8 have none, and the last one has 30 days. Each fifth
# question takes free text.
_ADD_TESTS = """
    WITH made AS (
        SELECT number, 'bench-' || lpad(number::text, 2, '0') AS test_id,
               $1 + CASE WHEN number = $3 THEN $4 ELSE 0 END AS pool
          FROM generate_series(0, $2 - 1) AS number
    ), tests_made AS (
        INSERT INTO tests (test_id, revision, question_total, created_at)
        SELECT test_id, 1, pool, now() - interval '400 days' FROM made
    ), revisions_made AS (
        INSERT INTO test_revisions
               (test_id, revision, title, kind, difficulty, question_count, time_limit_seconds, credit_cost,
                counts_toward_daily_limit, pass_score, specialization, xp, question_ids)
        SELECT test_id, 1, 'Bench test ' || number, 'practice', CASE WHEN number = $3 THEN 'easy' ELSE '' END,
               $1, CASE WHEN number = $3 THEN 2592000 WHEN number < 5 THEN 3600 END, 0,
               true, 0.5, 'PLAYER', 10,
               ARRAY(SELECT 'q-' || lpad(place::text, 3, '0') FROM generate_series(0, $1 - 1) AS place)
          FROM made
    )
    INSERT INTO questions
           (test_id, question_id, position, prompt, choices, accepted, difficulty, subject, since_revision)
    SELECT test_id, 'q-' || lpad(place::text, 3, '0'), place, 'Question ' || place || ' of ' || test_id,
           CASE WHEN place % 5 = 4 THEN '{}' ELSE ARRAY['a', 'b', 'c', 'd'] END,
           ARRAY[CASE WHEN place % 5 = 4 THEN 'answer ' || place ELSE chr(97 + place % 4) END],
           CASE WHEN number = $3 THEN CASE WHEN place < $4 THEN 'hard' ELSE 'easy' END END, 'bench', 1
      FROM made
     CROSS JOIN LATERAL generate_series(0, pool - 1) AS place
"""

# Session `number` is the (number / learners)-th of its learner, so in the order of time the sessions of one
# learner lie far apart, as in life. Fates:
#   live       under way, answered, within its 30 days
#   unused     nobody answered: it lost its lease
#   left       the learner gave it up
#   closed     by an administrator
#   timed_out  the hour was over
#   idle       no time limit, and nothing for a day
#   submitted  handed in
# A pause of a minute comes after the first answer. The last answer of some sessions repeats the
# first question.
_ADD_SESSIONS = f"""
    WITH numbered AS (
        SELECT number, number / $3 AS turn, (number / $3) % {TESTS} AS test,
               'learner-' || lpad((number % $3)::text, 8, '0') AS user_id
          FROM generate_series($1::bigint, $2::bigint) AS number
    ), fated AS (
        SELECT *,
               CASE WHEN $5::boolean AND turn = {SESSIONS_PER_LEARNER - 1} AND pg_temp.chance(number, 2, 25)
                    THEN 'live'
                    WHEN pg_temp.unused(number) THEN 'unused'
                    WHEN pg_temp.chance(number, 3, 20) THEN 'left'
                    WHEN pg_temp.chance(number, 4, 100) THEN 'closed'
                    WHEN test < 5 AND pg_temp.chance(number, 5, 12) THEN 'timed_out'
                    WHEN test BETWEEN 5 AND {DRAWN - 1} AND pg_temp.chance(number, 6, 30) THEN 'idle'
                    ELSE 'submitted'
               END AS fate
          FROM numbered
    ), timed AS (
        SELECT *, 'bench-' || lpad(test::text, 2, '0') AS test_id,
               CASE WHEN fate = 'live'
                    THEN $6::timestamptz - interval '1 hour' + (number % 1800) * interval '1 second'
                    ELSE $6::timestamptz - interval '{DAYS + 2} days' + number * $7::interval
               END AS started_at,
               CASE WHEN fate = 'unused' THEN 0 ELSE $4::integer - 1 + (number % 3)::integer END AS given,
               fate NOT IN ('unused', 'live') AND pg_temp.chance(number, 8, 16) AS paused
          FROM fated
    ), planned AS MATERIALIZED (
        SELECT *, pg_temp.id_at(started_at, number) AS session_id,
               given >= 2 AND pg_temp.chance(number, 7, 8) AS repeats,
               started_at + CASE WHEN test = {DRAWN} THEN interval '30 days'
                                 WHEN test < 5 THEN interval '1 hour'
                            END
                          + CASE WHEN paused THEN interval '1 minute' ELSE interval '0' END AS deadline_at,
               CASE WHEN given > 0
                    THEN started_at + given * interval '20 seconds'
                         + CASE WHEN paused AND given >= 2 THEN interval '1 minute' ELSE interval '0' END
               END AS last_answer_at,
               started_at >= $8::timestamptz AS keyed
          FROM timed
    ), answered AS MATERIALIZED (
        SELECT number, user_id, session_id, keyed, place, question,
               'q-' || lpad(question::text, 3, '0') AS question_id,
               CASE WHEN repeats AND place = given THEN 2 ELSE 1 END AS attempt,
               place - CASE WHEN repeats AND place = given THEN 1 ELSE 0 END AS answered,
               repeats AND place = 1 AS superseded,
               NOT pg_temp.chance(number, 10 + place, 4) AS correct,
               started_at + place * interval '20 seconds'
                   + CASE WHEN paused AND place > 1 THEN interval '1 minute' ELSE interval '0' END
                   AS answered_at,
               place + 1 + CASE WHEN paused AND place > 1 THEN 2 ELSE 0 END AS version
          FROM planned
         CROSS JOIN LATERAL generate_series(1, given) AS place
         CROSS JOIN LATERAL (
               SELECT CASE WHEN test = {DRAWN} THEN {HARD} ELSE 0 END
                      + ((number + CASE WHEN repeats AND place = given THEN 1 ELSE place END)
                         % ($4::integer + 2))::integer AS question
               ) AS asked
    ), counted AS (
        SELECT number, count(*) FILTER (WHERE attempt = 1) AS answered,
               count(*) FILTER (WHERE correct AND NOT superseded) AS solved,
               count(*) FILTER (WHERE correct) AS correct
          FROM answered
         GROUP BY number
    ), ended AS MATERIALIZED (
        SELECT planned.*, coalesce(counted.answered, 0) AS answered, coalesce(counted.solved, 0) AS solved,
               coalesce(counted.correct, 0) AS correct,
               1 + given + CASE WHEN paused THEN 2 ELSE 0 END + CASE WHEN fate = 'live' THEN 0 ELSE 1 END
                   AS version,
               CASE fate WHEN 'live' THEN 'active'
                         WHEN 'submitted' THEN 'completed'
                         WHEN 'unused' THEN 'abandoned'
                         WHEN 'left' THEN 'abandoned'
                         ELSE 'expired'
               END AS state,
               CASE fate WHEN 'submitted' THEN 'submitted'
                         WHEN 'unused' THEN 'never_used'
                         WHEN 'left' THEN 'learner_left'
                         WHEN 'closed' THEN 'administrator'
                         WHEN 'timed_out' THEN 'timed_out'
                         WHEN 'idle' THEN 'lease_lost'
               END AS close_reason,
               CASE fate WHEN 'live' THEN NULL
                         WHEN 'unused' THEN started_at + interval '315 seconds'
                         WHEN 'timed_out' THEN deadline_at + interval '3 seconds'
                         WHEN 'idle' THEN last_answer_at + interval '1 day'
                         ELSE last_answer_at + interval '100 seconds'
               END AS closed_at,
               coalesce(counted.solved, 0)::double precision / ($4::integer + 2) AS score
          FROM planned
          LEFT JOIN counted USING (number)
    ), answers_made AS (
        INSERT INTO answers
               (user_id, session_id, question_id, attempt, choice, correct, occurred_at, answered_at, version,
                request_id)
        SELECT user_id, session_id, question_id, attempt,
               CASE WHEN question % 5 = 4
                    THEN CASE WHEN correct THEN ' Answer ' || question ELSE 'I do not know' END
                    ELSE chr(97 + (question + CASE WHEN correct THEN 0 ELSE 1 END) % 4)
               END,
               correct, answered_at - interval '1 second', answered_at, version,
               'request-' || number || '-' || place
          FROM answered
    ), events_made AS (
        INSERT INTO session_events
               (user_id, session_id, version, number, kind, happened_at, actor_id, request_id, reason, note)
        SELECT user_id, session_id, moved.version, 1, moved.kind, moved.happened_at, moved.actor_id,
               CASE WHEN moved.actor_id = '' THEN '' ELSE 'request-' || number || '-' || moved.kind END,
               moved.reason, moved.note
          FROM ended
         CROSS JOIN LATERAL (
               SELECT version, state AS kind, close_reason AS reason,
                      closed_at + CASE WHEN fate IN ('unused', 'timed_out', 'idle') THEN interval '2 seconds'
                                       ELSE interval '0'
                                  END AS happened_at,
                      CASE WHEN fate = 'closed' THEN 'admin'
                           WHEN fate IN ('submitted', 'left') THEN user_id
                           ELSE ''
                      END AS actor_id,
                      CASE WHEN fate = 'closed' THEN 'The learner asked for it' ELSE '' END AS note
                WHERE fate <> 'live'
                UNION ALL
               SELECT 3, 'paused', '', started_at + interval '25 seconds', user_id, ''
                WHERE paused
                UNION ALL
               SELECT 4, 'resumed', '', started_at + interval '85 seconds', user_id, ''
                WHERE paused
               ) AS moved
    ), keys_made AS (
        INSERT INTO idempotency_keys
               (user_id, method, key, state, fingerprint, response, created_at, content)
        SELECT user_id, '/homeroom.session.v1.SessionService/' || called.method,
               'key-' || number || '-' || called.method, 'completed',
               sha256(convert_to(number || called.method, 'UTF8')),
               pg_temp.message_field(1, pg_temp.text_field(1, session_id::text)
                                        || pg_temp.text_field(2, user_id) || pg_temp.text_field(3, test_id)
                                        || pg_temp.number_field(7, called.state)
                                        || pg_temp.number_field(15, (turn / {TESTS})::integer + 1)),
               called.at,
               test_id || '@1'
                   || CASE WHEN test = {DRAWN} THEN '/' || session_id || '/' || user_id ELSE '' END
          FROM ended
         CROSS JOIN LATERAL (
               SELECT 'CreateSession' AS method, started_at AS at, 1 AS state
                UNION ALL
               SELECT 'CompleteSession', closed_at, 3 WHERE fate = 'submitted'
                UNION ALL
               SELECT 'AbandonSession', closed_at, 4 WHERE fate = 'left'
               ) AS called
         WHERE keyed
         UNION ALL
        SELECT user_id, '/homeroom.session.v1.SessionService/AnswerQuestion',
               'key-' || number || '-' || place, 'completed',
               sha256(convert_to(number || '-' || place, 'UTF8')),
               pg_temp.text_field(1, question_id)
                   || CASE WHEN correct THEN pg_temp.number_field(2, 1) ELSE '' END
                   || pg_temp.number_field(3, attempt) || pg_temp.number_field(4, answered)
                   || pg_temp.number_field(5, $4::integer + 2),
               answered_at, ''
          FROM answered
         WHERE keyed
    )
    INSERT INTO sessions
           (user_id, session_id, hold_id, test_id, revision, attempt, state, title, kind, difficulty,
            metadata, total, answered, solved, answers_given, answers_correct, version, started_at,
            deadline_at, last_answer_at, submitted_at, closed_at, close_reason, score, passed, paused_seconds,
            engaged_seconds, drawn, heartbeat_seq, seen_at, lease_check_at, start_request_id, attempts_before)
    SELECT user_id, session_id, pg_temp.id_at(started_at, -number - 1), test_id, 1, turn / {TESTS} + 1,
           state,
           'Bench test ' || test, 'practice', CASE WHEN test = {DRAWN} THEN 'easy' ELSE '' END,
           CASE WHEN number % 4 = 0 THEN jsonb_build_object('class', '7b') ELSE '{{}}' END,
           $4::integer + 2, answered, solved, given, correct, version, started_at, deadline_at,
           last_answer_at, CASE WHEN fate = 'submitted' THEN closed_at END, closed_at, close_reason,
           CASE WHEN fate <> 'live' THEN score END,
           CASE WHEN fate <> 'live' THEN fate IN ('submitted', 'closed', 'timed_out') AND score >= 0.5 END,
           CASE WHEN paused THEN 60 ELSE 0 END, given * 18,
           CASE WHEN test = {DRAWN}
                THEN ARRAY(SELECT generate_series({HARD}, {HARD} + $4::integer + 1)::smallint)
           END,
           greatest(given, 1), coalesce(last_answer_at, started_at + interval '15 seconds'),
           CASE WHEN fate = 'unused' THEN started_at + interval '315 seconds' END,
           'request-' || number,
           (SELECT count(*)
              FROM generate_series(0, turn / {TESTS} - 1) AS earlier
             WHERE NOT pg_temp.unused((earlier * {TESTS} + test) * $3 + number % $3))
      FROM ended
"""  # noqa: S608 - our own numbers
