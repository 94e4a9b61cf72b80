"""Quick frozen dataclasses behave as frozen dataclasses."""

from __future__ import annotations

import dataclasses
import inspect
from dataclasses import dataclass, field, replace

import pytest

from chassis.frozen import quick, replaced


@quick
@dataclass(frozen=True, slots=True)
class Point:
    x: int
    y: int = 2
    name: str = field(default="p", kw_only=True)

    @property
    def sum(self) -> int:
        return self.x + self.y


@dataclass(frozen=True, slots=True)
class Usual:
    x: int
    y: int = 2
    name: str = field(default="p", kw_only=True)


def test_an_instance_has_its_fields_and_defaults() -> None:
    assert Point(1) == Point(x=1, y=2, name="p")
    assert dataclasses.astuple(Point(3, 4, name="q")) == (3, 4, "q")
    assert type(Point(1)) is Point
    assert Point(1).sum == 3


def test_an_instance_cannot_be_changed() -> None:
    point = Point(1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        point.x = 2  # type: ignore[misc]  # this is what must fail
    with pytest.raises(dataclasses.FrozenInstanceError):
        del point.x


def test_it_compares_hashes_and_shows_itself_as_usual() -> None:
    assert hash(Point(1)) == hash(Usual(1))
    assert repr(Point(1)) == repr(Usual(1)).replace("Usual", "Point")
    assert Point(1) != Point(2)
    assert replace(Point(1), y=5) == Point(1, 5)
    assert list(inspect.signature(Point).parameters) == list(inspect.signature(Usual).parameters)


def test_an_instance_with_other_values_is_another_one() -> None:
    point = Point(1, name="q")
    other = replaced(point, y=5)
    assert (other, point) == (Point(1, 5, name="q"), Point(1, 2, name="q"))
    assert type(other) is Point
    with pytest.raises(dataclasses.FrozenInstanceError):
        other.x = 2  # type: ignore[misc]  # this is what must fail
    with pytest.raises(AttributeError):
        replaced(point, z=1)


@pytest.mark.parametrize("arguments", [(), (1, 2, 3)])
def test_wrong_arguments_are_refused(arguments: tuple[int, ...]) -> None:
    with pytest.raises(TypeError):
        Point(*arguments)
    with pytest.raises(TypeError):
        Point(1, z=1)  # type: ignore[call-arg]  # this is what must fail


def test_a_class_that_needs_more_is_refused() -> None:
    @dataclass(frozen=True)
    class Open:
        x: int

    @dataclass(frozen=True, slots=True)
    class Collecting:
        x: list[int] = field(default_factory=list)

    @dataclass(frozen=True, slots=True)
    class Checking:
        x: int

        def __post_init__(self) -> None:
            raise ValueError

    for unfit in (Open, Collecting, Checking):
        with pytest.raises(TypeError, match="cannot be made quickly"):
            quick(unfit)
