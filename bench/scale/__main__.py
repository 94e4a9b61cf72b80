"""`python -m bench.scale SERVICE`: what a service costs in a small store, and in large ones."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console

from bench.scale.measuring import BATCH, Subject
from bench.scale.progress_subject import ProgressSubject
from bench.scale.run import Order, report, run_scale
from bench.scale.session_subject import SessionSubject
from bench.scale.subscription_subject import SubscriptionSubject

SUBJECTS: Mapping[str, Callable[[], Subject]] = {
    "session": SessionSubject,
    "subscription": SubscriptionSubject,
    "progress": ProgressSubject,
}
WIDTH = 190


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("service", choices=SUBJECTS)
    parser.add_argument("--sizes", type=int, nargs="+", help="rows: sessions, holds or completions")
    parser.add_argument("--batches", type=int, default=15, help=f"batches of {BATCH} per step and round")
    parser.add_argument("--pairs", type=int, default=15, help="rounds in each store, which take turns")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--data", type=Path, help="a folder for the stores; none: a temporary one")
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    chosen = parser.parse_args()
    make_subject = SUBJECTS[chosen.service]
    order = Order(
        sizes=chosen.sizes or make_subject().sizes,
        batches=chosen.batches,
        pairs=chosen.pairs,
        seed=chosen.seed,
        data=chosen.data,
    )
    console = Console(width=WIDTH)
    stores, plans = asyncio.run(run_scale(make_subject, order, console))
    return 0 if report(console, stores, plans, output=chosen.output) else 1


if __name__ == "__main__":
    sys.exit(main())
