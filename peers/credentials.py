"""What opens a simulated BMC: a user with a password, and a certificate for 127.0.0.1 with the CA that signed it.

Made anew for each BMC, in its own folder, and good for a day. How a BMC is given them: redfish_device.py.
"""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

#: The least that bcrypt has: a BMC checks the password at each request.
ROUNDS = 4


class Credentials(NamedTuple):
    username: str
    password: str
    ca: Path
    certificate: Path
    key: Path
    users: Path  # as htpasswd writes it


def make(place: Path, username: str = "operator", password: str = "correct horse") -> Credentials:
    """Make all of it in that folder."""
    # Here, because the BMCs import this module too and start often.
    import bcrypt
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    place.mkdir(parents=True, exist_ok=True)
    made = Credentials(
        username, password, place / "ca.pem", place / "certificate.pem", place / "key.pem", place / "users"
    )
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca = _sign("a CA for one day", ca_key, "a CA for one day", ca_key, is_ca=True)
    certificate = _sign("127.0.0.1", key, "a CA for one day", ca_key, is_ca=False)
    made.ca.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    made.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    made.key.touch(mode=0o600)
    made.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    digest = bcrypt.hashpw(password.encode(), bcrypt.gensalt(ROUNDS)).decode()
    made.users.write_text(f"{username}:{digest}\n", encoding="utf-8")
    return made


def _sign(
    name: str, key: ec.EllipticCurvePrivateKey, by: str, by_key: ec.EllipticCurvePrivateKey, *, is_ca: bool
) -> x509.Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import NameOID

    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, by)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by_key.public_key()), critical=False)
    )
    if is_ca:
        usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
        builder = builder.add_extension(usage, critical=True)
    else:
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    return builder.sign(by_key, hashes.SHA256())
