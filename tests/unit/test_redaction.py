"""Secrets do not reach a log in any form."""

from __future__ import annotations

import pytest

from chassis.telemetry.redaction import Redactor, redacted

JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJsZWFybmVyIn0.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    "name",
    [
        "authorization",
        "Authorization",
        "proxy_authorization",
        "token",
        "serviceToken",
        "refresh_token",
        "password",
        "PGPASSWORD",
        "client_secret",
        "Set-Cookie",
        "api_key",
        "private_key",
        "jwt",
    ],
)
def test_a_field_named_like_a_secret_is_hidden(name: str) -> None:
    assert Redactor().fields({name: "hunter2"}) == {name: "***"}


@pytest.mark.parametrize("name", ["pageToken", "next_page_token", "user_id", "method", "author", "key_count"])
def test_a_field_with_a_harmless_name_is_kept(name: str) -> None:
    assert Redactor().fields({name: "abc"}) == {name: "abc"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://app:hunter2@db:5432/x", "postgresql://app:***@db:5432/x"),
        ("redis://:hunter2@cache/0 is down", "redis://:***@cache/0 is down"),
        (
            "postgresql:///db?user=a&password=hunter2&host=/run",
            "postgresql:///db?user=a&password=***&host=/run",
        ),
        ("host=db password='hun ter2' user=a", "host=db password=*** user=a"),
        ("authorization: Bearer hunter2-hunter2", "authorization: Bearer ***"),
        ("authorization: Basic aHVudGVyMjpodW50ZXIy", "authorization: Basic ***"),
        (f"cannot read {JWT}!", "cannot read ***!"),
        ("postgresql://app@db:5432/x", "postgresql://app@db:5432/x"),
        ("GET http://gateway:8080/v1/tests?pageSize=5", "GET http://gateway:8080/v1/tests?pageSize=5"),
        ("a basic misunderstanding", "a basic misunderstanding"),
    ],
)
def test_secrets_inside_a_text_are_hidden_and_the_rest_is_kept(text: str, shown: str) -> None:
    assert redacted(text) == shown


def test_secrets_inside_nested_values_are_hidden() -> None:
    fields = {
        "request": {"headers": [{"Authorization": JWT, "accept": "*/*"}], "body": b"redis://:hunter2@cache"},
        "dsns": ("postgresql://a:hunter2@db/x", 5),
    }
    assert Redactor().fields(fields) == {
        "request": {"headers": [{"Authorization": "***", "accept": "*/*"}], "body": "redis://:***@cache"},
        "dsns": ["postgresql://a:***@db/x", 5],
    }


def test_a_value_that_contains_itself_is_shown_and_hides_its_secret() -> None:
    endless: dict[str, object] = {"dsn": "redis://:hunter2@cache"}
    endless["self"] = endless
    assert "hunter2" not in repr(Redactor().fields({"value": endless}))


@pytest.mark.parametrize("name", ["idempotency_key", "Idempotency-Key", "idempotencyKey"])
def test_an_idempotency_key_appears_as_its_hash(name: str) -> None:
    redactor = Redactor()
    assert redactor.fields({name: "order-17"}) == {name: redactor.hashed("order-17")}
    assert redactor.fields({name: ""}) == {name: ""}


def test_processes_with_one_secret_agree_on_a_hash_and_others_cannot_guess_it() -> None:
    hashed = Redactor(hash_secret="shared").hashed("k1")
    assert hashed == Redactor(hash_secret="shared").hashed("k1")
    assert hashed != Redactor(hash_secret="other").hashed("k1")
    assert hashed != Redactor(hash_secret="shared").hashed("k2")
    assert len(hashed) == 16
