"""What the four processes of a stack have logged as errors, over all their lives.

The counter of internal errors begins anew with each process; the log does not.
"""

from __future__ import annotations

from collections import Counter

import orjson

from homeroom.services import SERVICES
from homeroom.supervisor import Stack

_ERRORS = frozenset({"error", "critical"})


def logged_errors(stack: Stack) -> Counter[str]:
    """How often each error was logged, by process, event and problem; a line without JSON counts too.

    A critical finding of a check is no error of the process: tests lose a database, and restore an older one.
    """
    found: Counter[str] = Counter()
    for service in SERVICES:
        for line in stack.data.log(service.package).read_bytes().splitlines():
            try:
                event = orjson.loads(line)
            except orjson.JSONDecodeError:
                found[f"{service.package} {line.decode(errors='replace')}"] += 1
                continue
            if event.get("level") in _ERRORS and event.get("event") != "critical_finding":
                found[
                    " ".join([service.package, event.get("event", ""), event.get("problem", "")]).rstrip()
                ] += 1
    return found
