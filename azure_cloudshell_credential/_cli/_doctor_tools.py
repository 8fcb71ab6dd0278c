"""Which of the usual programs are on PATH, and how each of them gets its tokens in Cloud Shell.

From the programs' sources and documentation.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator

_RUN = "azure-cloudshell run"
_TOOLS = (
    ("az", "asks Cloud Shell; after 'az login', uses that sign-in"),
    ("azd", f"{_RUN} azd ..., unless 'azd auth login' was run"),
    ("terraform", f"uses az's sign-in; with ARM_USE_MSI=true: {_RUN} terraform ..."),
    ("kubelogin", f"with --login msi: {_RUN} kubelogin ..."),
    ("azcopy", f"with AZCOPY_AUTO_LOGIN_TYPE=MSI: {_RUN} azcopy ..."),
    ("kubectl", "takes a token from: azure-cloudshell token aks --output exec-credential --fallback"),
    ("git", "for Azure DevOps, takes a token from: azure-cloudshell token devops --output git-credential --fallback"),
)


def tools_on_path() -> Iterator[tuple[str, str]]:
    """The programs that are there, and how they get their tokens here."""
    for name, how in _TOOLS:
        if shutil.which(name):
            yield name, how
