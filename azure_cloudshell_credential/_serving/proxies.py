"""``NO_PROXY`` for a program that is led to a server on this machine.

Python's and JavaScript's clients send requests to loopback through a proxy otherwise, and with them the token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def without_proxy(environ: Mapping[str, str], hosts: Sequence[str] = LOOPBACK) -> dict[str, str]:
    """``NO_PROXY`` in both spellings, with hosts added to those that either of them exempts.

    Python reads the lower-case spelling first and Go the upper-case one, so both say the same. A ``*`` exempts every
    host, but only on its own.

    :param environ: the environment variables, usually ``os.environ``.
    :param hosts: the names of the server.
    """
    given = f"{environ.get('no_proxy', '')},{environ.get('NO_PROXY', '')}".split(",")
    names = list(dict.fromkeys(filter(None, [*map(str.strip, given), *hosts])))
    value = "*" if "*" in names else ",".join(names)
    return {"NO_PROXY": value, "no_proxy": value}
