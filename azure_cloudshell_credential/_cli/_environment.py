"""Which endpoint the command line asks: Cloud Shell's, or under ``run`` and ``serve`` the broker."""

from __future__ import annotations

import os

from .._endpoint.environment import Environment


def is_led_to_a_broker() -> bool:
    """Whether the environment is one that ``run`` or ``serve`` has made.

    They set these three alike, and nothing else does.
    """
    endpoint = os.environ.get("MSI_ENDPOINT")
    names = ("ARM_MSI_ENDPOINT", "AZURE_MSI_ENDPOINT")
    return bool(endpoint) and all(os.environ.get(name) == endpoint for name in names)


def find_endpoint() -> Environment:
    """Cloud Shell's endpoint; the broker's, which speaks its language, where a broker has been put before it."""
    if is_led_to_a_broker():
        try:
            return Environment(os.environ, os.environ["MSI_ENDPOINT"])
        except ValueError:
            # In a container, the broker is not on this machine.
            pass
    return Environment(os.environ)
