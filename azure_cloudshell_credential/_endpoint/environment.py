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

    __slots__ = ("host", "port", "target", "url")

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
    # urlsplit takes out what is not printable, as browsers do.
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


class Environment:
    """What the environment variables say about Cloud Shell.

    :param endpoint: where to ask for tokens; None outside Cloud Shell.
    :param refusal: why there is no endpoint although the environment names one.
    :param other_host: the variable that makes MSI_ENDPOINT another service's.
    :param tenant_id: the signed-in tenant (``ACC_TID``).
    :param cloud: the name of the cloud (``ACC_CLOUD``).
    """

    __slots__ = ("cloud", "endpoint", "other_host", "refusal", "tenant_id")

    def __init__(
        self,
        endpoint: Endpoint | None,
        *,
        refusal: str | None = None,
        other_host: str | None = None,
        tenant_id: str | None = None,
        cloud: str | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.refusal = refusal
        self.other_host = other_host
        self.tenant_id = tenant_id
        self.cloud = cloud


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


def read_environment(environ: Mapping[str, str], endpoint: str | None = None) -> Environment:
    """Find the token endpoint.

    :param environ: the environment variables, usually ``os.environ``.
    :param endpoint: a URL that takes precedence over the environment.
    :raises ValueError: only for an ``endpoint`` that is not a loopback URL; never for the environment.
    """
    tenant_id = environ.get("ACC_TID") or None
    cloud = environ.get("ACC_CLOUD") or None
    if endpoint is not None:
        return Environment(Endpoint(endpoint), tenant_id=tenant_id, cloud=cloud)
    if managed_identity_is_cloud_shell(environ):
        try:
            return Environment(Endpoint(environ["MSI_ENDPOINT"]), tenant_id=tenant_id, cloud=cloud)
        except ValueError:
            # The variable's value stays out of the text: it may hold a secret of another service's.
            refusal = f"MSI_ENDPOINT is not Cloud Shell's: it {_REQUIREMENT}"
            return Environment(None, refusal=refusal, tenant_id=tenant_id, cloud=cloud)
    if is_marked(environ):
        return Environment(Endpoint(DEFAULT_ENDPOINT), tenant_id=tenant_id, cloud=cloud)
    others = [name for name in VARIABLES_OF_OTHER_HOSTS if environ.get(name) and environ.get("MSI_ENDPOINT")]
    return Environment(None, other_host=others[0] if others else None, tenant_id=tenant_id, cloud=cloud)
