"""Made-up tokens in the form of Microsoft Entra ID's v1 access tokens, and the keys to verify them with."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from functools import lru_cache
from hashlib import sha256
from typing import Any
from uuid import uuid4

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

from ._identity import MARK, Identity


@lru_cache(maxsize=1)
def _private_key() -> rsa.RSAPrivateKey:
    # One key a process: making one takes far longer than everything else an emulator does to start.
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@lru_cache(maxsize=1)
def _key_id() -> str:
    public = _private_key().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return urlsafe_b64encode(sha256(public).digest()[:20]).decode().rstrip("=")


def issuer(tenant_id: str) -> str:
    """The issuer of a tenant's v1 tokens."""
    return f"https://sts.windows.net/{tenant_id}/"


def mint(identity: Identity, audience: str, issued_at: int, expires_on: int, serial: int) -> str:
    """Sign a token.

    The claims are those that clients and services are known to insist on: MSAL and azure-cli fail without ``iat`` and
    ``sub``, azure-cli reads ``tid`` and ``unique_name``, Azurite checks ``nbf``, ``exp``, ``iat``, ``iss`` and ``aud``.
    """
    claims = {
        "aud": audience,
        "iss": issuer(identity.tenant_id),
        "iat": issued_at,
        "nbf": issued_at,
        "exp": expires_on,
        "tid": identity.tenant_id,
        "oid": identity.object_id,
        "sub": sha256(f"{identity.object_id}{audience}".encode()).hexdigest()[:43],
        "upn": identity.user,
        "unique_name": identity.user,
        "name": identity.name,
        "uti": uuid4().hex[:22],
        "ver": "1.0",
        # Not a claim of Entra's: it marks the token as made up, and tells tokens from before a revocation.
        MARK: serial,
    }
    headers = {"kid": _key_id(), "x5t": _key_id()}
    return jwt.encode(claims, _private_key(), algorithm="RS256", headers=headers)


def key_set() -> dict[str, Any]:
    """The public keys, as a JSON Web Key Set."""
    key: dict[str, Any] = RSAAlgorithm.to_jwk(_private_key().public_key(), as_dict=True)
    return {"keys": [{**key, "kid": _key_id(), "x5t": _key_id(), "use": "sig", "alg": "RS256"}]}


def verify(token: str) -> dict[str, Any]:
    """The claims of a token that these keys signed, expired or not.

    :raises jwt.InvalidTokenError: if they did not sign it.
    """
    key = jwt.PyJWKSet.from_dict(key_set()).keys[0]
    return jwt.decode(token, key.key, algorithms=["RS256"], options={"verify_exp": False, "verify_aud": False})
