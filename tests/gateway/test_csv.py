"""Lists as CSV: who gets it, what stands in it, what a spreadsheet makes of it, and the next page."""

from __future__ import annotations

import csv
import io
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from chassis.batch import Item, Reply
from chassis.rpc.methods import find_method
from gateway.contract import ContractError
from gateway.csv_answers import prefers_csv
from gateway.transcoding.csv_table import FORMULA_BEGINNINGS, CsvTable, harmless
from protos.session.v1 import supervision_pb2 as pb
from tests.gateway.backend import Backend
from tests.gateway.made_contracts import Rpc, methods
from tests.gateway.running import Gateway

RESULTS = "/homeroom.session.v1.SupervisionService/ListTestResults"
PATH = "/v1/tests/physics-01/results"
COLUMNS = ["userId", "attempts", "bestScore", "passed", "engagedSeconds", "lastEndedAt"]


def results(*users: str, token: str = "") -> pb.ListTestResultsResponse:
    return pb.ListTestResultsResponse(
        results=[
            pb.TestResult(
                user_id=user,
                attempts=place,
                best_score=-0.5 if place else None,
                passed=bool(place),
                engaged_seconds=12.5,
                last_ended_at=Timestamp(seconds=1_700_000_000),
            )
            for place, user in enumerate(users)
        ],
        next_page_token=token,
    )


def read(body: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(body.decode(), newline="")))


def answering(backend: Backend, message: pb.ListTestResultsResponse) -> None:
    def answer(_item: Item[Any]) -> Reply[Any]:
        return Reply(message)

    backend.answers["ListTestResults"] = answer


async def asked(gateway: Gateway, path: str = PATH, accept: str = "text/csv") -> Any:
    token = gateway.identity.token(roles=["instructor"])
    return await gateway.request("GET", path, token=token, headers={"Accept": accept})


async def test_a_client_that_asks_for_csv_gets_a_table(gateway: Gateway, backend: Backend) -> None:
    answering(backend, results("ada", 'b"o,b'))
    answer = await asked(gateway)
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/csv; charset=utf-8")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="results.csv"'
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.body.endswith(b"\r\n")
    assert read(answer.body) == [
        COLUMNS,
        ["ada", "0", "", "false", "12.5", "2023-11-14T22:13:20Z"],
        ['b"o,b', "1", "-0.5", "true", "12.5", "2023-11-14T22:13:20Z"],
    ]
    assert "Link" not in answer.headers


async def test_everybody_else_gets_json(gateway: Gateway, backend: Backend) -> None:
    answering(backend, results("ada"))
    for accept in ("application/json", "*/*", "text/html,*/*;q=0.8", "text/csv;q=0", "text/csv;q=0.5,*/*"):
        answer = await asked(gateway, accept=accept)
        assert answer.headers["Content-Type"] == "application/json", accept
        assert answer.json()["results"][0]["userId"] == "ada"


async def test_a_list_without_a_table_is_json_for_all(gateway: Gateway) -> None:
    answer = await gateway.request("GET", "/v1/sessions", headers={"Accept": "text/csv"})
    assert answer.headers["Content-Type"] == "application/json"


async def test_a_refusal_is_a_problem_also_for_a_client_that_wants_csv(gateway: Gateway) -> None:
    answer = await gateway.request("GET", PATH, headers={"Accept": "text/csv"})
    assert answer.reason == "PERMISSION_DENIED"
    assert (await asked(gateway, f"{PATH}?pageSize=501")).reason == "INVALID_ARGUMENT"


async def test_the_next_page_is_behind_a_link_with_the_same_query(gateway: Gateway, backend: Backend) -> None:
    answering(backend, results("ada", token="the-next_one"))
    answer = await asked(gateway, f"{PATH}?pageSize=1&pageToken=this-one")
    target, _, relation = answer.headers["Link"].partition("; ")
    assert relation == 'rel="next"'
    link = urlsplit(target.strip("<>"))
    assert (link.path, parse_qs(link.query)) == (PATH, {"pageSize": ["1"], "pageToken": ["the-next_one"]})
    backend.items.clear()
    await asked(gateway, target.strip("<>"))
    assert backend.only_item.request == pb.ListTestResultsRequest(
        test_id="physics-01", page_size=1, page_token="the-next_one"
    )


async def test_an_odd_path_cannot_break_out_of_the_link(gateway: Gateway, backend: Backend) -> None:
    answering(backend, results("ada", token="t"))
    answer = await asked(gateway, "/v1/tests/a%3E;%20rel=x%22%0D%0AX-Evil:%201/results?page_token=old")
    assert "X-Evil" not in answer.headers
    target, _, relation = answer.headers["Link"].partition(">; ")
    assert relation == 'rel="next"'
    assert ">" not in target
    assert parse_qs(urlsplit(target.strip("<")).query) == {"pageToken": ["t"]}


async def test_no_cell_is_a_formula(gateway: Gateway, backend: Backend) -> None:
    rude = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "\uff1d1", '=HYPERLINK("x","y")']
    answering(backend, results(*rude, "ada", "", "a=1"))
    rows = read((await asked(gateway)).body)[1:]
    assert [row[0] for row in rows] == [*("'" + text for text in rude), "ada", "", "a=1"]
    assert rows[1][2] == "-0.5", "a number stays a number"


@given(st.text(min_size=1))
def test_a_cell_never_begins_like_a_formula_and_loses_nothing(text: str) -> None:
    cell = harmless(text)
    assert cell[0] not in FORMULA_BEGINNINGS
    assert cell.removeprefix("'") == text.removeprefix("'") or cell == text


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=20), max_size=5))
def test_every_text_comes_back_from_the_table(users: list[str]) -> None:
    table = CsvTable(method=find_method(RESULTS), response_body="")
    rows = read(table.write(results(*users)))
    assert len({len(row) for row in rows}) == 1
    assert [row[0] for row in rows[1:]] == [harmless(user) if user else "" for user in users]


@pytest.mark.parametrize(
    ("accept", "csv_wanted"),
    [
        ("text/csv", True),
        ("TEXT/CSV; charset=utf-8", True),
        ("text/csv, */*", True),
        ("text/csv, application/json;q=0.9", True),
        ("text/csv;q=0.9, application/json", False),
        ("text/csv, application/json", False),
        ("text/csv;q=0.5, application/*;q=0.4, application/json;q=0.6", False),
        ("text/csv;q=nonsense", False),
        ("text/*", False),
        ("", False),
        (";;,,q=1,text/csv;q=", False),
    ],
)
def test_the_accept_header_decides(accept: str, *, csv_wanted: bool) -> None:
    assert prefers_csv([accept]) is csv_wanted
    assert prefers_csv([]) is False


@pytest.mark.parametrize("rows", ["held", "resumed", "nothing", "many"])
def test_a_table_of_something_else_is_refused_at_the_start(rows: str) -> None:
    (method,) = methods(Rpc("List", http=[{"get": "/v1/made"}], safe=True, csv_of=rows))
    with pytest.raises(ContractError):
        CsvTable(method=method, response_body="")


def test_a_table_needs_the_whole_response() -> None:
    with pytest.raises(ContractError):
        CsvTable(method=find_method(RESULTS), response_body="results")
