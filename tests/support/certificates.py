"""Certificates for tests: an authority, and what it issues, as PEM files."""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from chassis.rpc.tls import TlsFiles

LOOPBACK = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Authority:
    """An authority of its own; `folder` gets the files."""

    folder: Path
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def made(cls, folder: Path) -> Authority:
        folder.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder("the authority", "the authority", key.public_key())
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        certificate = builder.add_extension(constraints, critical=True).sign(key, hashes.SHA256())
        (folder / "ca.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
        return cls(folder, key, certificate)

    def issue(
        self, name: str, *others: str, on_loopback: bool = True, as_common_name: bool = False
    ) -> TlsFiles:
        """The files of a process with this name; a later certificate of the same name replaces them."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(name if as_common_name else "", "the authority", key.public_key())
        names: list[x509.GeneralName] = (
            [] if as_common_name else [x509.DNSName(each) for each in (name, *others)]
        )
        if on_loopback:
            names.append(LOOPBACK)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=as_common_name)
        certificate = builder.sign(self.key, hashes.SHA256())
        files = TlsFiles(self.folder / f"{name}.pem", self.folder / f"{name}.key", self.folder / "ca.pem")
        files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        files.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
        return files


def environment(files: TlsFiles) -> dict[str, str]:
    """The variables that name these files."""
    return {
        "HOMEROOM_TLS_CERTIFICATE": str(files.certificate),
        "HOMEROOM_TLS_KEY": str(files.key),
        "HOMEROOM_TLS_CA": str(files.authority),
    }


def _builder(subject: str, issuer: str, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY)
        .not_valid_after(now + DAY)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else [])
