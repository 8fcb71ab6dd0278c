"""``EmulatedAzure``: unmodified programs list made-up machines, and nothing leaves the machine.

It puts a proxy in front of the stand-ins for Azure Resource Manager and the sign-in hosts, and has the variables that
lead programs there.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from . import _sign_in
from ._azure_cli import SUBSCRIPTION_ID, write_profile
from ._emulator import CloudShellEmulator
from ._isolation import NOBODY
from ._proxy import Proxy
from ._resource_manager import HOSTS, ResourceManagerStandIn


class EmulatedAzure:
    """Azure, as far as it takes to list virtual machines, for programs that know nothing of it.

    For example:

        with CloudShellEmulator() as shell, EmulatedAzure(shell) as azure:
            subprocess.run(["python", "my_script.py"], env={**os.environ, **shell.environment, **azure.environment})

    :param shell: the emulator whose tokens it takes.
    :keyword str subscription_tenant_id: the tenant of the subscription. Default: the one signed in to at the time.
    :keyword int page_size: how many virtual machines a page holds.
    :ivar shell: the emulator.
    :ivar resource_manager: the stand-in for Azure Resource Manager: what it was asked, and how to let it refuse.
    """

    __module__ = "azure_cloudshell_credential.emulator"

    def __init__(
        self, shell: CloudShellEmulator, *, subscription_tenant_id: str | None = None, page_size: int = 2
    ) -> None:
        self.shell = shell
        self.resource_manager: ResourceManagerStandIn = ResourceManagerStandIn(
            shell, subscription_tenant_id=subscription_tenant_id, page_size=page_size
        )
        self._stack = ExitStack()
        self._environment: dict[str, str] = {}

    def __enter__(self) -> EmulatedAzure:
        """Start serving.

        :raises OSError: if there can be no socket.
        """
        with ExitStack() as stack:
            folder = Path(stack.enter_context(TemporaryDirectory()))
            hosts = dict.fromkeys(HOSTS, self.resource_manager.respond) | dict.fromkeys(
                _sign_in.HOSTS, _sign_in.respond
            )
            self._proxy = stack.enter_context(Proxy(hosts, folder / "ca.pem"))
            write_profile(folder / "azure", self.shell.identity, is_cloud_shell=True)
            self._environment = {
                **self._proxy.environment,
                **self.shell.no_imds_environment,
                **NOBODY,
                "AZURE_SUBSCRIPTION_ID": SUBSCRIPTION_ID,
                "AZURE_CONFIG_DIR": str(folder / "azure"),
            }
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *args: object) -> None:
        """Stop serving, and remove the certificate and az's sign-in."""
        self._stack.close()

    def reset(self) -> None:
        """Forget what was asked, and everything that was switched or set."""
        self.resource_manager.reset()
        self._proxy.refused.clear()

    @property
    def subscription_id(self) -> str:
        """The subscription that has the machines."""
        return SUBSCRIPTION_ID

    @property
    def refused(self) -> list[str]:
        """The hosts outside that programs have asked for, and were refused."""
        return self._proxy.refused

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead programs here, beside those of the emulator.

        The proxy and its CA, as HTTP clients read them; the subscription; for az a folder in which Cloud Shell's own
        user is signed in; a virtual machine's identity endpoint that refuses at once; and AZURE_USERNAME, by which a
        default chain takes nobody's token from the cache that Microsoft's developer tools share.
        """
        return dict(self._environment)

    @contextmanager
    def as_environment(self) -> Iterator[None]:
        """Put this process there: set ``os.environ``, the emulator's variables included, and restore it afterwards."""
        try:
            with self.shell.as_environment(self._environment):
                _load_certificates_of_aiohttp()
                yield
        finally:
            _load_certificates_of_aiohttp()


def _load_certificates_of_aiohttp() -> None:
    # It makes its TLS context when it is imported and keeps it, with the CA certificates of that moment.
    context = getattr(sys.modules.get("aiohttp.connector"), "_SSL_CONTEXT_VERIFIED", None)
    if context is not None:
        context.load_default_certs()
