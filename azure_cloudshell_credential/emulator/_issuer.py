"""What the endpoint issues: made-up tokens in the form of Microsoft Entra ID's v1 access tokens.

``Issuer`` keeps each until it expires or is revoked; the keys, one for the process, verify them.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from threading import Lock
from time import time
from typing import Any, NamedTuple
from uuid import uuid4

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

from ._questions import ARM
from ._settings import Identity, Settings

MARK = "emulator_serial"
"""The claim that only made-up tokens have."""


class Issued(NamedTuple):
    """A token, with its times in Unix time."""

    token: str
    issued_at: int
    expires_on: int


class Issuer:
    """Issues tokens, and knows which of them are still good. Any thread may call it.

    :param settings: who is signed in, how long tokens live, and what is assumed of them; may change at any time.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._mutex = Lock()
        self._serial = 0
        self._revoked_before = 0
        self.forget()

    def forget(self) -> None:
        """Issue new tokens from now on. Those issued so far stay as good as they are."""
        with self._mutex:
            self._kept: dict[str, Issued] = {}

    def revoke(self) -> None:
        """Issue new tokens from now on. None of those issued so far is good any more."""
        with self._mutex:
            self._kept, self._revoked_before = {}, self._serial

    def has_expired(self, claims: Mapping[str, Any]) -> bool:
        """Whether a token with these claims is past its life, or revoked."""
        return int(claims["exp"]) <= time() or int(claims.get(MARK, 0)) <= self._revoked_before

    def issue(self, resource: str) -> Issued:
        """A token for who is signed in: for one resource the same one until it expires."""
        with self._mutex:
            kept = self._kept.get(resource)
            if kept is None or kept.expires_on <= time() or not self._settings.assumed.token_is_kept:
                kept = self._kept[resource] = self._mint(self._settings.identity, resource)
            return kept

    def mint(self, resource: str, *, identity: Identity | None = None, lifetime: int | None = None) -> Issued:
        """A new token, which is not kept.

        :param identity: None: who is signed in.
        :param lifetime: None: that of the others.
        """
        with self._mutex:
            return self._mint(identity or self._settings.identity, resource, lifetime)

    def _mint(self, identity: Identity, resource: str, lifetime: int | None = None) -> Issued:
        settings = self._settings
        issued_at = int(time())
        expires_on = issued_at + (settings.lifetime if lifetime is None else lifetime)
        self._serial += 1
        audience = settings.assumed.audience_for_arm_without_slash if resource == ARM.rstrip("/") else resource
        token = signed(identity, audience, min(issued_at, expires_on), expires_on, self._serial)
        return Issued(token, issued_at, expires_on)


def openid_configuration(origin: str, tenant_id: str) -> dict[str, Any]:
    """A tenant's OpenID configuration: where its keys are."""
    return {
        "issuer": issuer(tenant_id),
        "jwks_uri": f"{origin}/common/discovery/keys",
        "authorization_endpoint": f"https://login.microsoftonline.com/{tenant_id}/oauth2/authorize",
        "token_endpoint": f"https://login.microsoftonline.com/{tenant_id}/oauth2/token",
        "id_token_signing_alg_values_supported": ["RS256"],
    }


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


def signed(identity: Identity, audience: str, issued_at: int, expires_on: int, serial: int) -> str:
    """A token, signed.

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
