"""A question file of any format: what it is, and what it holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from homeroom.questions import csv_table, gift, moodle_xml, qti
from homeroom.questions.model import FILE_BYTES_MAX, FileRefusedError, ItemRefusedError, QuestionFile
from homeroom.questions.xml_tree import Element, read_xml

FORMATS = (gift.FORMAT, moodle_xml.FORMAT, qti.FORMAT, csv_table.FORMAT)

_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_BYTE_ORDER_MARKS = {
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}


def read_questions(path: Path, wanted: str | None = None) -> QuestionFile:
    """The questions of a file.

    Args:
        path: the file.
        wanted: its format, one of FORMATS; None finds it out by the content.

    Raises:
        FileRefusedError: nothing of the file can be read.
    """
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise FileRefusedError(error.strerror or str(error)) from None
    return questions_in(content, wanted)


def questions_in(content: bytes, wanted: str | None = None) -> QuestionFile:
    """The questions in the content of a file; see `read_questions`."""
    if len(content) > FILE_BYTES_MAX:
        raise FileRefusedError(f"has more than {FILE_BYTES_MAX} bytes")
    if not content.strip(b"\0 \t\r\n"):
        raise FileRefusedError("is empty")
    if content.startswith(_ZIP):
        return _as_wanted(qti.FORMAT, wanted, lambda: qti.read_qti_package(content))
    if _is_xml(content) and wanted not in {gift.FORMAT, csv_table.FORMAT}:
        return _read_xml_file(content, wanted)
    if wanted in {qti.FORMAT, moodle_xml.FORMAT}:
        raise FileRefusedError("is not XML" + (", and no zip package" if wanted == qti.FORMAT else ""))
    text = decoded(content)
    if wanted is None:
        header, _, _ = text.partition("\n")
        wanted = csv_table.FORMAT if csv_table.header_of(header.split("\r")[0]) else gift.FORMAT
        if wanted == gift.FORMAT and "{" not in text:
            raise FileRefusedError("has no format that is known; name it with --format")
    return csv_table.read_csv(text) if wanted == csv_table.FORMAT else gift.read_gift(text)


def decoded(content: bytes) -> str:
    """The text of a file in UTF-8, or in UTF-16 with a byte order mark.

    Raises:
        FileRefusedError: it is in another encoding.
    """
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise FileRefusedError(
            f"line {line} is not {encoding.upper()} text: save the file as UTF-8"
        ) from None


def _is_xml(content: bytes) -> bool:
    start = content[:200].replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n")
    return start.startswith(b"<")


def _read_xml_file(content: bytes, wanted: str | None) -> QuestionFile:
    try:
        root = read_xml(content)
    except ItemRefusedError as refusal:
        line = f"line {refusal.line}: " if refusal.line else ""
        raise FileRefusedError(f"{line}{refusal.reason}") from None
    readers: dict[str, tuple[str, Callable[[Element], QuestionFile]]] = {
        "quiz": (moodle_xml.FORMAT, moodle_xml.read_moodle_xml),
        "assessmentitem": (qti.FORMAT, qti.read_qti_item),
    }
    if root.name == "manifest":
        raise FileRefusedError("is the manifest of a package: import the whole package as a zip file")
    if root.name not in readers:
        raise FileRefusedError(f"its root element is {root.name[:60]!r}, which is no known question format")
    kind, reader = readers[root.name]
    return _as_wanted(kind, wanted, lambda: reader(root))


def _as_wanted(kind: str, wanted: str | None, read: Callable[[], QuestionFile]) -> QuestionFile:
    if wanted not in {None, kind}:
        raise FileRefusedError(f"is {kind}, not {wanted}")
    return read()
