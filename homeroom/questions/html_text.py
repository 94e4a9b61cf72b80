"""HTML, as question editors write it, reduced to text; what is lost is told.

The tags are found by a scan of our own: on many versions of Python, `html.parser` takes quadratic time for
unclosed tags (CVE-2025-6069).
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

HTML_CHARACTERS_MAX = 200_000

_BLOCKS = frozenset(
    {
        *("address", "article", "aside", "blockquote", "dd", "div", "dl", "dt", "fieldset", "figcaption"),
        *("figure", "footer", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li", "main", "nav", "ol"),
        *("p", "pre", "section", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul"),
    }
)
_HIDDEN = frozenset({"script", "style", "template", "head", "title", "object", "noscript"})
_LOSSES = {
    "img": "an image",
    "audio": "a sound",
    "video": "a video",
    "iframe": "an embedded page",
    "object": "an embedded object",
    "svg": "a drawing",
    "math": "the form of a formula",
    "table": "the form of a table",
    "a": "the target of a link",
    "script": "a script",
    "input": "an input field",
}
_MARKS = {"sup": "^", "sub": "_"}


class HtmlTooLargeError(Exception):
    """The text has more than HTML_CHARACTERS_MAX characters."""


def text_of_html(text: str) -> tuple[str, tuple[str, ...]]:
    """The text of a piece of HTML, and what of it is lost, in plain words.

    White space is collapsed, except in `pre`. Blocks become lines. Raised and lowered text is marked with `^`
    and `_`.

    Raises:
        HtmlTooLargeError: there is too much of it.
    """
    if len(text) > HTML_CHARACTERS_MAX:
        raise HtmlTooLargeError
    reducer = Reducer()
    for token in _tokens(text):
        if isinstance(token, str):
            reducer.add_text(_unescaped(token))
        elif token.closing:
            reducer.end(token.name)
        else:
            reducer.start(token.name, token.attributes)
    return reducer.text(), tuple(dict.fromkeys(reducer.losses))


class _Tag(NamedTuple):
    name: str
    closing: bool
    attributes: Mapping[str, str]


def _tokens(text: str) -> Iterator[str | _Tag]:
    """Tags and the text between them. What is no whole tag is text; an open comment goes to the end."""
    position = 0
    while position < len(text):
        opened = text.find("<", position)
        if opened < 0 or text.find(">", opened) < 0:
            yield text[position:]
            return
        if opened > position:
            yield text[position:opened]
        if text.startswith("<!--", opened):
            closed = text.find("-->", opened + 4)
            position = len(text) if closed < 0 else closed + 3
            continue
        named = _TAG_NAME.match(text, opened)
        if named is None:
            is_declaration = text.startswith(("<!", "<?"), opened)
            position = text.find(">", opened) + 1 if is_declaration else opened + 1
            if not is_declaration:
                yield "<"
            continue
        whole = _REST_OF_TAG.match(text, named.end())
        position = whole.end() if whole is not None else text.find(">", opened) + 1
        name = named["name"].lower()
        inside = text[named.end() : position]
        wanted = _ATTRIBUTES.get(name)
        found = wanted.search(inside) if wanted is not None else None
        attributes = {found["name"].lower(): _unescaped(found["value"].strip("\"'"))} if found else {}
        yield _Tag(name, bool(named["slash"]), attributes)
        if name in {"script", "style"} and not named["slash"]:
            ended = re.compile(f"</{name}", re.IGNORECASE).search(text, position)
            position = len(text) if ended is None else ended.start()


_TAG_NAME = re.compile(r"<(?P<slash>/?)(?P<name>[a-zA-Z][a-zA-Z0-9:-]*+)")
_REST_OF_TAG = re.compile(r"""(?:[^>"']++|"[^"]*+"|'[^']*+')*+>""")
_ATTRIBUTES = {
    tag: re.compile(rf"""\s(?P<name>{name})\s*+=\s*+(?P<value>"[^"]*"|'[^']*'|[^\s>"']+)""", re.IGNORECASE)
    for tag, name in {"img": "alt", "a": "href"}.items()
}


def _unescaped(text: str) -> str:
    try:
        return html.unescape(text)
    except ValueError:  # a character reference with thousands of digits
        return text


class Reducer:
    """Takes tags and text, from HTML or from a tree, and makes text of them; `losses` has what is lost."""

    def __init__(self) -> None:
        self.losses: list[str] = []
        self._parts: list[str] = []
        self._hidden = 0
        self._preserved = 0

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """A tag begins."""
        if tag in _LOSSES and not (tag == "a" and not attributes.get("href")):
            self.losses.append(_LOSSES[tag])
        if tag in _HIDDEN:
            self._hidden += 1
        elif tag == "br":
            self._parts.append("\n")
        elif tag == "img":
            alternative = " ".join(attributes.get("alt", "").split())
            self._parts.append(f"[image: {alternative}]" if alternative else "[image]")
        elif tag in _BLOCKS:
            self._break()
            if tag == "li":
                self._parts.append("- ")
        elif tag in _MARKS:
            self._parts.append(_MARKS[tag])
        if tag == "pre":
            self._preserved += 1

    def end(self, tag: str) -> None:
        """A tag ends."""
        if tag in _HIDDEN:
            self._hidden = max(0, self._hidden - 1)
        elif tag in _BLOCKS:
            self._break()
        if tag == "pre":
            self._preserved = max(0, self._preserved - 1)

    def add_text(self, text: str) -> None:
        """Text between the tags."""
        if not self._hidden:
            self._parts.append(text if self._preserved else re.sub(r"[ \t\r\n\f]+", " ", text))

    def text(self) -> str:
        """The text, without the spaces and empty lines that only the markup made."""
        text = "".join(self._parts)
        lines = [re.sub(r"[ \t]{2,}", " ", line).strip(" \t") for line in text.split("\n")]
        return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n ")

    def _break(self) -> None:
        while self._parts and self._parts[-1] == " ":  # white space between two tags
            self._parts.pop()
        if self._parts and not self._parts[-1].endswith("\n"):
            self._parts.append("\n")
