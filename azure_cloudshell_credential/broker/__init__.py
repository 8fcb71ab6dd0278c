"""A token endpoint for programs that nobody can edit.

It speaks the managed-identity protocols that the Azure SDKs of every language know, and answers with the tokens of
Cloud Shell, of ``az login`` and of the rest of the default chain. ``azure-cloudshell run -- COMMAND`` puts one beside a
command.
"""

from __future__ import annotations

from ._broker import CloudShellBroker

__all__ = ["CloudShellBroker"]
