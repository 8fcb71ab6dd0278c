"""A stand-in for the sign-in hosts of Microsoft Entra ID: the documents that clients read before they ask for a token.

MSAL for Python reads the first in its constructor, and with it the Azure CLI in Cloud Shell. Nobody can sign in.
"""

from __future__ import annotations

from .._serving.messages import Request, Response, compact

HOSTS = (
    "login.microsoftonline.com",
    "login.microsoftonline.us",
    "login.chinacloudapi.cn",
    "login.partner.microsoftonline.cn",
)
"""Those of the clouds that azure-cli's ``cloud.py`` and MSAL know."""


def respond(request: Request) -> Response:
    """Respond to a request."""
    # The Azure CLI asks with one slash and with two.
    parts = [part for part in request.path.split("/") if part]
    if parts[-2:] == [".well-known", "openid-configuration"]:
        return _openid_configuration(f"https://{request.headers['host']}/{parts[0]}")
    if parts[-1:] == ["token"]:
        error = {"error": "invalid_request", "error_description": "The emulator signs nobody in. Use --az-login."}
        return Response(400, compact(error))
    return Response(404, compact({"error": "not_found", "error_description": "The emulator does not serve this."}))


def _openid_configuration(authority: str) -> Response:
    content = {
        "issuer": f"{authority}/v2.0",
        "authorization_endpoint": f"{authority}/oauth2/v2.0/authorize",
        "token_endpoint": f"{authority}/oauth2/v2.0/token",
        "device_authorization_endpoint": f"{authority}/oauth2/v2.0/devicecode",
        "jwks_uri": f"{authority}/discovery/v2.0/keys",
    }
    return Response(200, compact(content))
