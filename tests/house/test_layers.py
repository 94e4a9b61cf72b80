"""The layers hold without exceptions: import-linter checks them, this checks what it is told."""

from __future__ import annotations

import tomllib
from typing import Any

from tests.house.sources import ROOT, SERVICES, told

EXCEPTIONS = ("ignore_imports", "allow_indirect_imports")


def settings() -> dict[str, Any]:
    """What import-linter is told."""
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return found["tool"]["importlinter"]


def test_no_contract_has_an_exception() -> None:
    faults = [
        f"{contract['name']}: {exception}"
        for contract in settings()["contracts"]
        for exception in EXCEPTIONS
        if exception in contract
    ]
    assert not faults, told(faults)


def test_each_service_and_each_room_of_the_chassis_is_in_its_layers() -> None:
    layers = [contract for contract in settings()["contracts"] if contract["type"] == "layers"]
    assert all(contract["exhaustive"] for contract in layers)
    assert sorted(str(contract["containers"]) for contract in layers) == sorted(
        str(containers) for containers in (["chassis"], list(SERVICES))
    )


def test_each_package_is_checked() -> None:
    checked = set(settings()["root_packages"])
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages - checked == {"tests", "bench"}
