"""``anywhere``: run code for Cloud Shell where there is none.

Inside Cloud Shell it does nothing; elsewhere it starts the emulator and the Resource Manager stand-in and puts the
process into them. Needs the extra ``demo``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from .._endpoint import audiences
from .._endpoint.environment import read_environment, without_proxy_for_loopback
from . import _variables

RESOURCE_MANAGER_VARIABLE = "AZURE_CLOUDSHELL_RESOURCE_MANAGER"
"""Names the Resource Manager stand-in that ``azure-cloudshell emulate --with-azure`` has started."""

NO_RESOURCE_MANAGER = "none"
"""Its value without ``--with-azure``: the tokens are made up, and Azure itself is not to be asked with them."""

_SCOPE = "https://management.azure.com/.default"


@dataclass(frozen=True)
class Azure:
    """How to reach Azure from here.

    :param is_emulated: whether it is made up.
    :param resource_manager: the base URL of Azure Resource Manager.
    :param scope: the scope of Resource Manager's tokens.
    :param verify: the CA certificates to trust, as requests takes them.
    :param subscription_id: a subscription to use; None leaves it to the user.
    :param client_options: keyword arguments for management clients.
    """

    is_emulated: bool
    resource_manager: str
    scope: str
    verify: bool | str = True
    subscription_id: str | None = None
    client_options: dict[str, Any] = field(default_factory=dict)


@contextmanager
def emulated() -> Iterator[Azure]:
    """An emulated Cloud Shell with this process inside, and a Resource Manager stand-in.

    :raises ModuleNotFoundError: without the extra ``demo``.
    """
    from . import CloudShellEmulator
    from .resource_manager import SUBSCRIPTION_ID, ResourceManagerStandIn

    with ExitStack() as stack:
        stack.enter_context(_variables.changed(without_proxy_for_loopback(os.environ)))
        shell = stack.enter_context(CloudShellEmulator())
        stack.enter_context(shell.as_environment())
        manager = stack.enter_context(ResourceManagerStandIn(shell))
        options: dict[str, Any] = {"base_url": manager.url, "connection_verify": manager.ca_file}
        yield Azure(True, manager.url, _SCOPE, manager.ca_file, SUBSCRIPTION_ID, options)


@contextmanager
def anywhere() -> Iterator[Azure]:
    """Azure itself inside Cloud Shell, an emulated one elsewhere, and in an emulated Cloud Shell.

    :raises ModuleNotFoundError: outside Cloud Shell, without the extra ``demo``.
    """
    environment = read_environment(os.environ)
    options: dict[str, Any]
    stand_in = os.environ.get(RESOURCE_MANAGER_VARIABLE)
    if stand_in and stand_in != NO_RESOURCE_MANAGER:
        ca_file = os.environ.get("REQUESTS_CA_BUNDLE", "")
        options = {"base_url": stand_in, "connection_verify": ca_file}
        yield Azure(True, stand_in, _SCOPE, ca_file, os.environ.get("AZURE_SUBSCRIPTION_ID"), options)
    elif environment.endpoint is not None and not stand_in:
        cloud = audiences.cloud_named(environment.cloud)
        scope = f"{cloud.resource_manager}/.default"
        options = {"base_url": cloud.resource_manager, "credential_scopes": [scope]}
        yield Azure(False, cloud.resource_manager, scope, client_options=options)
    else:
        with emulated() as azure:
            yield azure
