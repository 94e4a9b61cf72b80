"""`python -m homeroom`."""

from __future__ import annotations

from homeroom.app import app


def main() -> None:
    app(prog_name="homeroom")


if __name__ == "__main__":
    main()
