"""The pytest fixture ``cloud_shell``: a test inside an emulated Azure Cloud Shell.

Loaded by pytest wherever the package is installed; so it imports nothing until a test asks for the fixture.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .emulator import CloudShellEmulator


@pytest.fixture(scope="session")
def _cloud_shell_emulator() -> Iterator[CloudShellEmulator]:
    from .emulator import CloudShellEmulator

    with CloudShellEmulator() as shell:
        yield shell


@pytest.fixture
def cloud_shell(_cloud_shell_emulator: CloudShellEmulator) -> Iterator[CloudShellEmulator]:
    """An emulated Cloud Shell, with this process inside it for the length of the test.

    The environment variables are set, and restored afterwards; requests, settings and tokens are those of this test
    alone. Needs the extra ``emulator``. See :class:`azure_cloudshell_credential.emulator.CloudShellEmulator`:
    ``requests``, ``sign_in``, ``deny``, ``script``, ``expire_tokens`` and ``revoke_tokens`` are made for tests.
    """
    _cloud_shell_emulator.reset()
    with _cloud_shell_emulator.as_environment():
        yield _cloud_shell_emulator
    _cloud_shell_emulator.expire_tokens()
