"""Slow salted hashes of identity answers, in a few threads, so that the event loop goes on."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from chassis.errors import Reason, ServiceError
from session_service.domain.identity import HashedAnswer

SALT_BYTES = 16
DIGEST_BYTES = 32
MEMORY_BYTES_MAX = 256 * 1024 * 1024
# Each hash takes about a quarter of a second and 16 MiB.
THREADS = 2
WAITING_MAX = 40
# Enrollments leave places for answers to checks, which have little time.
ENROLLING_MAX = 30
# An enrollment has 10 answers. Nobody else may use so many places at once.
WAITING_PER_LEARNER_MAX = 10
RETRY_AFTER_SECONDS = 2.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ScryptCost:
    """The parameters of scrypt (RFC 7914): `n` blocks of `r` times 128 bytes, `p` times."""

    n: int
    r: int
    p: int

    @classmethod
    def parse(cls, text: str) -> ScryptCost:
        """The parameters that `str` wrote; raises ValueError for any other text."""
        name, n, r, p = text.split(":")
        if name != "scrypt":
            raise ValueError(f"{name!r} is no known hash")
        return cls(int(n), int(r), int(p))

    def __str__(self) -> str:
        return f"scrypt:{self.n}:{self.r}:{self.p}"


# One of the settings of equal strength in OWASP's Password Storage Cheat Sheet: the one with 16 MiB, because
# two hashes run at once, beside everything else that a small machine does.
OWASP_COST = ScryptCost(n=2**14, r=8, p=5)


class AnswerHashing:
    """Hashes and compares answers in threads of its own. What cannot begin soon is refused.

    Args:
        cost: the parameters of new hashes. A stored hash is compared with its own parameters.
    """

    def __init__(self, *, cost: ScryptCost = OWASP_COST) -> None:
        self._cost = cost
        self._threads = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="identity-hash")
        self._waiting: Counter[str] = Counter()

    async def hash_answers(self, owner: str, answers: list[str]) -> list[HashedAnswer]:
        """A hash for each normalized answer, each with a random salt of its own.

        Raises:
            ServiceError: OVERLOADED, when too many hashes wait already; none of these is made.
        """
        work = [partial(_hashed, answer, self._cost) for answer in answers]
        return await self._run(owner, work, waiting_max=ENROLLING_MAX)

    async def matches(self, owner: str, answer: str, stored: HashedAnswer) -> bool:
        """Whether the normalized answer is the stored one; takes the same time either way.

        Raises:
            ServiceError: OVERLOADED, when too many hashes wait already.
        """
        work = [partial(_matches, answer, stored)]
        (found,) = await self._run(owner, work, waiting_max=WAITING_MAX)
        return found

    async def _run(self, owner: str, work: Sequence[Callable[[], T]], *, waiting_max: int) -> list[T]:
        of_owner = self._waiting[owner] + len(work) > WAITING_PER_LEARNER_MAX
        if of_owner or self._waiting.total() + len(work) > waiting_max:
            if not self._waiting[owner]:
                del self._waiting[owner]
            raise ServiceError(
                Reason.OVERLOADED,
                "Too many identity answers are being checked",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )
        loop = asyncio.get_running_loop()
        futures: list[Future[T]] = []
        for each in work:
            self._waiting[owner] += 1
            future = self._threads.submit(each)
            # The place is free when the thread is done, also when nobody waits for the result any more.
            future.add_done_callback(lambda _: _tell(loop, self._ended, owner))
            futures.append(future)
        return list(await asyncio.gather(*map(asyncio.wrap_future, futures)))

    def _ended(self, owner: str) -> None:
        self._waiting[owner] -= 1
        if not self._waiting[owner]:
            del self._waiting[owner]


def _tell(loop: asyncio.AbstractEventLoop, ended: Callable[[str], None], owner: str) -> None:
    with contextlib.suppress(RuntimeError):  # the process has ended its loop while a thread was still busy
        loop.call_soon_threadsafe(ended, owner)


def _hashed(answer: str, cost: ScryptCost) -> HashedAnswer:
    salt = os.urandom(SALT_BYTES)
    return HashedAnswer(salt, _digest(answer, salt, cost), str(cost))


def _matches(answer: str, stored: HashedAnswer) -> bool:
    return hmac.compare_digest(_digest(answer, stored.salt, ScryptCost.parse(stored.cost)), stored.digest)


def _digest(answer: str, salt: bytes, cost: ScryptCost) -> bytes:
    return hashlib.scrypt(
        answer.encode(),
        salt=salt,
        n=cost.n,
        r=cost.r,
        p=cost.p,
        maxmem=MEMORY_BYTES_MAX,
        dklen=DIGEST_BYTES,
    )
