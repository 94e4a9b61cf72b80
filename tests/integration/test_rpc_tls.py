"""Mutual TLS between processes: who may call, who is refused, and how certificates are renewed."""

from __future__ import annotations

from pathlib import Path

import grpc
import grpc.aio
import pytest

from chassis.errors import Reason, ServiceError
from chassis.rpc.tls import TlsError, TlsFiles, TlsIdentity, names_of
from protos.subscription.v1 import licenses_pb2
from tests.support.certificates import Authority
from tests.support.rpc import (
    TOKEN,
    WATCH,
    Credits,
    call,
    calling,
    license_handlers,
    reason_of,
    serving,
)

ALLOWED = ("gateway", "session_service")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.made(tmp_path / "ours")


def identity(authority: Authority, name: str, *others: str, **options: bool) -> TlsIdentity:
    return TlsIdentity(authority.issue(name, *others, **options))


@pytest.mark.parametrize("name", ALLOWED)
async def test_a_peer_that_may_call_is_answered(authority: Authority, name: str) -> None:
    server_identity = identity(authority, "subscription_service")
    async with (
        serving(Credits(), identity=server_identity, peers=ALLOWED) as server,
        calling(server.port, identity=identity(authority, name)) as client,
    ):
        assert await reason_of(client) is None
        await client.check_health()
        watch = client.stream(WATCH, licenses_pb2.WatchLicensesRequest(), call(roles=("service",)))
        assert [message.sequence async for message in watch] == [1, 2, 3]


async def test_a_peer_with_another_name_is_refused_whatever_it_asks(authority: Authority) -> None:
    servicer = Credits()
    server_identity = identity(authority, "subscription_service")
    async with (
        serving(servicer, identity=server_identity, peers=ALLOWED) as server,
        calling(server.port, identity=identity(authority, "progress_service"), attempts=1) as client,
    ):
        assert await reason_of(client) is Reason.INTERNAL  # a fault of the deployment, not of the user
        watch = client.stream(WATCH, licenses_pb2.WatchLicensesRequest(), call(roles=("service",)))
        with pytest.raises(ServiceError) as caught:
            await anext(watch)
        assert caught.value.reason is Reason.INTERNAL
        channel = client._carrier.channel
        metadata = (("x-homeroom-service-token", TOKEN),)
        for path in (WATCH.replace("WatchLicenses", "ListMyLicenses"), "/grpc.health.v1.Health/Watch"):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await channel.unary_unary(path)(b"", metadata=metadata, timeout=5)
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED, path
        reflection = channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
        asking = reflection(metadata=metadata, timeout=5)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await asking.read()
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert servicer.batches == []
        assert not client.breaker_open


async def test_the_service_token_is_needed_all_the_same(authority: Authority) -> None:
    async with (
        serving(identity=identity(authority, "subscription_service"), peers=ALLOWED) as server,
        calling(server.port, identity=identity(authority, "gateway"), token="guess", attempts=1) as client,
    ):
        assert await reason_of(client) is Reason.INTERNAL


async def test_a_certificate_of_another_authority_is_refused(authority: Authority, tmp_path: Path) -> None:
    theirs = Authority.made(tmp_path / "theirs")
    # It trusts our authority, so that the server is the one who refuses.
    files = theirs.issue("gateway")
    stranger = TlsIdentity(TlsFiles(files.certificate, files.key, authority.folder / "ca.pem"))
    servicer = Credits()
    async with (
        serving(servicer, identity=identity(authority, "subscription_service"), peers=ALLOWED) as server,
        calling(server.port, identity=stranger, attempts=1) as client,
        calling(server.port, attempts=1) as plain,
    ):
        assert await reason_of(client) is Reason.UNAVAILABLE
        assert await reason_of(plain) is Reason.UNAVAILABLE
        credentials = grpc.ssl_channel_credentials((authority.folder / "ca.pem").read_bytes())
        async with grpc.aio.secure_channel(f"127.0.0.1:{server.port}", credentials) as anonymous:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await anonymous.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=5)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert servicer.batches == []


async def test_a_server_that_is_somebody_else_is_not_talked_to(authority: Authority, tmp_path: Path) -> None:
    elsewhere = identity(authority, "subscription_service", on_loopback=False)
    theirs = identity(Authority.made(tmp_path / "theirs"), "subscription_service")
    for impostor in (elsewhere, theirs):
        servicer = Credits()
        async with (
            serving(servicer, identity=impostor, peers=ALLOWED) as server,
            calling(server.port, identity=identity(authority, "gateway"), attempts=1) as client,
        ):
            assert await reason_of(client) is Reason.UNAVAILABLE
            assert servicer.batches == []


async def test_renewed_files_are_used_without_a_restart(authority: Authority) -> None:
    """The name in a certificate shows which one is in use."""
    at_server = authority.issue("subscription_service")
    at_client = authority.issue("gateway")
    client_identity = TlsIdentity(at_client)
    async with (
        serving(Credits(), identity=TlsIdentity(at_server), peers=("renewed",)) as server,
        calling(server.port, identity=client_identity, attempts=1) as client,
    ):
        assert await reason_of(client) is Reason.INTERNAL
        replace(at_client, authority.issue("renewed"))
        client_identity.renew()
        await client.renew()
        assert await reason_of(client) is None
        # The server: its renewed certificate names nobody on this machine.
        replace(at_server, authority.issue("elsewhere", on_loopback=False))
        async with calling(server.port, identity=TlsIdentity(at_client), attempts=1) as another:
            assert await reason_of(another) is Reason.UNAVAILABLE
        assert await reason_of(client) is None  # connections that are open stay open


async def test_renewed_files_that_cannot_be_used_change_nothing(authority: Authority) -> None:
    files = authority.issue("gateway")
    mine = TlsIdentity(files)
    before = mine._read, mine.version
    files.certificate.write_bytes(authority.issue("another").certificate.read_bytes())
    mine.renew()
    files.key.unlink()
    mine.renew()
    assert (mine._read, mine.version) == before


def replace(files: TlsFiles, by: TlsFiles) -> None:
    by.key.replace(files.key)
    by.certificate.replace(files.certificate)


def test_files_that_cannot_be_used_say_which_one_and_why(authority: Authority) -> None:
    files, other = authority.issue("gateway"), authority.issue("other")
    nothing = authority.folder / "nothing.pem"
    nothing.write_text("nothing")
    for wrong, problem in (
        (TlsFiles(files.certificate, other.key, files.authority), "is not the key of"),
        (TlsFiles(nothing, files.key, files.authority), "no certificate in PEM"),
        (TlsFiles(files.certificate, nothing, files.authority), "not a private key in PEM"),
        (TlsFiles(files.certificate, files.key, nothing), "no certificate in PEM"),
        (TlsFiles(files.certificate, files.key, authority.folder / "away"), "No such file"),
    ):
        with pytest.raises(TlsError, match=problem):
            TlsIdentity(wrong)


async def test_the_common_name_counts_only_in_a_certificate_without_other_names(authority: Authority) -> None:
    only = identity(authority, "gateway", as_common_name=True, on_loopback=False)
    async with (
        serving(identity=identity(authority, "subscription_service"), peers=("gateway",)) as server,
        calling(server.port, identity=only) as client,
    ):
        assert await reason_of(client) is None
    both = {"x509_common_name": [b"gateway"], "x509_subject_alternative_name": [b"a", b"b"]}
    assert names_of(both) == {"a", "b"}
    assert names_of({"x509_common_name": [b"gateway"]}) == {"gateway"}
    assert names_of({}) == frozenset()


async def test_a_server_without_peers_is_called_by_nobody(authority: Authority) -> None:
    async with (
        serving(identity=identity(authority, "a"), handlers=license_handlers()) as server,
        calling(server.port, identity=identity(authority, "gateway"), attempts=1) as client,
    ):
        assert await reason_of(client) is Reason.INTERNAL
