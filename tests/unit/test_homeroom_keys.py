"""Development keys sign tokens the gateway can verify, and do not exist in production mode."""

from __future__ import annotations

import json
import stat
import time
from pathlib import Path

import pytest
from joserfc import jwt
from joserfc.errors import BadSignatureError
from joserfc.jwk import KeySet
from typer.testing import CliRunner

from homeroom.app import app
from homeroom.commands.token import parse_duration_seconds
from homeroom.keys import DevelopmentKeys, ProductionModeError


def verified(keys: DevelopmentKeys, token: str) -> jwt.Token:
    """What the gateway does: it has only the JWKS file."""
    return jwt.decode(token, KeySet.import_key_set(json.loads(keys.jwks.read_text())), algorithms=["RS256"])


def test_a_token_carries_who_for_whom_and_until_when(tmp_path: Path) -> None:
    keys = DevelopmentKeys(tmp_path / "keys")
    before = int(time.time())
    token = verified(keys, keys.token("ada", ("learner", "admin"), ttl_seconds=60))
    assert token.header["alg"] == "RS256"
    claims = token.claims
    assert claims["iss"] == "homeroom-dev"
    assert claims["aud"] == "homeroom"
    assert claims["sub"] == "ada"
    assert claims["roles"] == ["learner", "admin"]
    assert claims["exp"] == claims["iat"] + 60
    assert before <= claims["iat"] <= time.time()


def test_no_two_tokens_are_the_same(tmp_path: Path) -> None:
    keys = DevelopmentKeys(tmp_path)
    assert verified(keys, keys.token("ada")).claims["jti"] != verified(keys, keys.token("ada")).claims["jti"]


def test_the_keys_stay_the_same_from_start_to_start(tmp_path: Path) -> None:
    token = DevelopmentKeys(tmp_path).token("ada")
    assert verified(DevelopmentKeys(tmp_path), token).claims["sub"] == "ada"


def test_another_stack_does_not_accept_the_token(tmp_path: Path) -> None:
    token = DevelopmentKeys(tmp_path / "one").token("ada")
    header = json.loads((tmp_path / "one" / "jwks.json").read_text())["keys"][0]["kid"]
    other = DevelopmentKeys(tmp_path / "other")
    published = json.loads(other.jwks.read_text())
    published["keys"][0]["kid"] = header
    with pytest.raises(BadSignatureError):
        jwt.decode(token, KeySet.import_key_set(published), algorithms=["RS256"])


def test_the_private_key_is_private_and_the_public_file_holds_nothing_secret(tmp_path: Path) -> None:
    keys = DevelopmentKeys(tmp_path / "keys")
    assert stat.S_IMODE((tmp_path / "keys" / "signing-key.json").stat().st_mode) == 0o600
    (public,) = json.loads(keys.jwks.read_text())["keys"]
    assert set(public) == {"kty", "n", "e", "kid", "use", "alg"}


def test_production_mode_has_no_development_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOMEROOM_MODE", "production")
    with pytest.raises(ProductionModeError):
        DevelopmentKeys(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_command_prints_a_token_and_nothing_else(tmp_path: Path) -> None:
    arguments = ["token", "--user", "grace", "--role", "learner", "--role", "admin", "--ttl", "15m"]
    result = CliRunner().invoke(app, [*arguments, "--data", str(tmp_path)])
    assert result.exit_code == 0
    claims = verified(DevelopmentKeys(tmp_path / "keys"), result.stdout.strip()).claims
    assert claims["sub"] == "grace"
    assert claims["roles"] == ["learner", "admin"]
    assert claims["exp"] - claims["iat"] == 15 * 60


def test_the_command_refuses_production_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOMEROOM_MODE", "production")
    result = CliRunner().invoke(app, ["token", "--user", "ada", "--data", str(tmp_path)])
    assert result.exit_code == 1
    assert "production mode" in result.stderr


@pytest.mark.parametrize(
    "wrong", [["--role", "headmaster"], ["--ttl", "soon"], ["--ttl", "0h"], ["--ttl", "1h 5m"]]
)
def test_the_command_refuses_what_it_does_not_know(tmp_path: Path, wrong: list[str]) -> None:
    result = CliRunner().invoke(app, ["token", "--user", "ada", "--data", str(tmp_path), *wrong])
    assert result.exit_code == 2
    assert not result.stdout


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("1h", 3600), ("7d", 604800), ("h", None), ("-1h", None)]
)
def test_durations_have_a_number_and_a_unit(text: str, seconds: int | None) -> None:
    assert parse_duration_seconds(text) == seconds
