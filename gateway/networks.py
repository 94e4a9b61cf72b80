"""IP networks, as the configuration lists them (`10.0.0.0/8`, `::1`), and addresses as limits count them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

# The owner of one IPv6 address usually has a whole network with this prefix.
IPV6_PREFIX = 64

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Networks:
    """A set of networks. Raises ValueError for a text that is not a network."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks: tuple[_Network, ...] = tuple(map(ipaddress.ip_network, networks))
        self._contains = lru_cache(maxsize=1024)(self._look)

    def __bool__(self) -> bool:
        """Whether there are any networks."""
        return bool(self._networks)

    def __contains__(self, host: object) -> bool:
        """Whether an address, such as "127.0.0.1", is in one of the networks."""
        return bool(self._networks) and isinstance(host, str) and self._contains(host)

    def _look(self, host: str) -> bool:
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return False
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return any((mapped or address) in network for network in self._networks)


def check_networks(networks: Iterable[str]) -> str | None:
    """What is wrong with a list of networks, or None: for `rules(check=...)`."""
    try:
        Networks(networks)
    except ValueError as error:
        return str(error)
    return None


def host_of(peername: object) -> str:
    """The host of a socket's address; empty if it has none."""
    return str(peername[0]) if isinstance(peername, tuple) and peername else ""


def address_of(peername: object) -> str:
    """The client's address for the limits: an IPv4 address, or the network of an IPv6 address."""
    host = host_of(peername)
    if ":" not in host:
        return host
    address = ipaddress.IPv6Address(host.partition("%")[0])
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((address, IPV6_PREFIX), strict=False).network_address)
