"""What an emulator is set to: who is signed in, what there are tokens for, and what is assumed of the endpoint."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from threading import Lock
from uuid import NAMESPACE_DNS, uuid5

from .._endpoint.audiences import identifiers_of, plain
from ._questions import GRANTED
from ._services import supported_audiences
from .behaviour import Behaviour

DEFAULT_AUDIENCES = supported_audiences()


@dataclass(frozen=True)
class Identity:
    """The user who is signed in.

    :param user: the user principal name.
    :param name: the display name. Default: made from ``user``.
    :param tenant_id: the tenant signed in to.
    :param object_id: the user's object id in that tenant. Default: made from ``user``: another user has another.
    """

    __module__ = "azure_cloudshell_credential.emulator"

    user: str = "ada@contoso.example"
    name: str = ""
    tenant_id: str = "11111111-aaaa-4bbb-8ccc-222222222222"
    object_id: str = ""

    def __post_init__(self) -> None:
        given = self.user.partition("@")[0].replace(".", " ")
        made = {"name": f"{given.title()} Example", "object_id": str(uuid5(NAMESPACE_DNS, self.user.casefold()))}
        for field, value in made.items():
            if not getattr(self, field):
                object.__setattr__(self, field, value)

    def changed(self, **changes: str) -> Identity:
        """The same identity with some fields changed. Another user has another name and another object id."""
        is_another = changes.get("user", self.user) != self.user
        return replace(self, **{**({"name": "", "object_id": ""} if is_another else {}), **changes})


# One for all, since each change reads what was set before, and takes no time.
_changing = Lock()


class Settings:
    """What an emulator is set to, which it can be at any time. ``CloudShellEmulator`` documents each."""

    def __init__(
        self,
        identity: Identity,
        lifetime: int | None,
        audiences: Iterable[str] | None,
        latency: float,
        list_audiences: bool,
        assumed: Behaviour,
    ) -> None:
        self.identity: Identity = identity
        self._lifetime = lifetime
        self.audiences: list[str] | None = None if audiences is None else list(audiences)
        self.latency = latency
        self.list_audiences = list_audiences
        self.assumed = assumed

    @property
    def lifetime(self) -> int:
        """How long tokens live that are issued from now on, in seconds. Until it is set: as ``assumed`` says."""
        return self.assumed.lifetime if self._lifetime is None else self._lifetime

    @lifetime.setter
    def lifetime(self, seconds: int) -> None:
        self._lifetime = seconds

    def sign_in(self, **changes: str) -> None:
        """Sign in as another user, or to another tenant.

        :param changes: what is different: fields of ``Identity``, such as ``user`` or ``tenant_id``.
        """
        with _changing:
            self.identity = self.identity.changed(**changes)

    def deny(self, name: str) -> None:
        """Support an audience no longer, under any of its identifiers.

        :param name: a URI, an application id, a scope, or a short name such as ``vault``.
        :raises ValueError: for anything else.
        """
        denied = {plain(identifier) for identifier in identifiers_of(name)}
        with _changing:
            listed = DEFAULT_AUDIENCES if self.audiences is None else self.audiences
            self.audiences = [audience for audience in listed if plain(audience) not in denied]

    def allow(self, name: str) -> None:
        """Support an audience, under all of its identifiers.

        :param name: as for ``deny``.
        :raises ValueError: for anything else.
        """
        allowed = identifiers_of(name)
        with _changing:
            if self.audiences is not None:
                self.audiences = [*self.audiences, *allowed]


def supports(settings: Settings, resource: str) -> bool:
    """Whether there are tokens for a resource."""
    supported = settings.audiences
    if supported is None or resource in supported:
        return True
    return settings.assumed.audience_with_slash_added == GRANTED and plain(resource) in map(plain, supported)
