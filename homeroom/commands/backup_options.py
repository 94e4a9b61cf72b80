"""What the commands about backups share: their options, how they show progress, and how they are stopped."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, TypeVar

import asyncpg
import typer
from rich.markup import escape

from homeroom.commands.options import complaints, fail

T = TypeVar("T")


class Store(StrEnum):
    """A service that has a database, by the name of that."""

    SESSION = "session"
    PROGRESS = "progress"
    SUBSCRIPTION = "subscription"


ServiceOption = Annotated[
    list[Store] | None,
    typer.Option("--service", help="Only this service's database; may be repeated.", show_default="all"),
]


def chosen(services: list[Store] | None) -> list[str]:
    """The databases that are meant, each once."""
    wanted = services or list(Store)
    return [store.value for store in Store if store in wanted]


@dataclass(frozen=True, slots=True)
class Telling:
    """Lines on standard error: `say` for steps that are done, `show` for how far the one under way is."""

    say: Callable[[str], None]
    show: Callable[[str], None]


@contextmanager
def telling(first: str) -> Iterator[Telling]:
    """Tell a person what happens; what is under way is shown on a terminal only."""
    with complaints.status(escape(first)) as status:
        yield Telling(
            say=lambda line: complaints.print(escape(line), soft_wrap=True),
            show=lambda line: status.update(escape(line)),
        )


def run_to_end(work: Coroutine[Any, Any, T]) -> T:
    """Run the work of a command. A signal ends it in order; an error ends the command with one sentence."""
    try:
        return asyncio.run(_until_told(work))
    except asyncio.CancelledError:
        raise fail("stopped before the end") from None
    except (RuntimeError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise fail(escape(str(error) or type(error).__name__)) from error


async def _until_told(work: Coroutine[Any, Any, T]) -> T:
    running = asyncio.create_task(work)
    for told in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(told, running.cancel)
    return await running
