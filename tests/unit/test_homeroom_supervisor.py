"""What the supervisor decides before anything runs, and what it says to a newcomer."""

from __future__ import annotations

from pathlib import Path

from homeroom.ports import free_ports
from homeroom.services import SERVICES
from homeroom.supervisor import Stack, _opened_way


def test_every_process_gets_two_ports_of_its_own_and_the_gateway_the_wanted_one(tmp_path: Path) -> None:
    (wanted,) = free_ports(1)
    addresses = Stack(tmp_path / "data", port=wanted)._choose_addresses()
    ports = [port for address in addresses.values() for port in (address.port, address.ops_port)]
    assert set(addresses) == {service.package for service in SERVICES}
    assert len(set(ports)) == 2 * len(SERVICES)
    assert addresses["gateway"].port == wanted


def test_root_is_told_what_was_opened_for_whom_and_that_nothing_need_be_done() -> None:
    line = _opened_way((Path("/root"), Path("/root/work")), "postgres")
    assert "PostgreSQL refuses to run as root" in line
    assert "another system user (postgres)" in line
    assert "/root, /root/work (chmod o+x), but not list" in line
    assert line.endswith("You need not do anything.")
