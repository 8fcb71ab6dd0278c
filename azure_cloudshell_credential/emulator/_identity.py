"""``Identity``: who is signed in to an emulated Cloud Shell."""

from __future__ import annotations

from dataclasses import dataclass, replace

MARK = "emulator_serial"
"""The claim that only made-up tokens have."""


@dataclass(frozen=True)
class Identity:
    """The user who is signed in.

    :param user: the user principal name.
    :param name: the display name.
    :param tenant_id: the tenant signed in to.
    :param object_id: the user's object id in that tenant.
    """

    __module__ = "azure_cloudshell_credential.emulator"

    user: str = "ada@contoso.example"
    name: str = "Ada Example"
    tenant_id: str = "11111111-aaaa-4bbb-8ccc-222222222222"
    object_id: str = "33333333-dddd-4eee-9fff-444444444444"

    def changed(self, **changes: str) -> Identity:
        """The same identity with some fields changed."""
        return replace(self, **changes)
