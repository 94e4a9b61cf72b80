"""Free TCP ports on the loopback interface."""

from __future__ import annotations

import random
import socket

# Below the range the system draws outgoing ports from: a client that keeps trying to reach a dead
# server's port in that range can end up connected to itself, and hold the port against its owner.
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
    """Different ports nobody listens on; RuntimeError when the machine has no more."""
    found: list[int] = []
    for port in random.sample(_CANDIDATES, len(_CANDIDATES)):
        if len(found) == count:
            return found
        if is_free(port):
            found.append(port)
    raise RuntimeError(f"no {count} free ports between {_CANDIDATES.start} and {_CANDIDATES.stop}")
