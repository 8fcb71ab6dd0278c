"""What is asked for: a request for a token, and the resource that its scope is for.

A scope is resolved here and nowhere else, once for each request, which then carries the resource wherever it goes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Hashable, Mapping

from . import audiences
from .text import quoted
from .token import is_any_tenant

_SCOPE = re.compile(r"[^\s\x00-\x1f\x7f-\x9f\ud800-\udfff]+")
# Graph's permissions: Resource.Operation, Resource.Operation.Constraint.
_PERMISSION = re.compile(r"[A-Z][A-Za-z]+(?:-[A-Za-z]+)?(?:\.[A-Z][A-Za-z]+){1,3}")
_URI = re.compile(r"[a-z][a-z0-9+.-]*:.+", re.IGNORECASE)


class TokenRequest:
    """A request for a token, as ``get_token`` and ``get_token_info`` get it.

    ``resource`` is what the scopes are for, found out here and nowhere else. Where one of them is not a scope,
    ``mistake`` says so; where they are for several resources, ``is_for_several``. ``resource`` then is their text, for
    messages: a credential that is not ours may take them.

    :param scopes: the scopes.
    :param options: the keyword arguments or options; None and False count as absent: Key Vault sends ``claims: None``.
    :raises ValueError: if there is no scope.
    """

    __slots__ = ("claims", "is_for_several", "key", "mistake", "options", "resource", "scopes", "tenant_id")

    def __init__(self, scopes: tuple[str, ...], options: Mapping[str, object]) -> None:
        if not scopes:
            raise ValueError("get_token requires a scope.")
        self.scopes = scopes
        self.mistake = ""
        self.is_for_several = False
        try:
            self.resource = scope_to_resource(scopes[0])
            if len(scopes) > 1:
                self.is_for_several = len({audiences.canonical(scope_to_resource(scope)) for scope in scopes}) > 1
        except ValueError as error:
            self.mistake = str(error)
        if self.mistake or self.is_for_several:
            self.resource = " ".join(str(scope).removesuffix("/.default") for scope in scopes)
        self.options = {name: value for name, value in options.items() if value}
        if "tenant_id" in self.options and is_any_tenant(str(self.options["tenant_id"])):
            del self.options["tenant_id"]
        self.claims: str | None = self.options.get("claims")  # type: ignore[assignment]
        self.tenant_id: str | None = self.options.get("tenant_id")  # type: ignore[assignment]
        rest = sorted((name, repr(value)) for name, value in self.options.items() if name != "claims")
        self.key: Hashable = (scopes, *rest) if rest else scopes

    def is_in_another_tenant(self, tenant_id: str | None) -> bool:
        """Whether a tenant is known to be another than the one asked for. A name is not compared with an id."""
        asked = self.tenant_id
        if not (asked and tenant_id and audiences.is_guid(asked)):
            return False
        return asked.casefold() != tenant_id.casefold()


def scope_to_resource(scope: str) -> str:
    """The resource that a scope is for.

    ``/.default`` is stripped and nothing else of the URI touched, so that ``https://management.azure.com//.default``
    asks for ``https://management.azure.com/``. A delegated scope (``https://graph.microsoft.com/User.Read``) asks
    for its resource. A bare resource, a URI or an application id, passes through. A bare permission is Microsoft
    Graph's, as it is to Microsoft Entra ID ("Scopes and permissions in the Microsoft identity platform").

    :raises ValueError: if it is not a scope.
    """
    if not isinstance(scope, str) or not _SCOPE.fullmatch(scope):
        raise ValueError("A scope must be a non-empty string without white space or control characters.")
    if is_bare_permission(scope):
        return audiences.resource_for("graph", audiences.cloud_named(os.environ.get("ACC_CLOUD"))) or scope
    resource = _resource_of(scope)
    if not (_URI.fullmatch(resource) or audiences.is_guid(resource)):
        raise ValueError(_not_a_scope(scope, resource))
    return resource


def _resource_of(scope: str) -> str:
    if scope.endswith("/.default"):
        return scope.removesuffix("/.default")
    if audiences.lookup(scope) is not None:
        return scope
    # The slashes of "https://" separate nothing: only one after them separates a permission from its resource.
    path_start = scope.find("://") + 3 if "://" in scope else 0
    slash = scope.rfind("/", path_start)
    has_permission = path_start < slash < len(scope) - 1
    return scope[:slash] if has_permission else scope


def _not_a_scope(scope: str, name: str) -> str:
    """What to say of a name where a scope belongs: a short name, or a resource without its scheme."""
    meant = audiences.named_as(name, audiences.cloud_named(os.environ.get("ACC_CLOUD")))
    use = f"use {meant.rstrip('/')}/.default" if meant else "use a resource's URI or application ID with /.default"
    # Somebody may have passed a token.
    return f"'{quoted(scope, 100)}' is not a scope: {use}"


def is_bare_permission(scope: str) -> bool:
    """Whether a scope is a permission without a resource, such as ``User.Read``."""
    return _PERMISSION.fullmatch(scope) is not None
