"""The pytest fixtures ``cloud_shell`` and its relatives: tests inside an emulated Azure Cloud Shell.

Loaded by pytest wherever the package is installed; so it imports nothing until a test asks for a fixture.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .emulator import CloudShellEmulator, EmulatedAzure

_NO_SOCKETS = (
    "The emulator needs a socket on this machine, and something forbids it. With pytest-socket, use "
    "--allow-hosts=127.0.0.1,localhost,::1 instead of --disable-socket, or the fixture socket_enabled; with "
    "pytest-recording, --allowed-hosts=127.0.0.1,localhost."
)

_PORT_SECONDS = 5.0


@contextmanager
def _started(port: int = 0) -> Iterator[CloudShellEmulator]:
    from .emulator import CloudShellEmulator

    shell = CloudShellEmulator(port=port)
    try:
        _start(shell)
    except RuntimeError as error:
        # What pytest-socket and pytest-recording raise.
        raise RuntimeError(f"{_NO_SOCKETS} ({error})") from error
    try:
        yield shell
    finally:
        shell.stop()


def _start(shell: CloudShellEmulator) -> None:
    """Start it, also on a port that somebody's connection has at the moment: 50342 is one that systems give out."""
    from time import monotonic, sleep

    from ._serving.server import PortInUseError

    deadline = monotonic() + _PORT_SECONDS
    while True:
        try:
            shell.start()
        except PortInUseError:
            if monotonic() > deadline:
                raise
            sleep(0.05)
        else:
            return


@contextmanager
def _inside(shell: CloudShellEmulator, *programs: str) -> Iterator[CloudShellEmulator]:
    """This process inside an emulated Cloud Shell, without real pauses between retries."""
    import threading

    from ._endpoint import clock
    from .emulator._isolation import isolated

    real = clock.current

    class SkippingClock(threading.local):
        """Each acquisition has a thread of its own, and so its own time."""

        skipped = 0.0

        def time(self) -> float:
            return real.time() + self.skipped

        def monotonic(self) -> float:
            return real.monotonic() + self.skipped

        def sleep(self, seconds: float) -> None:
            self.skipped += seconds

    clock.current = SkippingClock()  # type: ignore[assignment]
    try:
        with isolated(shell, *programs):
            yield shell
    finally:
        clock.current = real


@pytest.fixture(scope="session")
def _cloud_shell_emulator() -> Iterator[CloudShellEmulator]:
    with _started() as shell:
        yield shell


@pytest.fixture
def cloud_shell(_cloud_shell_emulator: CloudShellEmulator) -> Iterator[CloudShellEmulator]:
    """An emulated Cloud Shell, with this process inside it for the length of the test.

    The environment variables are set, and restored afterwards; a credential that was made before, at the top of a
    module or in a session's fixture, is led to it too. Requests, settings and tokens are those of this test alone. A
    credential does not wait between retries: the time that it would have waited counts as passed.

    The developer's own sign-ins are out of reach: az, azd and PowerShell on PATH are stand-ins that nobody is signed in
    to (``az_login`` signs a user in to that az), az's folder is empty, and a service principal in the environment is
    hidden. azure-identity-broker counts as not installed. AZURE_USERNAME names nobody, so that a default chain finds
    nothing in the cache that Microsoft's developer tools share. HOME is left alone: a ``SharedTokenCacheCredential``
    that a test makes itself still reads that cache.

    Needs the extra ``emulator``. See ``CloudShellEmulator``: ``requests``, ``sign_in``, ``deny``, ``script``,
    ``failing``, ``expire_tokens``, ``revoke_tokens`` and ``az_login`` are made for tests.
    """
    with _inside(_cloud_shell_emulator) as shell:
        yield shell


@pytest.fixture(scope="session")
def _emulated_azure(_cloud_shell_emulator: CloudShellEmulator) -> Iterator[EmulatedAzure]:
    from .emulator import EmulatedAzure

    with EmulatedAzure(_cloud_shell_emulator) as azure:
        yield azure


@pytest.fixture
def cloud_shell_azure(
    cloud_shell: CloudShellEmulator,  # noqa: ARG001 - puts the process inside it
    _emulated_azure: EmulatedAzure,
) -> Iterator[EmulatedAzure]:
    """``cloud_shell``, and Azure behind it: unmodified code lists the machines of a made-up company.

    Proxy variables lead to stand-ins for Azure Resource Manager and the sign-in hosts, and every other host is refused.
    See ``EmulatedAzure``: ``resource_manager``, ``refused`` and ``subscription_id`` are made
    for tests.
    """
    _emulated_azure.reset()
    with _emulated_azure.as_environment():
        yield _emulated_azure


@pytest.fixture(scope="session")
def cloud_shell_session() -> Iterator[CloudShellEmulator]:
    """As ``cloud_shell``, for the whole session: for fixtures of that scope. Nothing is reset between tests."""
    with _started() as shell, _inside(shell):
        yield shell


@pytest.fixture
def cloud_shell_on_default_port() -> Iterator[CloudShellEmulator]:
    """As ``cloud_shell``, on port 50342: for tests that start az, azd or MSAL, whose address is hard-coded.

    The real az and azd stay on PATH, with an empty folder of their own for a sign-in. Tests that use it cannot run side
    by side.
    """
    with _started(50342) as shell, _inside(shell, "pwsh", "powershell"):
        yield shell
