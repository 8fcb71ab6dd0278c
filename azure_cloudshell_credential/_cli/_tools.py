"""Which of the usual programs are on PATH, and how each of them gets its tokens in Cloud Shell.

From the programs' sources and documentation, as listed with their versions in docs/broker.md.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator

_RUN = "azure-cloudshell run --"
_TOOLS = (
    ("az", "asks the documented address itself, and its own login after 'az login'"),
    ("azd", f"asks the documented address unless 'azd auth login' was run; {_RUN} azd"),
    (
        "terraform",
        f"uses az's login; for ARM_USE_MSI=true: {_RUN.replace('run', 'run --protocol app-service')} terraform",
    ),
    ("kubelogin", f"with --login msi asks MSI_ENDPOINT; {_RUN} kubelogin"),
    ("azcopy", f"with AZCOPY_AUTO_LOGIN_TYPE=MSI asks MSI_ENDPOINT; {_RUN} azcopy"),
    ("kubectl", "takes a token from: azure-cloudshell token aks --output exec-credential"),
)


def tools_on_path() -> Iterator[tuple[str, str]]:
    """The programs that are there, and how they get their tokens."""
    for name, how in _TOOLS:
        if shutil.which(name):
            yield name, how
