"""Writes the rows of a response as CSV (RFC 4180), safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
from operator import attrgetter
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.timestamp_pb2 import Timestamp

from chassis.rpc.methods import Method
from gateway.contract import ContractError
from gateway.transcoding.message_to_json import writer_of

# A spreadsheet takes a cell that begins with one of these for a formula, or for a part of one
# (owasp.org/www-community/attacks/CSV_Injection). The last four are the full-width forms.
FORMULA_BEGINNINGS = frozenset("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
AS_TEXT = "'"


class CsvTable:
    """Writes the responses of one method as tables: a header of names as in JSON, then a line for each row.

    Args:
        method: the RPC; its policy names the field with the rows.
        response_body: the field of the response that is the body; tables need the whole response.

    Raises:
        ContractError: the policy names no list of messages, or their fields are no cells.
    """

    def __init__(self, *, method: Method, response_body: str) -> None:
        response = method.descriptor.output_type
        rows = response.fields_by_name.get(method.csv_of)
        if response_body or rows is None or rows.message_type is None or not rows.is_repeated:
            raise ContractError(f"{method.path}: csv_of must name a list of messages in {response.full_name}")
        if rows.message_type.GetOptions().map_entry:
            raise ContractError(f"{method.path}: csv_of must not name a map")
        for field in rows.message_type.fields:
            if field.is_repeated or not _is_cell(field):
                raise ContractError(f"{field.full_name} cannot be a cell of a table")
        self.name = method.csv_of
        self._rows_of = attrgetter(method.csv_of)
        self._write_row = writer_of(rows.message_type)
        self._columns = [field.json_name for field in rows.message_type.fields]
        self._texts = frozenset(
            field.json_name
            for field in rows.message_type.fields
            if field.type in {FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES}
        )

    def write(self, message: Any) -> bytes:
        """The table in UTF-8, with lines that end in CRLF; an absent field is an empty cell."""
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\r\n")
        writer.writerow(self._columns)
        for row in self._rows_of(message):
            values = self._write_row(row)
            writer.writerow([self._cell(column, values.get(column)) for column in self._columns])
        return text.getvalue().encode()

    def _cell(self, column: str, value: Any) -> Any:
        if isinstance(value, bool):
            return "true" if value else "false"
        return harmless(value) if column in self._texts and value else value


def harmless(text: str) -> str:
    """The text of a cell; an apostrophe before it where a spreadsheet would take it for a formula."""
    looks_like_formula = text[0] in FORMULA_BEGINNINGS or text.lstrip()[:1] in FORMULA_BEGINNINGS
    return AS_TEXT + text if looks_like_formula else text


def _is_cell(field: FieldDescriptor) -> bool:
    message = field.message_type
    return message is None or message.full_name == Timestamp.DESCRIPTOR.full_name
