"""The pages that need no token: the OpenAPI document, its viewer, and an explanation of each reason.

All are made once at the start, and nothing in them is loaded from another server.
"""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources

import orjson

from chassis.errors import Reason
from chassis.rpc.reasons import CODES
from gateway.answers import JSON, Answer, Headers, protection
from gateway.documents.explanations import explanation_of
from gateway.documents.openapi import openapi
from gateway.problems import PROBLEMS_PATH, type_of
from gateway.routes import Route

OPENAPI_PATH = "/openapi.json"
DOCS_PATH = "/docs"
HTML = "text/html; charset=utf-8"
CSS = "text/css; charset=utf-8"
JAVASCRIPT = "text/javascript; charset=utf-8"
NOT_MODIFIED = 304

# Browsers ask again each time, and get 304 while nothing has changed.
_PAGE = protection(
    cache_control="no-cache",
    content_security_policy=(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
)
_DOCS = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Homeroom API</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="viewer"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
# Without `validatorUrl: null` the viewer would send the document to a server of its authors.
_START = """\
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#viewer",
  deepLinking: true,
  validatorUrl: null,
});
"""
_STYLE = """\
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 45rem; margin: 2rem auto; padding: 0 1rem; }
code { background: #f1f1f1; padding: 0 .2em; }
dt { font-weight: 600; margin-top: .8rem; }
dd { margin: 0; }
"""
_CODE = re.compile(r"`([^`]+)`")


class Pages:
    """Every page by its path, with an ETag."""

    def __init__(self, routes: Sequence[Route], *, version: str) -> None:
        self._pages: Mapping[str, tuple[str, Answer]] = {
            path: _with_etag(answer) for path, answer in _answers(routes, version)
        }

    def get(self, path: str, *, if_none_match: str) -> Answer | None:
        """The page at a path; 304 if the client has it already; None if there is no such page."""
        page = self._pages.get(path)
        if page is None:
            return None
        etag, answer = page
        known = {each.strip().removeprefix("W/") for each in if_none_match.split(",")}
        if etag in known or "*" in known:
            return Answer(NOT_MODIFIED, b"", headers=answer.headers, protection=answer.protection)
        return answer


def _answers(routes: Sequence[Route], version: str) -> Iterator[tuple[str, Answer]]:
    yield OPENAPI_PATH, _page(orjson.dumps(openapi(routes, version=version)), JSON)
    yield DOCS_PATH, _page(_DOCS.encode(), HTML)
    yield f"{DOCS_PATH}/start.js", _page(_START.encode(), JAVASCRIPT)
    viewer = resources.files("gateway.documents") / "viewer"
    for name, content_type in (("swagger-ui.css", CSS), ("swagger-ui-bundle.js", JAVASCRIPT)):
        yield f"{DOCS_PATH}/{name}", _page((viewer / name).read_bytes(), content_type)
    yield f"{PROBLEMS_PATH}/style.css", _page(_STYLE.encode(), CSS)
    yield PROBLEMS_PATH, _page(_list_of_reasons().encode(), HTML)
    for reason in Reason:
        yield type_of(reason), _page(_reason_page(reason).encode(), HTML)


def _page(body: bytes, content_type: str) -> Answer:
    return Answer(200, body, content_type=content_type, protection=_PAGE)


def _with_etag(answer: Answer) -> tuple[str, Answer]:
    etag = f'"{hashlib.sha256(answer.body).hexdigest()[:32]}"'
    headers: Headers = (("ETag", etag),)
    return etag, Answer(
        answer.status, answer.body, answer.content_type, headers=headers, protection=answer.protection
    )


def _list_of_reasons() -> str:
    items = "\n".join(
        f'<li><a href="{type_of(reason).removeprefix("/")}">{reason.name}</a> ({CODES[reason].http}): '
        f"{html.escape(reason.title)}</li>"
        for reason in Reason
    )
    return _document("Problems of the Homeroom API", f"<ul>\n{items}\n</ul>", style="problems/style.css")


def _reason_page(reason: Reason) -> str:
    explanation = explanation_of(reason)
    facts = (
        ("HTTP status", str(CODES[reason].http)),
        ("Title", html.escape(reason.title)),
        ("When", _rich(explanation.when)),
        ("What to do", _rich(explanation.remedy)),
        ("Can the same request succeed later?", "yes" if reason.retryable else "no, not by itself"),
    )
    body = "\n".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in facts)
    return _document(
        reason.name, f'<dl>\n{body}\n</dl>\n<p><a href="../problems">All problems</a></p>', style="style.css"
    )


def _document(title: str, body: str, *, style: str) -> str:
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<title>{title}</title>\n<link rel="stylesheet" href="{style}">\n</head>\n'
        f"<body>\n<h1>{title}</h1>\n{body}\n</body>\n</html>\n"
    )


def _rich(text: str) -> str:
    return _CODE.sub(r"<code>\1</code>", html.escape(text))
