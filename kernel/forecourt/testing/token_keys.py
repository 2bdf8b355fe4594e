"""An issuer of tokens for tests: keys of every kind, their JWKs, and tokens that are wrong in any way."""

import json
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa


class Signer:
    """A private key that signs with one algorithm, ``kid`` being the algorithm's name by default."""

    def __init__(self, algorithm: str = "EdDSA", *, kid: str | None = None, key: Any = None) -> None:
        self.algorithm = algorithm
        self.kid = kid or algorithm
        self.key = key or _key(algorithm)

    @property
    def jwk(self) -> dict[str, Any]:
        """The public key as a JWK."""
        made = jwt.get_algorithm_by_name(self.algorithm)
        public = json.loads(made.to_jwk(self.key.public_key()))
        return {**public, "kid": self.kid, "use": "sig", "alg": self.algorithm}

    def sign(self, claims: dict[str, Any], *, kid: str | None = "") -> str:
        """A token; ``kid`` other than its own, or None for a token that names no key."""
        named = self.kid if kid == "" else kid
        headers = {} if named is None else {"kid": named}
        # Through the part of PyJWT that does not look at claims: a test may sign anything.
        payload = json.dumps(claims).encode()
        return jwt.PyJWS().encode(payload, self.key, algorithm=self.algorithm, headers=headers)


def jwk_set(*signers: Signer) -> str:
    """The JWK set that these sign for."""
    return json.dumps({"keys": [signer.jwk for signer in signers]})


def _key(algorithm: str) -> Any:
    match algorithm[:2]:
        case "RS" | "PS":
            return rsa.generate_private_key(65537, 2048)
        case "ES":
            return ec.generate_private_key(ec.SECP256R1())
        case _:
            return ed25519.Ed25519PrivateKey.generate()
