"""The addresses of this machine, for somebody who has named another."""

from __future__ import annotations

import socket
import struct
import sys
from contextlib import suppress

# From <linux/sockios.h> and from macOS's <sys/sockio.h>: the standard library has no name for it.
_SIOCGIFADDR = {"linux": 0x8915, "darwin": 0xC0206921}


def addresses() -> list[str]:
    """The IPv4 address of each network interface, with its name; nothing where the system is not known."""
    request = _SIOCGIFADDR.get(sys.platform)
    if request is None:
        return []
    import fcntl

    found: list[str] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            # One that has none.
            with suppress(OSError):
                # struct ifreq: the name in 16 bytes, then a sockaddr_in with the address in its second four.
                reply = fcntl.ioctl(asking, request, struct.pack("16s24x", name.encode()[:15]))
                found.append(f"{socket.inet_ntoa(reply[20:24])} ({name})")
    return found
