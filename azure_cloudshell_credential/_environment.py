"""Is this Cloud Shell, and where is its token endpoint?

Reads environment variables and nothing else: no file, no socket. Which variables mean what is taken from the
Cloud Shell image (Azure/CloudShell, ``linux/*.Dockerfile``) and from the clients that already detect it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

DEFAULT_ENDPOINT = "http://localhost:50342/oauth2/token"
"""The documented address, https://learn.microsoft.com/azure/cloud-shell/msi-authorization."""

_OCTET = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"
_LOOPBACK_URL = re.compile(
    rf"http://(localhost|127\.{_OCTET}\.{_OCTET}\.{_OCTET}|\[::1\])(?::(\d{{1,5}}))?([/?][\x21-\x22\x24-\x7e]*)?",
    re.ASCII | re.IGNORECASE,
)

_PORTS = 65536

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
        match = _LOOPBACK_URL.fullmatch(url) if isinstance(url, str) else None
        port = int(match[2] or 80) if match else 0
        if match is None or not 0 < port < _PORTS:
            raise ValueError(
                f"Invalid token endpoint: it must be a URL like {DEFAULT_ENDPOINT}, whose host is localhost, 127.x.x.x "
                "or [::1], so that no token request leaves this machine."
            )
        self.url = url
        self.host = match[1].strip("[]")
        self.port = port
        path = match[3] or "/"
        self.target = path if path.startswith("/") else f"/{path}"

    @property
    def authority(self) -> str:
        """The value of the ``Host`` header."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Environment:
    """What the environment variables say about Cloud Shell.

    :param endpoint: where to ask for tokens; None outside Cloud Shell.
    :param refusal: why there is no endpoint although the environment names one.
    :param tenant_id: the signed-in tenant (``ACC_TID``).
    :param cloud: the name of the cloud (``ACC_CLOUD``).
    """

    __slots__ = ("cloud", "endpoint", "refusal", "tenant_id")

    def __init__(
        self,
        endpoint: Endpoint | None,
        *,
        refusal: str | None = None,
        tenant_id: str | None = None,
        cloud: str | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.refusal = refusal
        self.tenant_id = tenant_id
        self.cloud = cloud


def is_marked(environ: Mapping[str, str]) -> bool:
    """Whether the environment carries one of Cloud Shell's marks."""
    return (
        environ.get("AZUREPS_HOST_ENVIRONMENT", "").startswith("cloud-shell")
        or bool(environ.get("ACC_CLOUD"))
        or environ.get("AZD_IN_CLOUDSHELL", "").lower() in ("1", "t", "true")
        or environ.get("POWERSHELL_DISTRIBUTION_CHANNEL", "").startswith("CloudShell")
    )


def read(environ: Mapping[str, str], endpoint: str | None = None) -> Environment:
    """Find the token endpoint.

    :param environ: the environment variables, usually ``os.environ``.
    :param endpoint: a URL that comes before whatever the environment says.
    :raises ValueError: only for an ``endpoint`` that is not a loopback URL; never for the environment.
    """
    tenant_id = environ.get("ACC_TID") or None
    cloud = environ.get("ACC_CLOUD") or None
    if endpoint is not None:
        return Environment(Endpoint(endpoint), tenant_id=tenant_id, cloud=cloud)
    other_host = any(environ.get(name) for name in VARIABLES_OF_OTHER_HOSTS)
    url = environ.get("MSI_ENDPOINT")
    if url and not other_host:
        try:
            return Environment(Endpoint(url), tenant_id=tenant_id, cloud=cloud)
        except ValueError as error:
            # The variable's value stays out of the text: it is not ours and may hold a secret.
            reason = str(error).replace("Invalid token endpoint", "MSI_ENDPOINT is not one of Cloud Shell")
            return Environment(None, refusal=reason, tenant_id=tenant_id, cloud=cloud)
    if is_marked(environ):
        return Environment(Endpoint(DEFAULT_ENDPOINT), tenant_id=tenant_id, cloud=cloud)
    return Environment(None, tenant_id=tenant_id, cloud=cloud)
