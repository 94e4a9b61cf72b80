"""How a fault is planted: a function that does harm, the check that must find it, and what it must say."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from chassis.diagnostics.findings import Severity
from tests.environment.world import World

Plant = Callable[[World], Awaitable[None]]


@dataclass(frozen=True)
class Planting:
    check: str
    process: str
    severity: Severity
    says: str
    also: frozenset[str]
    """Other checks that rightly find something as well."""
    plant: Plant

    @property
    def harms_database(self) -> bool:
        return not self.plant.__module__.endswith("machines")

    def __str__(self) -> str:
        return f"{self.check}-{self.plant.__name__}"


PLANTINGS: list[Planting] = []


def planting(check: str, process: str, severity: Severity, says: str, *also: str) -> Callable[[Plant], Plant]:
    """Register a fault; names of checks are without `environment.`."""

    def register(plant: Plant) -> Plant:
        PLANTINGS.append(
            Planting(
                f"environment.{check}",
                process,
                severity,
                says,
                frozenset(f"environment.{each}" for each in also),
                plant,
            )
        )
        return plant

    return register
