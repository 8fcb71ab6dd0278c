"""Whose a token is: a tenant and an object id, each of which may not be known.

Read from claims that nobody has verified, or from ``ACC_TID`` and ``ACC_OID``: it serves to notice another user and to
name them, never to grant anything.
"""

from __future__ import annotations

from collections.abc import Mapping

from .audiences import GUID
from .text import quoted

_NAMES = ("upn", "unique_name", "preferred_username")


class Identity:
    """Whose a token is.

    :param tenant_id: the tenant; None if not known.
    :param object_id: the user or the application in it; None if not known.
    :param name: for messages: the user's name, or which application it is.
    :param domain: the domain of a user's name, if the user belongs to the tenant and is not a guest in it.
    :param source: where it comes from, if not from a token.
    """

    # One for each token, of which thousands may be held.
    __slots__ = ("_name", "domain", "object_id", "source", "tenant_id")

    def __init__(
        self,
        tenant_id: str | None = None,
        object_id: str | None = None,
        name: str | None = None,
        domain: str | None = None,
        source: str = "",
    ) -> None:
        self.tenant_id = tenant_id
        self.object_id = object_id
        self._name = name
        self.domain = domain
        self.source = source

    @property
    def name(self) -> str | None:
        """The name, fit to be shown."""
        return self._name and quoted(self._name, 200)

    @property
    def key(self) -> tuple[str, str]:
        """What is compared."""
        return ((self.tenant_id or "").casefold(), (self.object_id or "").casefold())

    @property
    def is_known(self) -> bool:
        """Whether anything of it can be compared."""
        return bool(self.tenant_id or self.object_id)

    def differs(self, other: Identity) -> bool:
        """Whether the two are known to be different: what is not known differs from nothing."""
        return any(mine and theirs and mine != theirs for mine, theirs in zip(self.key, other.key, strict=True))

    def is_in_domain(self, name: str) -> bool:
        """Whether a domain name is known to be one of the tenant's.

        Only a member's own domain tells: a guest's name, and a part of a domain, belong to other tenants.
        """
        return self.domain is not None and self.domain == name.casefold()

    @property
    def who(self) -> str:
        """Whose it is, for a message."""
        return self._described(self.name)

    def _described(self, name: str | None) -> str:
        who = name or (f"the object {self.object_id}" if self.object_id else "an unnamed user")
        return f"{who} in tenant {self.tenant_id}" if self.tenant_id else who

    def beside(self, other: Identity) -> str:
        """Whose it is, for a message that names the other one too: by object id where the names do not tell."""
        name = self.name
        if name and self.object_id and name.casefold() == (other.name or name).casefold():
            name = f"{name} (object {self.object_id})"
        return self._described(name) + (f" (from {self.source})" if self.source else "")


def identity_in(claims: Mapping[str, object]) -> Identity:
    """Whose a token with these claims is.

    An Entra guest's token has the home tenant as ``idp``, a personal account's name has a ``#``; a member's has no
    ``idp``, or one equal to ``iss``.
    """
    name, upn, provider = None, claims.get("upn"), claims.get("idp")
    for each in _NAMES:
        value = claims.get(each)
        if name is None and isinstance(value, str) and value:
            name = value
    if name is None and (application := _id_in(claims, "appid")):
        name = f"the application {application}"
    is_member = isinstance(upn, str) and "@" in upn and "#" not in upn and provider in (None, claims.get("iss"))
    domain = str(upn).rpartition("@")[2].casefold() if is_member else None
    tenant_id, object_id = _id_in(claims, "tid"), _id_in(claims, "oid")
    return _one_of(Identity(tenant_id, object_id, name, domain))


_latest = [Identity()]


def _one_of(identity: Identity) -> Identity:
    """The identity, once for all the tokens of one user that come after one another."""
    before = _latest[0]
    if all(getattr(before, each) == getattr(identity, each) for each in Identity.__slots__):
        return before
    _latest[0] = identity
    return identity


def _id_in(claims: Mapping[str, object], name: str) -> str | None:
    """A claim that should be an id, fit to be shown."""
    value = claims.get(name)
    if not isinstance(value, str) or not value:
        return None
    return value if GUID.fullmatch(value) else quoted(value, 200)
