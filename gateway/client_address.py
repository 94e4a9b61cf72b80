"""The address of a client, which a trusted proxy may tell in a header."""

from __future__ import annotations

import ipaddress
import re
from enum import StrEnum

from multidict import CIMultiDictProxy

from gateway.networks import Networks, address_of

HOPS_MAX = 20

_FORWARDED_FOR = re.compile(r'(?:^|;)\s*for=(?:"([^"]*)"|([^;\s]*))', re.IGNORECASE)
_WITH_PORT = re.compile(r"\[([^\]]+)\](?::\d+)?|([0-9.]+):\d+")


class ForwardedHeader(StrEnum):
    """The header in which proxies tell the client's address. The other one is ignored: clients can set it."""

    X_FORWARDED_FOR = "X-Forwarded-For"
    FORWARDED = "Forwarded"


class ClientAddresses:
    """Finds the address that limits are counted by.

    Each proxy appends the address that it sees. So the client's address is the last one that does not belong
    to a trusted proxy; what stands before it is only what the client says.

    Args:
        proxies: the networks of the trusted proxies.
        header: the header that they write.
    """

    def __init__(self, *, proxies: Networks, header: ForwardedHeader) -> None:
        self.enabled = bool(proxies)
        """Whether any proxy is trusted. Otherwise the client is at the other end of the connection."""
        self._proxies = proxies
        self._header = header

    def trusts(self, peer: str | None) -> bool:
        """Whether this host is a proxy that tells the client's address."""
        return peer in self._proxies

    def find(self, headers: CIMultiDictProxy[str], *, peer: str | None, peer_address: str) -> str:
        """The client's address: an IPv4 address, or the network of an IPv6 address.

        Args:
            headers: those of the request.
            peer: the host at the other end of the connection.
            peer_address: its address as limits are counted by it.
        """
        if not self.trusts(peer):
            return peer_address
        told = ",".join(headers.getall(self._header, ()))
        for hop in reversed(told.split(",")[-HOPS_MAX:]):
            host = self._host(hop)
            if host in self._proxies:
                continue
            try:
                ipaddress.ip_address(host)
            except ValueError:  # not an address, such as "unknown"
                return peer_address
            return address_of((host,))
        return peer_address

    def _host(self, hop: str) -> str:
        text = hop.strip()
        if self._header is ForwardedHeader.FORWARDED:
            found = _FORWARDED_FOR.search(text)
            text = "" if found is None else found[1] or found[2] or ""
        with_port = _WITH_PORT.fullmatch(text)
        return text if with_port is None else with_port[1] or with_port[2]
