"""Client certificates that TLS takes and that cannot be read: parts of them are not what their kind says."""

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID, ObjectIdentifier

from forecourt.access.development import Certificate, DevelopmentAuthority

ALTERNATIVE_NAME = "2.5.29.17"
TIMESTAMPS = "1.3.6.1.4.1.11129.2.4.2"
ONE, TWIN = "1.3.6.1.4.1.99999.1", "1.3.6.1.4.1.99999.2"
TWINS = b"\x86\x8d\x1f\x02", b"\x86\x8d\x1f\x01"
"""How the second one of them ends, and how the first one does."""


def der(tag: int, content: bytes) -> bytes:
    """A value in DER."""
    size = len(content)
    long = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, size] if size < 0x80 else [tag, 0x80 | len(long), *long]) + content


ODD = {
    "an address that is not ASCII": [(ALTERNATIVE_NAME, der(0x30, der(0x86, b"http://\xff")))],
    "a name of an unknown kind": [(ALTERNATIVE_NAME, der(0x30, der(0xA5, der(0xA1, der(0x0C, b"abc")))))],
    "a list that ends too early": [(TIMESTAMPS, der(0x04, b"\x00\x09\x01"))],
    "an extension that is there twice": [(ONE, der(0x05, b"")), (TWIN, der(0x05, b""))],
}
"""What is wrong with a certificate, and its extensions that make it so."""


def odd_certificate(authority: DevelopmentAuthority, kind: str, name: str = "feed") -> Certificate:
    """A certificate of the authority, for a client of that name, that cannot be read."""
    signer = load_pem_private_key(authority.pair.key, password=None)
    assert isinstance(signer, EllipticCurvePrivateKey)
    key, now = generate_private_key(SECP256R1()), datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.load_pem_x509_certificate(authority.pair.certificate).subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
    )
    for oid, value in ODD[kind]:
        extension = x509.UnrecognizedExtension(ObjectIdentifier(oid), value)
        builder = builder.add_extension(extension, critical=False)
    pem = _with_twins(builder.sign(signer, hashes.SHA256()), signer)
    return Certificate(pem, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def _with_twins(certificate: x509.Certificate, signer: EllipticCurvePrivateKey) -> bytes:
    """The certificate signed anew, as PEM: a builder does not take an extension twice, so its name is changed here."""
    signed = certificate.tbs_certificate_bytes.replace(*TWINS)
    algorithm = der(0x30, der(0x06, bytes.fromhex("2a8648ce3d040302")))
    signature = der(0x03, b"\x00" + signer.sign(signed, ECDSA(hashes.SHA256())))
    again = x509.load_der_x509_certificate(der(0x30, signed + algorithm + signature))
    return again.public_bytes(Encoding.PEM)
