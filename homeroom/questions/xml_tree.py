"""XML as a small tree with line numbers; bounded, and without entities, DTDs and references to elsewhere."""

from __future__ import annotations

import io
import xml.sax
from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.sax.handler import ContentHandler, feature_namespaces
from xml.sax.xmlreader import AttributesImpl, InputSource, Locator

from defusedxml.common import DefusedXmlException
from defusedxml.expatreader import DefusedExpatParser

from homeroom.questions.model import ItemRefusedError

DEPTH_MAX = 100
ELEMENTS_MAX = 1_000_000
_NAMESPACE_OF_XML = "xml:"


@dataclass(slots=True)
class Element:
    """An element. Names have no prefix, hyphen and case: `qti-item-body` and `itemBody` are `itembody`."""

    name: str
    attributes: dict[str, str]
    line: int
    children: list[Element | str] = field(default_factory=list)

    def get(self, attribute: str) -> str:
        """The attribute's value; empty if it has none."""
        return self.attributes.get(attribute, "")

    def elements(self, name: str = "") -> Iterator[Element]:
        """The child elements; those with a name if it is given."""
        return (
            child
            for child in self.children
            if isinstance(child, Element) and (not name or child.name == name)
        )

    def first(self, name: str) -> Element | None:
        """The first child element with this name."""
        return next(self.elements(name), None)

    def all(self, name: str) -> Iterator[Element]:
        """All elements below this one with this name, in their order."""
        for child in self.elements():
            if child.name == name:
                yield child
            yield from child.all(name)

    def text(self) -> str:
        """All text below this element."""
        return "".join(child if isinstance(child, str) else child.text() for child in self.children)


def read_xml(content: bytes) -> Element:
    """The root element.

    Raises:
        ItemRefusedError: it is not well-formed, too deep or too large, or has a DTD or an entity.
    """
    handler = _TreeHandler()
    parser = DefusedExpatParser(forbid_dtd=True, forbid_entities=True, forbid_external=True)
    parser.setFeature(feature_namespaces, state=False)
    parser.setContentHandler(handler)
    source = InputSource()
    source.setByteStream(io.BytesIO(content))
    try:
        parser.parse(source)
    except DefusedXmlException:
        raise ItemRefusedError("has a DTD or an entity: these are not read", handler.line) from None
    except xml.sax.SAXParseException as error:
        reason = f"is not well-formed XML: {error.getMessage()}"
        raise ItemRefusedError(reason, error.getLineNumber() or None) from None
    except (LookupError, ValueError) as error:  # an encoding that Python does not know
        raise ItemRefusedError(f"cannot be read as XML: {error}", handler.line) from None
    if handler.root is None:
        raise ItemRefusedError("is empty")
    return handler.root


def plain_name(name: str) -> str:
    """The name of an element or attribute without prefix, hyphens, case, and the `qti-` of QTI 3."""
    return name.rpartition(":")[2].lower().removeprefix("qti-").replace("-", "")


class _TreeHandler(ContentHandler):
    def __init__(self) -> None:
        super().__init__()
        self.root: Element | None = None
        self._open: list[Element] = []
        self._elements = 0
        self._locator: Locator | None = None

    @property
    def line(self) -> int | None:
        return self._locator.getLineNumber() if self._locator is not None else None

    def setDocumentLocator(self, locator: Locator) -> None:  # noqa: N802 - the name of xml.sax
        self._locator = locator

    def startElement(self, name: str, attrs: AttributesImpl) -> None:  # noqa: N802 - the name of xml.sax
        self._elements += 1
        if len(self._open) >= DEPTH_MAX:
            raise ItemRefusedError(f"is nested deeper than {DEPTH_MAX} elements", self.line)
        if self._elements > ELEMENTS_MAX:
            raise ItemRefusedError(f"has more than {ELEMENTS_MAX} elements", self.line)
        attributes = {
            attribute if attribute.startswith(_NAMESPACE_OF_XML) else plain_name(attribute): value
            for attribute, value in attrs.items()
        }
        element = Element(plain_name(name), attributes, self.line or 1)
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)

    def endElement(self, name: str) -> None:  # noqa: N802, ARG002 - the name of xml.sax
        self._open.pop()

    def characters(self, content: str) -> None:
        if self._open:
            self._open[-1].children.append(content)
