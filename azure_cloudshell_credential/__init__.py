"""Azure Cloud Shell's signed-in user as a credential for the Azure SDK for Python."""

from __future__ import annotations

from ._version import __version__

# Not typing's: importing that would be the slowest part of importing the package.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._azure.cloud_shell import CloudShellCredential as CloudShellCredential
    from ._azure.default_chain import DefaultCloudShellCredential as DefaultCloudShellCredential
    from ._azure.errors import AudienceNotSupportedError as AudienceNotSupportedError
    from ._azure.requests_auth import CloudShellAuth as CloudShellAuth
    from ._azure.subscription import default_subscription_id as default_subscription_id

__all__ = [
    "AudienceNotSupportedError",
    "CloudShellAuth",
    "CloudShellCredential",
    "DefaultCloudShellCredential",
    "__version__",
    "default_subscription_id",
]

# Importing the package is to cost nothing: each name brings in what it needs when it is first used.
_LAZY_EXPORTS = {
    "AudienceNotSupportedError": "._azure.errors",
    "CloudShellAuth": "._azure.requests_auth",
    "CloudShellCredential": "._azure.cloud_shell",
    "DefaultCloudShellCredential": "._azure.default_chain",
    "default_subscription_id": "._azure.subscription",
}


def __getattr__(name: str) -> object:
    if name not in _LAZY_EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(_LAZY_EXPORTS[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
