"""The file of requests that wrk plays: one whole HTTP request after another, all of one length.

Each has a learner, a token and an Idempotency-Key of its own. One length, so that the load generator
finds the n-th request by multiplication and spends no time on building it.
"""

from __future__ import annotations

import multiprocessing
import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from bench.load.identity import Identity

TEST_IDS = ("bench-01", "bench-02", "bench-03", "bench-04")
"""The load starts the first; the others are there to reach the daily limit of 3 (see conformance)."""

BODY = b'{"testId":"bench-01"}'
CHUNK = 500


@dataclass(frozen=True, slots=True)
class RequestFile:
    """The file is a ring: a run plays it from `first` on."""

    path: Path
    count: int
    record_bytes: int
    first: int = 0

    def after(self, sent: int) -> RequestFile:
        """Where the next run begins: a system that caches the tokens of the last run gains nothing."""
        return replace(self, first=(self.first + sent) % self.count)


def learner_id(index: int) -> str:
    return f"learner-{index:07d}"


def idempotency_key(index: int) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"bench/{index}"))


def request_record(identity: Identity, index: int) -> bytes:
    """The whole request of the index-th learner; every record has the same length."""
    head = (
        "POST /v1/sessions HTTP/1.1\r\n"
        "Host: localhost\r\n"
        f"Authorization: Bearer {identity.token(learner_id(index), 'learner')}\r\n"
        f'Idempotency-Key: "{idempotency_key(index)}"\r\n'
        "Content-Type: application/json\r\n"
        f"Content-Length: {len(BODY)}\r\n"
        "\r\n"
    )
    return head.encode() + BODY


def make_request_file(cache_directory: Path, count: int, advance: Callable[[int], None]) -> RequestFile:
    """The cached file, or a new one signed on every core; `advance` receives how many more are signed."""
    identity = Identity.load(cache_directory)
    record_bytes = len(request_record(identity, 0))
    path = cache_directory / f"starts-{identity.thumbprint[:12]}-{record_bytes}-{count}.bin"
    if not path.exists() or path.stat().st_size != count * record_bytes:
        draft = path.with_suffix(f".{os.getpid()}")
        with multiprocessing.get_context("spawn").Pool() as pool, draft.open("wb") as file:
            chunks = ((cache_directory, first, min(first + CHUNK, count)) for first in range(0, count, CHUNK))
            for records in pool.imap(_sign_chunk, chunks):
                file.write(records)
                advance(len(records) // record_bytes)
        draft.replace(path)
    else:
        advance(count)
    return RequestFile(path=path, count=count, record_bytes=record_bytes)


def learners(count: int) -> Iterator[str]:
    return (learner_id(index) for index in range(count))


def _sign_chunk(chunk: tuple[Path, int, int]) -> bytes:
    cache_directory, first, end = chunk
    identity = _identity(cache_directory)
    return b"".join(request_record(identity, index) for index in range(first, end))


@cache
def _identity(cache_directory: Path) -> Identity:
    """Each signing process reads the key once."""
    return Identity.load(cache_directory)
