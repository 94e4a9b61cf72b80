"""Addresses to listen on: `host:port`."""

from __future__ import annotations


def split_host_port(address: str) -> tuple[str, int]:
    """Split `host:port`, `[v6]:port` or `:port` (every interface). Port 0 means any free port.

    Raises ValueError; its text says what is wrong.
    """
    host, colon, port_text = address.rpartition(":")
    if not colon or not (port_text.isascii() and port_text.isdigit()) or int(port_text) > 65535:
        raise ValueError(f"{address!r} is not host:port with a port from 0 to 65535")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{address!r} needs brackets around its IPv6 host, as in [::1]:8080")
    return host or "0.0.0.0", int(port_text)
