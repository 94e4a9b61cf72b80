"""A profile tells packages, functions and callers apart."""

from __future__ import annotations

from bench.measure.profiles import summarize

FOLDED = """\
main (gateway/run.py:10);handle (gateway/app.py:20);send (asyncpg/connection.py:377) 30
main (gateway/run.py:11);handle (gateway/app.py:25);verify (joserfc/jwt.py:9) 10
main (gateway/run.py:10);handle (gateway/app.py:31) 20
main (gateway/run.py:10);loop (base_events.py:600) 40
"""


def test_a_function_is_one_whichever_of_its_lines_was_hit():
    profile = summarize(FOLDED)
    assert profile.samples == 100
    assert profile.by_function == {
        "loop (base_events.py)": 0.4,
        "send (asyncpg/connection.py)": 0.3,
        "handle (gateway/app.py)": 0.2,
        "verify (joserfc/jwt.py)": 0.1,
    }


def test_a_file_outside_any_package_is_pythons_own():
    assert summarize(FOLDED).by_package == {"python": 0.4, "asyncpg": 0.3, "gateway": 0.2, "joserfc": 0.1}


def test_callers_that_are_everywhere_or_scaffolding_are_left_out():
    assert summarize(FOLDED).by_caller == {
        "handle (gateway/app.py)": 0.6,
        "send (asyncpg/connection.py)": 0.3,
        "verify (joserfc/jwt.py)": 0.1,
    }


def test_a_recursive_function_counts_once_per_sample():
    profile = summarize("f (a/b.py:1);g (a/b.py:9);f (a/b.py:2) 5\nh (a/c.py:1) 5\n")
    assert profile.by_caller["f (a/b.py)"] == 0.5


def test_no_samples_are_no_profile():
    profile = summarize("")
    assert (profile.samples, dict(profile.by_package)) == (0, {})
