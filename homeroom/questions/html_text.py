"""HTML, as question editors write it, reduced to text; what is lost is told."""

from __future__ import annotations

import re
from html.parser import HTMLParser

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
_PLUGIN_FILE = "@@PLUGINFILE@@"


class HtmlTooLargeError(Exception):
    """The text has more than HTML_CHARACTERS_MAX characters."""


def text_of_html(html: str) -> tuple[str, tuple[str, ...]]:
    """The text of a piece of HTML, and what of it is lost, in plain words.

    White space is collapsed, except in `pre`. Blocks become lines. Raised and lowered text is marked with `^`
    and `_`.

    Raises:
        HtmlTooLargeError: there is too much of it.
    """
    if len(html) > HTML_CHARACTERS_MAX:
        raise HtmlTooLargeError
    reducer = Reducer()
    reducer.feed(html)
    reducer.close()
    return reducer.text(), tuple(dict.fromkeys(reducer.losses))


class Reducer(HTMLParser):
    """Takes tags and text, from HTML or from a tree, and makes text of them; `losses` has what is lost."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.losses: list[str] = []
        self._parts: list[str] = []
        self._hidden = 0
        self._preserved = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _LOSSES and not (tag == "a" and not dict(attrs).get("href")):
            self.losses.append(_LOSSES[tag])
        if tag in _HIDDEN:
            self._hidden += 1
        elif tag == "br":
            self._parts.append("\n")
        elif tag == "img":
            alternative = " ".join((dict(attrs).get("alt") or "").split())
            self._parts.append(f"[image: {alternative}]" if alternative else "[image]")
        elif tag in _BLOCKS:
            self._break()
            if tag == "li":
                self._parts.append("- ")
        elif tag in _MARKS:
            self._parts.append(_MARKS[tag])
        if tag == "pre":
            self._preserved += 1

    def handle_endtag(self, tag: str) -> None:
        if tag in _HIDDEN:
            self._hidden = max(0, self._hidden - 1)
        elif tag in _BLOCKS:
            self._break()
        if tag == "pre":
            self._preserved = max(0, self._preserved - 1)

    def handle_data(self, data: str) -> None:
        if self._hidden:
            return
        if _PLUGIN_FILE in data:
            self.losses.append("an attached file")
        self._parts.append(data if self._preserved else re.sub(r"[ \t\r\n\f]+", " ", data))

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
