"""Whose token it is: a chain does not pass from one user to another unnoticed.

azure-identity's own design puts the stability of the identity before availability (azure-sdk-for-python#10349).
"""

from __future__ import annotations

import logging

from .._endpoint import failures
from .._endpoint.failures import TRANSIENT, Failure
from .._endpoint.token import Token, wrong_tenant

_LOGGER = logging.getLogger(__name__)


class Identities:
    """The identities that one chain has handed out tokens of: Cloud Shell's, and those of its other credentials."""

    def __init__(self) -> None:
        self._cloud_shells: Token | None = None
        self._others: dict[object, Token] = {}
        self._told: set[object] = set()

    def answered(self, token: Token) -> None:
        """Note a token of Cloud Shell's."""
        self._cloud_shells = token
        self._tell()

    def judge(self, resource: str, cause: Failure, token: Token, tenant_id: str | None) -> Failure | None:
        """Whether another credential's token may be handed out.

        :param cause: why Cloud Shell has none.
        :param tenant_id: the tenant asked for. Who asks for another one than Cloud Shell's knows whose token it is.
        :return: why not.
        """
        mine = self._cloud_shells
        if cause.kind == "tenant" or (mine and wrong_tenant(resource, mine, tenant_id, None)):
            return None
        if cause.kind not in TRANSIENT:
            self._others[token.identity] = token
            self._tell()
        elif mine is not None and _differ(mine, token):
            return failures.another_identity(resource, cause, token.who, mine.who)
        return None

    def _tell(self) -> None:
        """Say once of each pair that two users answer."""
        mine = self._cloud_shells
        for identity, other in list(self._others.items()):
            if mine is not None and _differ(mine, other) and (mine.identity, identity) not in self._told:
                self._told.add((mine.identity, identity))
                _LOGGER.warning("Cloud Shell is signed in as %s. The rest is accessed as %s.", mine.who, other.who)


def _differ(first: Token, second: Token) -> bool:
    return len({first.identity, second.identity} - {None}) == 2
