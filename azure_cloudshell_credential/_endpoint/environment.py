"""Whether this is Cloud Shell, and where its token endpoint is.

Reads environment variables, and looks for one folder: no other file, no socket. Which variables mean what is taken from
the Cloud Shell image (Azure/CloudShell, ``linux/*.Dockerfile``) and from the clients that already detect it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from .audiences import is_guid
from .identity import Identity

DEFAULT_ENDPOINT = "http://localhost:50342/oauth2/token"
"""The documented address, https://learn.microsoft.com/azure/cloud-shell/msi-authorization."""

PATHS = ("/oauth2/token", "/metadata/identity/oauth2/token")
"""Where the endpoint is known to answer. A path that is none of these may be a broker's, with its secret in it."""

_REQUIREMENT = f"must be a loopback URL like {DEFAULT_ENDPOINT}, so that no token request leaves this machine."
# Numbers without leading zeros, which some resolvers take for octal ones.
_NUMBER = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_URL = re.compile(
    rf"http://(localhost|127(?:\.{_NUMBER}){{3}}|\[::1\])(?::([0-9]{{1,5}}))?([/?][!-~]*)?", re.ASCII | re.IGNORECASE
)

MARKERS = ("AZUREPS_HOST_ENVIRONMENT", "ACC_CLOUD", "AZD_IN_CLOUDSHELL", "POWERSHELL_DISTRIBUTION_CHANNEL")
"""Variables whose value marks a Cloud Shell container."""

VARIABLES_OF_OTHER_HOSTS = ("MSI_SECRET", "IDENTITY_ENDPOINT")
"""With either of these, MSI_ENDPOINT belongs to App Service, Azure ML, Arc or Service Fabric."""


IMAGE_FOLDER = "/usr/local/share/powershell/Modules/PSCloudShellUtility"
"""A folder that Cloud Shell's image has, and that no package brings (Azure/CloudShell, ``linux/tools.Dockerfile``)."""


def is_image() -> bool:
    """Whether this is Cloud Shell's image. It serves to say what is missing, and nothing else follows from it."""
    return os.path.isdir(IMAGE_FOLDER)


class Endpoint:
    """A token endpoint on this machine.

    :param url: its URL. Its ``authority`` is the value of the ``Host`` header.
    :param is_presumed: no variable names it: it is where Cloud Shell's is documented to be.
    :raises ValueError: if it is not a plain ``http`` URL of a loopback host.
    """

    def __init__(self, url: str, *, is_presumed: bool = False) -> None:
        parts = _URL.fullmatch(url) if isinstance(url, str) and "#" not in url else None
        port = int(parts[2] or 80) if parts else 0
        if parts is None or not 0 < port < 65536:
            raise ValueError(f"The endpoint {_REQUIREMENT}")
        self.url = url
        self.host = parts[1].strip("[]")
        self.port = port
        self.authority = f"{parts[1]}:{port}"
        self.is_presumed = is_presumed
        self.target = "/" + (parts[3] or "").removeprefix("/")


def is_marked(environ: Mapping[str, str]) -> bool:
    """Whether the environment carries one of Cloud Shell's markers."""
    return (
        environ.get("AZUREPS_HOST_ENVIRONMENT", "").startswith("cloud-shell")
        or bool(environ.get("ACC_CLOUD"))
        or environ.get("AZD_IN_CLOUDSHELL", "").lower() in ("1", "t", "true")
        or environ.get("POWERSHELL_DISTRIBUTION_CHANNEL", "").startswith("CloudShell")
    )


def managed_identity_is_cloud_shell(environ: Mapping[str, str]) -> bool:
    """Whether azure-identity's managed identity would ask Cloud Shell's endpoint here.

    So azure-identity decides (``ManagedIdentityCredential``, 1.27.0): MSI_ENDPOINT alone is Cloud Shell; with
    MSI_SECRET it is Azure ML; IDENTITY_ENDPOINT comes before both.
    """
    return bool(environ.get("MSI_ENDPOINT")) and not any(environ.get(name) for name in VARIABLES_OF_OTHER_HOSTS)


def is_led_to_a_broker(environ: Mapping[str, str]) -> bool:
    """Whether ``azure-cloudshell run`` or ``serve`` has made the environment.

    They set these four in two pairs, and nothing else does: on App Service all of them could be the same.
    MSI_ENDPOINT then is Cloud Shell's, served by the broker.
    """
    ours, app_services = environ.get("MSI_ENDPOINT"), environ.get("IDENTITY_ENDPOINT")
    is_paired = ours == environ.get("ARM_MSI_ENDPOINT") and app_services == environ.get("AZURE_MSI_ENDPOINT")
    return bool(ours and app_services) and is_paired and ours != app_services


class Environment:
    """What the environment variables say about Cloud Shell.

    ``endpoint`` is where to ask for tokens, None outside Cloud Shell. ``refusal`` is why there is none although the
    environment names one, ``other_host`` the variable that makes MSI_ENDPOINT another service's. ``tenant_id`` is the
    signed-in tenant (``ACC_TID``), ``cloud`` the name of the cloud (``ACC_CLOUD``). ``identity`` is the user whom
    ``ACC_TID`` and ``ACC_OID`` name, as far as these are ids: scripts use ACC_OID as the signed-in user's object id.

    :param environ: the environment variables, usually ``os.environ``.
    :param endpoint: a URL that takes precedence over the environment.
    :raises ValueError: only for an ``endpoint`` that is not a loopback URL; never for the environment.
    """

    def __init__(self, environ: Mapping[str, str], endpoint: str | None = None) -> None:
        self.endpoint: Endpoint | None = None
        self.refusal: str | None = None
        self.other_host: str | None = None
        self.tenant_id = environ.get("ACC_TID") or None
        self.cloud = environ.get("ACC_CLOUD") or None
        tenant_id, object_id = environ.get("ACC_TID", ""), environ.get("ACC_OID", "")
        has_user = is_guid(object_id)
        self.identity = Identity(
            tenant_id if is_guid(tenant_id) else None,
            object_id if has_user else None,
            source="ACC_OID" if has_user else "ACC_TID",
        )
        if endpoint is not None:
            self.endpoint = Endpoint(endpoint)
        elif managed_identity_is_cloud_shell(environ) or is_led_to_a_broker(environ):
            try:
                self.endpoint = Endpoint(environ["MSI_ENDPOINT"])
            except ValueError:
                # The variable's value stays out of the text: it may hold another service's secret.
                self.refusal = f"MSI_ENDPOINT is not Cloud Shell's: it {_REQUIREMENT}"
                if is_led_to_a_broker(environ):
                    # One on another machine, as a container's is. It is asked by App Service's variables.
                    self.refusal, self.other_host = None, "IDENTITY_ENDPOINT"
        elif is_marked(environ):
            self.endpoint = Endpoint(DEFAULT_ENDPOINT, is_presumed=True)
        elif environ.get("MSI_ENDPOINT"):
            self.other_host = next(name for name in VARIABLES_OF_OTHER_HOSTS if environ.get(name))
