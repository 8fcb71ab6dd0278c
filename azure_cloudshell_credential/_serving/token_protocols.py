"""The protocols in which clients ask a local endpoint for tokens, from the server's side.

Cloud Shell's, App Service's (2019-08-01, and 2017-09-01 with another header), the virtual machine's (IMDS), and that of
azd's external authentication. Each knows where its requests come in, what makes one valid, and the form of its answers;
none knows where tokens come from. The emulator and the broker speak them.

Sources: Cloud Shell's forms are in azure-cli#14218 and Azure/CloudShell#477; App Service's and the virtual machine's in
Microsoft's documentation of managed identities and in MSAL for Python (``managed_identity.py``, 1.39.0), which reads
them; azd's in Azure/azure-dev, ``cli/azd/docs/external-authentication.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from time import time

from .._endpoint.environment import PATHS
from .._endpoint.untrusted_json import read_json
from .messages import Request, Response, compact, error_response

APP_SERVICE_PATH = "/msi/token"
IMDS_PATH = "/metadata/identity/oauth2/token"
AZD_PATH = "/token"

_NO_CLIENT_ID = "00000000-0000-0000-0000-000000000000"

IDENTITY_FIELDS = ("client_id", "clientid", "mi_res_id", "msi_res_id", "object_id", "principal_id")
"""The fields in which a client names a user-assigned identity, whatever the protocol."""

_DATED_VERSION = "2017-09-01"
"""App Service's first version of the API: its ``expires_on`` is a date. azure-identity 1.5 reads nothing else there."""


def same(given: str, secret: str) -> bool:
    """Whether a caller knows a secret, in a time that does not tell how much of it."""
    # Imported with the first request: it brings OpenSSL, which a command that asks for nothing need not wait for.
    from hmac import compare_digest

    return compare_digest(given.encode(), secret.encode())


class TokenProtocol:
    """One protocol.

    :param secret: what a request must carry, where the protocol has a place for it.
    """

    paths: tuple[str, ...] = ()

    def __init__(self, secret: str = "") -> None:
        self._secret = secret

    def environment(self, base: str) -> dict[str, str]:
        """The variables that lead a client here.

        :param base: the URL that the paths are below.
        """
        raise NotImplementedError

    def resource_of(self, request: Request) -> str | Response:
        """The resource that a request is for, or the answer to one that is not valid."""
        raise NotImplementedError

    def tenant_of(self, request: Request) -> str | None:
        """The tenant that a request is for, if it names one."""
        return None

    def token(self, resource: str, token: str, expires_on: int, not_before: int, api_version: str = "") -> Response:
        """The answer with a token.

        :param expires_on: in Unix time, as is ``not_before``.
        :param api_version: the version of the API that the client asked for.
        """
        raise NotImplementedError

    def error(self, code: str, message: str) -> Response:
        """The answer without one."""
        raise NotImplementedError


class _MetadataProtocol(TokenProtocol):
    """What Cloud Shell's and the virtual machine's requests have in common."""

    missing: str

    def resource_of(self, request: Request) -> str | Response:
        """The resource that a request is for."""
        if request.headers.get("metadata", "").lower() != "true":
            return self.error("bad_request_102", "Required metadata header not specified")
        return request.fields().get("resource") or self.error("invalid_request", self.missing)


class CloudShellProtocol(_MetadataProtocol):
    """``MSI_ENDPOINT``: what azure-identity speaks in every language."""

    paths = PATHS
    missing = "Required audience parameter not specified"

    def environment(self, base: str) -> dict[str, str]:
        """The variables that lead a client here."""
        return {"MSI_ENDPOINT": f"{base}/oauth2/token"}

    def token(self, resource: str, token: str, expires_on: int, not_before: int, api_version: str = "") -> Response:
        """The published form: seven fields, all strings."""
        return Response(200, compact(_oauth(resource, token, expires_on, not_before)))

    def error(self, code: str, message: str) -> Response:
        """Nested."""
        return error_response(400, code, message)


class ImdsProtocol(_MetadataProtocol):
    """A virtual machine's: the Azure CLI, and others that read only the variable for the host."""

    paths = (IMDS_PATH,)
    missing = "Required query variable 'resource' is missing"

    def environment(self, base: str) -> dict[str, str]:
        """The variables that lead a client here."""
        return {"AZURE_POD_IDENTITY_AUTHORITY_HOST": base}

    def token(self, resource: str, token: str, expires_on: int, not_before: int, api_version: str = "") -> Response:
        """The documented form: strings."""
        fields = _oauth(resource, token, expires_on, not_before)
        return Response(200, compact({**fields, "client_id": _NO_CLIENT_ID, "ext_expires_in": fields["expires_in"]}))

    def error(self, code: str, message: str) -> Response:
        """Flat."""
        return Response(400, compact({"error": code, "error_description": message}))


class AppServiceProtocol(TokenProtocol):
    """``IDENTITY_ENDPOINT`` and ``IDENTITY_HEADER``. The older form has another header and a date for the expiry."""

    paths = (APP_SERVICE_PATH,)

    def environment(self, base: str) -> dict[str, str]:
        """The variables that lead a client here."""
        return {"IDENTITY_ENDPOINT": f"{base}{APP_SERVICE_PATH}", "IDENTITY_HEADER": self._secret}

    def resource_of(self, request: Request) -> str | Response:
        """The resource that a request is for."""
        given = request.headers.get("x-identity-header") or request.headers.get("secret") or ""
        if not same(given, self._secret):
            return _app_service_error(401, "The secret header is missing or wrong.")
        return request.query.get("resource") or _app_service_error(400, "Required parameter 'resource' is missing.")

    def token(self, resource: str, token: str, expires_on: int, not_before: int, api_version: str = "") -> Response:
        """The documented form, and ``expires_in``: a client that reads only that would keep a token for ever."""
        expiry = str(expires_on)
        if api_version == _DATED_VERSION:
            expiry = datetime.fromtimestamp(expires_on, timezone.utc).strftime("%m/%d/%Y %H:%M:%S +00:00")
        content = {
            "access_token": token,
            "expires_in": _seconds_left(expires_on),
            "expires_on": expiry,
            "resource": resource,
            "token_type": "Bearer",
            "client_id": _NO_CLIENT_ID,
        }
        return Response(200, compact(content))

    def error(self, code: str, message: str) -> Response:
        """Status and message."""
        return _app_service_error(400, f"{code}: {message}")


class AzdProtocol(TokenProtocol):
    """``AZD_AUTH_ENDPOINT`` and ``AZD_AUTH_KEY``: azd's own, for asking the program that started it."""

    paths = (AZD_PATH,)

    def environment(self, base: str) -> dict[str, str]:
        """The variables that lead a client here."""
        return {"AZD_AUTH_ENDPOINT": base, "AZD_AUTH_KEY": self._secret}

    def resource_of(self, request: Request) -> str | Response:
        """The scope that a request is for."""
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not same(key, self._secret):
            return Response(401, compact({"status": "error", "code": "GetTokenError", "message": "The key is wrong."}))
        scopes = _json_object(request.body).get("scopes")
        if not isinstance(scopes, list) or len(scopes) != 1 or not isinstance(scopes[0], str) or not scopes[0]:
            return self.error("invalid_request", "Exactly one scope is needed.")
        return scopes[0]

    def tenant_of(self, request: Request) -> str | None:
        """The tenant that a request is for, if it names one."""
        tenant = _json_object(request.body).get("tenantId")
        return tenant if isinstance(tenant, str) and tenant else None

    def token(self, resource: str, token: str, expires_on: int, not_before: int, api_version: str = "") -> Response:
        """The published form: the expiry as RFC 3339 has it."""
        expiry = datetime.fromtimestamp(expires_on, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        return Response(200, compact({"status": "success", "token": token, "expiresOn": expiry}))

    def error(self, code: str, message: str) -> Response:
        """A status of 200, and the error in the body."""
        return Response(200, compact({"status": "error", "code": "GetTokenError", "message": f"{code}: {message}"}))


def _oauth(resource: str, token: str, expires_on: int, not_before: int) -> dict[str, str]:
    return {
        "access_token": token,
        "refresh_token": "",
        "expires_in": _seconds_left(expires_on),
        "expires_on": str(expires_on),
        "not_before": str(not_before),
        "resource": resource,
        "token_type": "Bearer",
    }


def _seconds_left(expires_on: int) -> str:
    return str(max(0, expires_on - int(time())))


def _app_service_error(status: int, message: str) -> Response:
    return Response(status, compact({"statusCode": status, "message": message}))


def _json_object(body: bytes) -> Mapping[str, object]:
    content = read_json(body)
    return content if isinstance(content, dict) else {}
