"""Mutual TLS between processes: the files of this process, and the names in the certificates of others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from chassis.telemetry.logs import get_logger

log = get_logger(__name__)

_SUBJECT_ALTERNATIVE_NAME = "x509_subject_alternative_name"
_COMMON_NAME = "x509_common_name"


class TlsError(Exception):
    """The files cannot be used; the message names the file, and says why."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The PEM files of a process: its certificate (and the chain behind it), its key, and the CA of all."""

    certificate: Path
    key: Path
    authority: Path


@dataclass(frozen=True, slots=True)
class _Read:
    certificate: bytes
    key: bytes
    authority: bytes
    expires_at: float


class TlsIdentity:
    """The certificate and the key of this process, read again when the files change.

    Renewed files that cannot be used are logged, and the ones before stay in use.

    Raises:
        TlsError: the files cannot be used.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._state = self._state_of_files()
        self._read = _read(files)
        self.version = 1
        """Grows with each renewal."""

    @property
    def expires_at(self) -> float:
        """The Unix time at which the certificate expires."""
        return self._read.expires_at

    def renew(self) -> None:
        """Reads the files again if they have changed."""
        try:
            state = self._state_of_files()
            if state == self._state:
                return
            self._state = state
            read = _read(self._files)
        except TlsError as error:
            log.error("renewed_certificate_refused", problem=str(error))  # noqa: TRY400 - it says everything
            return
        if read == self._read:
            return
        self._read = read
        self.version += 1
        log.info("certificate_renewed", expires_at=read.expires_at)

    def server_credentials(self) -> grpc.ServerCredentials:
        """Credentials that ask each caller for a certificate; each new connection gets the newest files."""
        return grpc.dynamic_ssl_server_credentials(
            self._for_server(), self._for_connection, require_client_authentication=True
        )

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """Credentials of the files as they were read last; gRPC cannot exchange those of a channel."""
        read = self._read
        return grpc.ssl_channel_credentials(read.authority, read.key, read.certificate)

    def _for_connection(self) -> grpc.ServerCertificateConfiguration:
        """Called by a thread of gRPC for each connection."""
        try:
            self.renew()
        except Exception:
            log.exception("certificate_not_renewed")
        return self._for_server()

    def _for_server(self) -> grpc.ServerCertificateConfiguration:
        read = self._read
        return grpc.ssl_server_certificate_configuration(
            [(read.key, read.certificate)], root_certificates=read.authority
        )

    def _state_of_files(self) -> tuple[tuple[int, int, int], ...]:
        states = []
        for path in (self._files.certificate, self._files.key, self._files.authority):
            try:
                found = path.stat()
            except OSError as error:
                raise TlsError(f"{path} cannot be read: {error.strerror}") from error
            states.append((found.st_mtime_ns, found.st_size, found.st_ino))
        return tuple(states)


def names_of(auth_context: Mapping[str, Iterable[bytes]]) -> frozenset[str]:
    """The names in a peer's certificate: its subject alternative names; the common name if there are none.

    https://www.rfc-editor.org/rfc/rfc6125#section-6.4.4
    """
    found = list(auth_context.get(_SUBJECT_ALTERNATIVE_NAME, ())) or list(auth_context.get(_COMMON_NAME, ()))
    return frozenset(name.decode(errors="replace") for name in found)


def _read(files: TlsFiles) -> _Read:
    certificate, key, authority = (
        _bytes_of(path) for path in (files.certificate, files.key, files.authority)
    )
    leaf = _certificates(files.certificate, certificate)[0]
    _certificates(files.authority, authority)
    try:
        private = load_pem_private_key(key, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise TlsError(f"{files.key} is not a private key in PEM without a password") from error
    if _public(private.public_key()) != _public(leaf.public_key()):
        raise TlsError(f"{files.key} is not the key of {files.certificate}")
    return _Read(certificate, key, authority, leaf.not_valid_after_utc.timestamp())


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TlsError(f"{path} cannot be read: {error.strerror}") from error


def _certificates(path: Path, pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise TlsError(f"{path} has no certificate in PEM") from error


def _public(key: object) -> bytes:
    encoded: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]  # every kind of key has it
    return encoded
