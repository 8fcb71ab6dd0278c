"""Whether this is Cloud Shell, and where its token endpoint is.

Reads environment variables and nothing else: no file, no socket. Which variables mean what is taken from the
Cloud Shell image (Azure/CloudShell, ``linux/*.Dockerfile``) and from the clients that already detect it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

DEFAULT_ENDPOINT = "http://localhost:50342/oauth2/token"
"""The documented address, https://learn.microsoft.com/azure/cloud-shell/msi-authorization."""

_REQUIREMENT = (
    f"must be a URL like {DEFAULT_ENDPOINT}, whose host is localhost, 127.x.x.x or [::1], so that no token request "
    "leaves this machine."
)
_AUTHORITY = re.compile(r"(localhost|[0-9.]+|\[::1\])(?::([0-9]{1,5}))?", re.IGNORECASE)

MARKERS = ("AZUREPS_HOST_ENVIRONMENT", "ACC_CLOUD", "AZD_IN_CLOUDSHELL", "POWERSHELL_DISTRIBUTION_CHANNEL")
"""Variables whose value marks a Cloud Shell container."""

VARIABLES_OF_OTHER_HOSTS = ("MSI_SECRET", "IDENTITY_ENDPOINT")
"""With either of these, MSI_ENDPOINT belongs to App Service, Azure ML, Arc or Service Fabric."""


class Endpoint:
    """A token endpoint on this machine.

    :param url: its URL.
    :raises ValueError: if it is not a plain ``http`` URL of a loopback host.
    """

    def __init__(self, url: str) -> None:
        parts = _split(url) if isinstance(url, str) else None
        if parts is None:
            raise ValueError(f"The endpoint {_REQUIREMENT}")
        self.url = url
        self.host, self.port, self.target = parts

    @property
    def authority(self) -> str:
        """The value of the ``Host`` header."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _split(url: str) -> tuple[str, int, str] | None:
    """The host, port and target of a plain ``http`` URL of a loopback host; None for anything else."""
    # urlsplit removes tabs and line breaks.
    if not url.isascii() or not url.isprintable() or " " in url or "#" in url:
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    authority = _AUTHORITY.fullmatch(parts.netloc)
    if parts.scheme != "http" or authority is None:
        return None
    host, port = authority[1].strip("[]"), int(authority[2] or 80)
    if not 0 < port < 65536 or not _is_loopback(host):
        return None
    return host, port, f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"


def _is_loopback(host: str) -> bool:
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        # Leading zeros are among what is refused: some resolvers take such numbers for octal ones.
        return False


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


class Environment:
    """What the environment variables say about Cloud Shell.

    ``endpoint`` is where to ask for tokens, None outside Cloud Shell. ``refusal`` is why there is none although the
    environment names one, ``other_host`` the variable that makes MSI_ENDPOINT another service's. ``tenant_id`` is the
    signed-in tenant (``ACC_TID``), ``cloud`` the name of the cloud (``ACC_CLOUD``).
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.endpoint: Endpoint | None = None
        self.refusal: str | None = None
        self.other_host: str | None = None
        self.tenant_id = environ.get("ACC_TID") or None
        self.cloud = environ.get("ACC_CLOUD") or None


def read_environment(environ: Mapping[str, str], endpoint: str | None = None) -> Environment:
    """Find the token endpoint.

    :param environ: the environment variables, usually ``os.environ``.
    :param endpoint: a URL that takes precedence over the environment.
    :raises ValueError: only for an ``endpoint`` that is not a loopback URL; never for the environment.
    """
    found = Environment(environ)
    if endpoint is not None:
        found.endpoint = Endpoint(endpoint)
    elif managed_identity_is_cloud_shell(environ):
        try:
            found.endpoint = Endpoint(environ["MSI_ENDPOINT"])
        except ValueError:
            # The variable's value stays out of the text: it may hold a secret of another service's.
            found.refusal = f"MSI_ENDPOINT is not Cloud Shell's: it {_REQUIREMENT}"
    elif is_marked(environ):
        found.endpoint = Endpoint(DEFAULT_ENDPOINT)
    elif environ.get("MSI_ENDPOINT"):
        found.other_host = next(name for name in VARIABLES_OF_OTHER_HOSTS if environ.get(name))
    return found
