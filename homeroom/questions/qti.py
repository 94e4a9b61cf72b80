"""IMS QTI 2.1 and 3.0: a zip package with a manifest, or a single item; choice and text-entry items."""

from __future__ import annotations

import io
import math
import posixpath
import re
import zipfile
import zlib
from collections.abc import Iterator
from urllib.parse import unquote

from homeroom.questions.html_text import Reducer
from homeroom.questions.model import (
    FileRefusedError,
    ItemRefusedError,
    Place,
    Question,
    QuestionFile,
    kept_id,
    shortened,
)
from homeroom.questions.xml_tree import Element, read_xml

FORMAT = "qti"
MANIFEST = "imsmanifest.xml"
ENTRIES_MAX = 50_000
ITEM_BYTES_MAX = 2 * 1024 * 1024
MANIFEST_BYTES_MAX = 32 * 1024 * 1024
PACKAGE_BYTES_MAX = 256 * 1024 * 1024
GAP = "_____"

_ITEM_TYPE = re.compile(r"imsqti_item_xmlv(2p\d|3p\d)(p\d)?", re.IGNORECASE)
_OLD_TYPE = re.compile(r"imsqti_xmlv1p|imsqti_asi", re.IGNORECASE)
_INTERACTION = re.compile(r"[a-z]+interaction")
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, OSError, ValueError)


def read_qti_package(content: bytes) -> QuestionFile:
    """All items of a package, in the order of its manifest.

    Raises:
        FileRefusedError: it is no package, is too large, or has a path that leads out of it.
    """
    try:
        package = _Package(content)
        manifest = read_xml(package.read(package.manifest, MANIFEST_BYTES_MAX))
    except _BROKEN as error:
        raise FileRefusedError(f"the zip file is damaged: {error}") from None
    except ItemRefusedError as refusal:
        raise FileRefusedError(f"{MANIFEST}: {refusal.reason}") from None
    found = QuestionFile(FORMAT)
    for resource in manifest.all("resource"):
        if _OLD_TYPE.match(resource.get("type")):
            found.reject(Place(resource.line, MANIFEST), "is QTI 1.x; export it as QTI 2.1 or newer")
        if not _ITEM_TYPE.match(resource.get("type")):
            continue
        name = package.path_of(resource)
        try:
            if package.full:
                raise FileRefusedError(f"the package has more than {PACKAGE_BYTES_MAX} bytes")
            item = read_xml(package.read(name, ITEM_BYTES_MAX))
            _add(found, item, Place(None, name), *_metadata(resource))
        except _BROKEN as error:
            found.reject(Place(None, name), f"is damaged: {error}")
        except ItemRefusedError as refusal:
            found.reject(Place(refusal.line, name), refusal.reason)
    return found


def read_qti_item(item: Element) -> QuestionFile:
    """The one question of an item file."""
    found = QuestionFile(FORMAT)
    try:
        _add(found, item, Place(item.line), None, None)
    except ItemRefusedError as refusal:
        found.reject(Place(refusal.line or item.line), refusal.reason)
    return found


class _Package:
    """A zip file that is only read in memory, with bounds that do not trust what it says of itself."""

    def __init__(self, content: bytes) -> None:
        self._archive = zipfile.ZipFile(io.BytesIO(content))
        entries = self._archive.infolist()
        if len(entries) > ENTRIES_MAX:
            raise FileRefusedError(f"the package has more than {ENTRIES_MAX} files")
        self._entries: dict[str, zipfile.ZipInfo] = {}
        self._bytes_read = 0
        for entry in entries:
            parts = entry.filename.replace("\\", "/").split("/")
            if ".." in parts or parts[0] == "" or ":" in parts[0]:
                raise FileRefusedError(
                    f"the package has a path that leads out of it: {shortened(entry.filename)}"
                )
            self._entries.setdefault("/".join(parts), entry)
        manifests = [name for name in self._entries if posixpath.basename(name) == MANIFEST]
        if not manifests:
            raise FileRefusedError(f"the zip file has no {MANIFEST}, so it is no QTI package")
        self.manifest = min(manifests, key=len)

    @property
    def full(self) -> bool:
        return self._bytes_read > PACKAGE_BYTES_MAX

    def path_of(self, resource: Element) -> str:
        """The name of a resource's file in the package."""
        href = resource.get("href") or next((each.get("href") for each in resource.elements("file")), "")
        folder = posixpath.dirname(self.manifest)
        return posixpath.normpath(posixpath.join(folder, resource.get("xml:base"), unquote(href)))

    def read(self, name: str, bytes_max: int) -> bytes:
        """A file; raises ItemRefusedError when it is missing or too large."""
        entry = self._entries.get(name)
        if entry is None:
            raise ItemRefusedError("the manifest names this file, and the package does not have it")
        with self._archive.open(entry) as file:
            content = file.read(bytes_max + 1)
        self._bytes_read += len(content)
        if len(content) > bytes_max:
            raise ItemRefusedError(f"has more than {bytes_max} bytes")
        return content


def _metadata(resource: Element) -> tuple[str | None, str | None]:
    """The subject (the first keyword) and the difficulty that the manifest gives an item."""
    keyword = next((each.text() for each in resource.all("keyword")), "")
    difficulty = next(
        (each.text() for level in resource.all("difficulty") for each in level.all("value")), ""
    )
    return _trimmed(keyword), _trimmed(difficulty)


def _trimmed(text: str) -> str | None:
    return text.strip() or None


def _add(
    found: QuestionFile, item: Element, place: Place, subject: str | None, difficulty: str | None
) -> None:
    if item.name != "assessmentitem":
        raise ItemRefusedError(f"the root element is {item.name!r}, not assessmentItem", item.line)
    body = item.first("itembody")
    if body is None:
        raise ItemRefusedError("has no itemBody", item.line)
    interactions = [each for each in _descendants(body) if _INTERACTION.fullmatch(each.name)]
    if len(interactions) != 1:
        reason = f"has {len(interactions)} interactions; one is possible"
        raise ItemRefusedError(reason if interactions else "asks nothing: it has no interaction", body.line)
    interaction = interactions[0]
    declaration = _declaration(item, interaction)
    if declaration.get("cardinality") not in {"single", ""}:
        raise ItemRefusedError("asks for several answers at once", declaration.line)
    losses: list[str] = []
    if next(item.elements("modalfeedback"), None) is not None:
        losses.append("feedback")
    full = _full_values(declaration, losses)
    if interaction.name == "choiceinteraction":
        choices = {
            each.get("identifier"): _content(each, losses) for each in interaction.elements("simplechoice")
        }
        unknown = next((value for value in full if value not in choices), None)
        if unknown is not None:
            raise ItemRefusedError(f"the right answer names the choice {unknown[:60]!r}, and there is none")
        shown, accepted = tuple(choices.values()), tuple(choices[value] for value in full)
    elif interaction.name in {"textentryinteraction", "extendedtextinteraction"}:
        if not full and interaction.name == "extendedtextinteraction":
            raise ItemRefusedError("is an essay: no answer can be compared with it", interaction.line)
        shown, accepted = (), tuple(full)
    else:
        raise ItemRefusedError(f"has a {interaction.name}, which cannot be imported", interaction.line)
    prompt = _prompt(body, interaction, losses)
    identifier = kept_id(item.get("identifier"))
    found.add(Question(identifier, prompt, shown, accepted, difficulty, subject), place, losses)


def _declaration(item: Element, interaction: Element) -> Element:
    wanted = interaction.get("responseidentifier")
    for declaration in item.elements("responsedeclaration"):
        if declaration.get("identifier") == wanted:
            return declaration
    raise ItemRefusedError(f"does not declare the response {wanted[:60]!r}", interaction.line)


def _full_values(declaration: Element, losses: list[str]) -> list[str]:
    """The values that are worth the whole item: the correct ones, and those with the highest mapped score."""
    correct = [_exact(value) for value in declaration.all("value")]
    mapped: list[tuple[float, str]] = []
    for entry in declaration.all("mapentry"):
        try:
            score = float(entry.get("mappedvalue"))
        except ValueError:
            score = math.nan
        if not math.isfinite(score):
            raise ItemRefusedError("a mapped value is not a number", entry.line)
        mapped.append((score, entry.get("mapkey")))
        if entry.get("casesensitive") == "true" and declaration.get("basetype") == "string":
            losses.append("upper and lower case (answers are compared without)")
    best = max((score for score, _ in mapped), default=0.0)
    full = [key for score, key in mapped if score >= best > 0]
    if any(0 < score < best for score, _ in mapped):
        losses.append("partial credit")
    return full if set(correct) <= set(full) else [*correct, *(key for key in full if key not in correct)]


def _exact(element: Element) -> str:
    """The text of an element: as it is where it says so, otherwise without the white space around it."""
    text = element.text()
    return text if element.get("xml:space") == "preserve" else text.strip()


def _content(element: Element, losses: list[str]) -> str:
    """The text of a piece of content; one `pre` that keeps its space is taken as it is."""
    exact = _only_preserved(element)
    if exact is not None:
        return exact
    reducer = Reducer()
    _walk(element, reducer, None)
    losses.extend(reducer.losses)
    return reducer.text()


def _prompt(body: Element, interaction: Element, losses: list[str]) -> str:
    exact = _only_preserved(body, interaction)
    if exact is not None:
        return exact
    reducer = Reducer()
    _walk(body, reducer, interaction)
    losses.extend(reducer.losses)
    text = reducer.text()
    if interaction.name == "textentryinteraction":  # a gap at the end shows nothing that the field does not
        return text.removesuffix(GAP).rstrip("\n ")
    return text


def _walk(element: Element, reducer: Reducer, interaction: Element | None) -> None:
    """Hand the content to the reducer. A text entry within the text leaves a gap there."""
    for child in element.children:
        if isinstance(child, str):
            reducer.add_text(child)
        elif child is interaction:
            prompt = child.first("prompt")
            if prompt is not None:
                reducer.start("p", {})
                _walk(prompt, reducer, None)
                reducer.end("p")
            if child.name == "textentryinteraction":
                reducer.add_text(GAP)
        elif child.name not in {"rubricblock", "feedbackblock", "feedbackinline"}:
            reducer.start(child.name, child.attributes)
            _walk(child, reducer, interaction)
            reducer.end(child.name)


def _only_preserved(element: Element, beside: Element | None = None) -> str | None:
    """The text of the one `pre` that keeps its space and is the only content, but for an interaction."""
    contents = [
        child
        for child in element.children
        if (child.strip() if isinstance(child, str) else not _is_only(child, beside))
    ]
    content = contents[0] if len(contents) == 1 else ""
    if isinstance(content, str):
        return None
    return content.text() if content.name == "pre" and content.get("xml:space") == "preserve" else None


def _is_only(element: Element, interaction: Element | None) -> bool:
    """Whether an element is the interaction without a prompt, or a paragraph with nothing else."""
    if interaction is None:
        return False
    if element is interaction:
        return element.first("prompt") is None
    contents = [child for child in element.children if not (isinstance(child, str) and not child.strip())]
    return len(contents) == 1 and contents[0] is interaction


def _descendants(element: Element) -> Iterator[Element]:
    for child in element.elements():
        yield child
        yield from _descendants(child)
