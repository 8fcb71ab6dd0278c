"""A token endpoint for programs that nobody can edit.

It speaks the managed-identity protocols that the Azure SDKs of every language know, and answers with the tokens of
Cloud Shell, of ``az login`` and of the rest of the default chain. ``azure-cloudshell run -- COMMAND`` puts one around a
command.
"""

from __future__ import annotations

from ._broker import PROTOCOLS, CloudShellBroker

__all__ = ["PROTOCOLS", "CloudShellBroker"]
