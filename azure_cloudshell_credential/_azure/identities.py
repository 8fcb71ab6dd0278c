"""Whose token it is: a chain refuses another user's token, or says in the log that it is another's.

azure-identity's own design puts the stability of the identity before availability (azure-sdk-for-python#10349).

What is known is known to the process, for each endpoint: its last token names Cloud Shell's user, whichever credential
asked for it. Before the first one, ``ACC_TID`` and ``ACC_OID`` do.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from .._endpoint import failures
from .._endpoint.audiences import is_same
from .._endpoint.failures import TRANSIENT, Failure
from .._endpoint.identity import Identity
from .._endpoint.scopes import TokenRequest
from .._endpoint.token import Token

_LOGGER = logging.getLogger(__name__)


class Identities:
    """The identities that tokens have been handed out of: those of one endpoint, and others in its place."""

    def __init__(self) -> None:
        self.user: Identity | None = None
        """Whose the endpoint's last token is."""
        self._users: list[Identity] = []
        self._changes = 0
        self._issued: set[str] = set()
        self._others: dict[tuple[str, str], tuple[str, Identity]] = {}
        self._told: set[tuple[str, str]] = set()

    def note(self, resource: str, user: Identity) -> None:
        """Note whose token the endpoint has issued, and say so if it is another user's than the tokens before."""
        if resource not in self._issued:
            self._issued.add(resource)
            self._changes += 1
        before = self.user
        if before is not None and before.tenant_id == user.tenant_id and before.object_id == user.object_id:
            return
        if not user.is_known:
            return
        self.user = user
        self._changes += 1
        if all(user.differs(each) for each in self._users):
            if before is not None:
                _LOGGER.warning(
                    "Cloud Shell's token for %s is for %s; those before were for %s.",
                    *(resource, user.beside(before), before.beside(user)),
                )
            self._users.append(user)
        self._tell(user)

    def judge(self, request: TokenRequest, cause: Failure, token: Token, said: Identity) -> Failure | None:
        """Whether another credential's token may be handed out. If so, what there is to say of it is logged.

        Before Cloud Shell's user is known, nobody can tell whether the token is another's: it is handed out on the
        condition that it does not turn out to be.

        :param cause: why Cloud Shell has none.
        :param said: Cloud Shell's user as the environment names it.
        :return: why not.
        """
        if cause.kind == "not_cloud_shell":
            return None
        theirs = token.identity

        def is_refused() -> bool:
            # One that Cloud Shell could have issued, had it not failed this time; one that it has issued before.
            stands_in = cause.kind in TRANSIENT or any(is_same(request.resource, each) for each in self._issued)
            return stands_in and self._known(said).differs(theirs) and not self._is_asked_for_elsewhere(request)

        decided_at = self._changes
        if is_refused():
            return failures.another_identity(request.resource, cause, theirs, self._known(said))
        token.condition = _both(token.condition, self._unless(is_refused, decided_at))
        is_new = self._others.setdefault(theirs.key, (request.resource, theirs))[1] is theirs
        mine = self._known(said)
        if is_new and not (mine.object_id and theirs.object_id):
            _LOGGER.info(
                "%s is accessed as %s. Whether that is Cloud Shell's user is not known.", request.resource, theirs.who
            )
        self._tell(mine)
        return None

    def _unless(self, is_refused: Callable[[], bool], decided_at: int) -> Callable[[], bool]:
        """A condition that is decided anew only after something more has become known."""

        def holds() -> bool:
            nonlocal decided_at
            changes = self._changes
            if changes != decided_at:
                if is_refused():
                    return False
                decided_at = changes
            return True

        return holds

    def _known(self, said: Identity) -> Identity:
        return self.user or said

    def _is_asked_for_elsewhere(self, request: TokenRequest) -> bool:
        """Whether a tenant was asked for that Cloud Shell's token shows not to be its own."""
        return self.user is not None and request.is_in_another_tenant(self.user.tenant_id)

    def _tell(self, mine: Identity) -> None:
        """Say once of each identity that it is not Cloud Shell's."""
        for key, (resource, theirs) in list(self._others.items()):
            if mine.differs(theirs) and key not in self._told:
                self._told.add(key)
                _LOGGER.warning(
                    "%s is accessed as %s, not as %s, Cloud Shell's user.",
                    *(resource, theirs.beside(mine), mine.beside(theirs)),
                )


def _both(first: Callable[[], bool] | None, second: Callable[[], bool]) -> Callable[[], bool]:
    return second if first is None else lambda: first() and second()


_by_port: dict[int, Identities] = {}


def known_at(port: int) -> Identities:
    """What this process knows of the identities at an endpoint, which on loopback its port tells from others."""
    return _by_port.setdefault(port, Identities())


def forget(port: int) -> None:
    """Forget what is known of an endpoint: another one is there now."""
    _by_port.pop(port, None)
