"""Replies for the emulator to give instead of its own, to see what a client makes of them.

Only the first few are known of the real endpoint; the rest is what any server on loopback can do wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .._endpoint.audiences import did_you_mean
from .._serving.messages import error_body


@dataclass(frozen=True)
class ScriptedReply:
    """One reply.

    :param status: the HTTP status.
    :param body: the body; ``{resource}`` in it is replaced by the resource asked for. None: the emulator's own reply.
    :param headers: further headers.
    :param seconds: how long to wait before it.
    :param drops: close the connection instead of replying.
    :param token_for: reply with a token for this resource instead of the one requested.
    :param token_life: reply with a token that expires in this many seconds, which may be negative.
    :param portal_times_out: reply as the endpoint does when the portal is silent: ``Behaviour.portal_timeout``.
    """

    status: int = 200
    body: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    drops: bool = False
    token_for: str | None = None
    token_life: int | None = None
    portal_times_out: bool = False

    def __post_init__(self) -> None:
        """Refuse what the server could not send.

        :raises TypeError: for a body that is not text.
        """
        if not isinstance(self.body, str | None):
            raise TypeError(f"The body of a reply is text, not {type(self.body).__name__}.")


def error(status: int, code: str, message: str, **headers: str) -> ScriptedReply:
    """An error in the endpoint's form, ``{"error": {"code": ..., "message": ...}}``.

    :param status: the HTTP status.
    :param code: the code, such as ``AudienceNotSupported``.
    :param message: the message; ``{resource}`` in it is replaced by the resource asked for.
    :param headers: further headers.
    """
    return ScriptedReply(status, error_body(code, message), headers)


def portal_timeout() -> ScriptedReply:
    """The portal in the browser did not answer: the failure that users meet most."""
    return ScriptedReply(portal_times_out=True)


def server_error(status: int = 500, retry_after: float | None = None) -> ScriptedReply:
    """An error status, with or without ``Retry-After``.

    :param status: the HTTP status.
    :param retry_after: seconds; None sends no such header.
    """
    headers = {} if retry_after is None else {"Retry-After": f"{retry_after:g}"}
    return ScriptedReply(status, error_body("internal_error", "Something went wrong"), headers)


def interaction_required() -> ScriptedReply:
    """Entra wants the user to do something."""
    return error(
        400,
        "interaction_required",
        "AADSTS50076: Due to a configuration change you must use multi-factor authentication.",
    )


def hang(seconds: float = 3600.0) -> ScriptedReply:
    """No answer for so long, then the emulator's own.

    :param seconds: how long. The default is longer than any test waits.
    """
    return ScriptedReply(seconds=seconds)


def drop() -> ScriptedReply:
    """The connection is closed without a reply."""
    return ScriptedReply(drops=True)


def garbage() -> ScriptedReply:
    """A page of HTML with status 200."""
    return ScriptedReply(200, "<html><body>It works!</body></html>", {"Content-Type": "text/html"})


def wrong_resource(resource: str = "https://graph.windows.net/") -> ScriptedReply:
    """A token for another resource, as seen in azure-cli#12297.

    :param resource: the resource that the token is for.
    """
    return ScriptedReply(token_for=resource)


def expired_token() -> ScriptedReply:
    """A token that expired a minute ago, as seen in azure-cli#4722."""
    return ScriptedReply(token_life=-60)


NAMED: dict[str, Callable[[], ScriptedReply]] = {
    "portal-timeout": portal_timeout,
    "interaction-required": interaction_required,
    "server-error": server_error,
    "hang": hang,
    "drop": drop,
    "garbage": garbage,
    "wrong-resource": wrong_resource,
    "expired-token": expired_token,
}
"""The faults that ``azure-cloudshell emulate --fault`` knows."""


def named(text: str) -> tuple[ScriptedReply, int | None]:
    """A fault, and how often it occurs; None: always.

    :param text: a name, or a name and a number as in ``portal-timeout:2``.
    :raises ValueError: for anything else; the message names what was meant.
    """
    name, colon, times = text.partition(":")
    if name not in NAMED:
        hint = did_you_mean(name, NAMED) or f" Known are: {', '.join(NAMED)}."
        raise ValueError(f"{name!r} is not a fault.{hint}")
    if not colon:
        return NAMED[name](), None
    if not (times.isascii() and times.isdigit() and 0 < int(times) < 1_000_000):
        raise ValueError(f"{text!r} is not NAME:COUNT, such as {name}:2.")
    return NAMED[name](), int(times)
