"""Tables as answers: when a client wants CSV, and how it finds the next page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from gateway.answers import CSV, OK, Answer
from gateway.transcoding.csv_table import CsvTable

STATUS_OK = 200

_TEXT_CSV = "text/csv"
_JSON_RANGES = ("application/json", "application/*", "*/*")
_QUALITY = re.compile(r"q\s*=\s*(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)\s*", re.IGNORECASE)
_PAGE_TOKEN_NAMES = frozenset({"pageToken", "page_token"})
_PATH_CHARACTERS = "/%:@!$&'()*+,;=-._~"


def prefers_csv(accept: Sequence[str]) -> bool:
    """Whether the `Accept` header names text/csv, and no type of JSON with a higher quality.

    Of the same quality, JSON wins if it is named, and CSV if only a wildcard means JSON. RFC 9110, 12.5.1,
    leaves that choice to the server.
    """
    qualities = dict(_media_ranges(accept))
    csv = qualities.get(_TEXT_CSV, 0.0)
    if csv <= 0.0:
        return False
    named = next((name for name in _JSON_RANGES if name in qualities), None)
    if named is None:
        return True
    json = qualities[named]
    return csv > json or (csv == json and named != _JSON_RANGES[0])


def csv_answer(table: CsvTable, message: Any, *, path: str, query: str) -> Answer:
    """A page as a table; a `Link` to the next page, if there is one (RFC 8288)."""
    headers = [("Content-Disposition", f'attachment; filename="{table.name}.csv"'), ("Vary", "Accept")]
    token = message.next_page_token
    if token:
        parameters = [pair for pair in parse_qsl(query, keep_blank_values=True) if _is_kept(pair[0])]
        target = f"{quote(path, safe=_PATH_CHARACTERS)}?{urlencode([*parameters, ('pageToken', token)])}"
        headers.append(("Link", f'<{target}>; rel="next"'))
    return Answer(STATUS_OK, table.write(message), content_type=CSV, headers=tuple(headers), code=OK)


def _is_kept(name: str) -> bool:
    return name not in _PAGE_TOKEN_NAMES


def _media_ranges(accept: Sequence[str]) -> Iterator[tuple[str, float]]:
    """The media ranges in lower case, with their qualities. What cannot be read counts as not wanted."""
    for line in accept:
        for part in line.split(","):
            name, *parameters = part.split(";")
            quality = 1.0
            for parameter in parameters:
                if parameter.strip().lower().startswith("q"):
                    found = _QUALITY.fullmatch(parameter.strip())
                    quality = float(found[1]) if found else 0.0
            yield name.strip().lower(), quality
