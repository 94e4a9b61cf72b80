"""Free TCP ports on the loopback interface."""

from __future__ import annotations

import random
import socket

# Below the range from which the system takes outgoing ports. In that range, a client that keeps trying to
# reach the port of a dead server can be connected to itself, and then the server cannot have its port back.
_CANDIDATES = range(20_000, 32_000)


def is_free(port: int) -> bool:
    """Whether a server could listen on 127.0.0.1 at this port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_ports(count: int) -> list[int]:
    """Different ports on which nothing listens; RuntimeError if the machine has too few."""
    found: list[int] = []
    for port in random.sample(_CANDIDATES, len(_CANDIDATES)):
        if len(found) == count:
            return found
        if is_free(port):
            found.append(port)
    raise RuntimeError(f"no {count} free ports between {_CANDIDATES.start} and {_CANDIDATES.stop}")
