"""What can keep Cloud Shell from issuing a token, and the words for what happened.

Each row of the table "what happens when" is one function here, so that its wording stands in one place for the
credential, its asynchronous version and the command line. What to do about it is said by ``advice``, which knows who
reads it; a failure says what would cure it, in a word. It is a plain value: it holds no reply, no token and no
traceback. ``_azure/errors`` turns it into the exception a caller sees. Text from the endpoint is made one
printable line here, on its way into a failure and not later: nothing that is shown can move a cursor or forge a second
line.
"""

from __future__ import annotations

import os
from binascii import b2a_base64
from collections.abc import Mapping, Sequence

from . import audiences, environment
from .azure_cli import AzureCli
from .identity import Identity
from .text import duration, printable, quoted, sentence

TRANSIENT = frozenset({"refused", "busy", "timeout", "portal", "endpoint", "reply", "wrong_resource"})
"""The kinds of failures that say nothing about the next request."""

_NOT_HERE = "This is not Azure Cloud Shell:"


class Reason:
    """Why a credential that is not ours has no token.

    :param name: its class.
    :param text: why, fit to be shown.
    :param az: what is so with the Azure CLI, if the credential asks it.
    """

    def __init__(self, name: str, text: str, az: AzureCli | None = None) -> None:
        self.name = name
        self.text = text
        self.az = az


class Failure:
    """Why there is no token.

    :param kind: a word for programs: ``not_cloud_shell``, ``cleared``, ``scope``, ``refused``, ``busy``, ``nested``,
        ``timeout``, ``portal``, ``audience``, ``entra``, ``endpoint``, ``reply``, ``wrong_resource``, ``claims``,
        ``tenant``, ``pop``, ``error``, ``identity`` or ``chain``.
    :param what: what happened, a sentence without advice.
    :param cure: what would cure it, a word that ``advice`` knows.
    :param resource: the resource requested.
    :param code: the endpoint's own code for the error, such as ``AudienceNotSupported``; empty if it gave none.
    :param retry_after: the seconds after which asking again may help, 0 where the endpoint names none; None: never.
    :param details: what ``advice`` needs to know besides.
    """

    def __init__(
        self,
        kind: str,
        what: str,
        cure: str,
        resource: str = "",
        code: str = "",
        retry_after: float | None = None,
        details: Mapping[str, str] | None = None,
    ) -> None:
        self.kind = kind
        self.what = printable(what)
        self.cure = cure
        self.details = dict(details or {})
        self.resource = resource
        self.code = code
        self.retry_after = retry_after
        self.supported_audiences: tuple[str, ...] = ()
        self.said = ""
        """What the endpoint said, fit to be shown, without its code."""
        self.az: AzureCli | None = None
        """What is so with the Azure CLI, where it was asked."""
        self.reasons: Sequence[Reason] = ()
        """Of a chain: why its other credentials have no token."""

    def __repr__(self) -> str:
        return f"Failure({self.kind!r}, {self.what!r})"


def not_in_cloud_shell(refusal: str | None, other_host: str | None = None) -> Failure:
    """No endpoint: the environment does not look like Cloud Shell, or names an endpoint that is not Cloud Shell's.

    :param refusal: why the environment's endpoint is not used.
    :param other_host: the variable that makes the environment's endpoint another service's.
    """
    if refusal:
        # Without the variable, an environment that is not marked would not be Cloud Shell's at all.
        cure = "unset_endpoint" if environment.is_marked(os.environ) else "sign_in"
        return Failure("not_cloud_shell", refusal, cure)
    if not other_host and environment.is_image():
        return cleared_environment()
    reason = "neither MSI_ENDPOINT nor a Cloud Shell variable is set"
    if other_host:
        reason = f"MSI_ENDPOINT belongs to another service, because {other_host} is set too"
    return Failure("not_cloud_shell", f"{_NOT_HERE} {reason}.", "other_host" if other_host else "sign_in")


def cleared_environment() -> Failure:
    """Cloud Shell's image without any of its variables, as under sudo, in cron and in an MCP client's servers."""
    what = "This is Azure Cloud Shell, but its variables are missing."
    return Failure("cleared", what, "cleared")


def several_resources(resources: str) -> Failure:
    """Scopes of several resources in one request. The endpoint takes one, and so does Microsoft Entra ID."""
    what = f"A token was requested for scopes of several resources ({resources}), and Cloud Shell issues it for one."
    return Failure("scope", what, "several", resources)


def nobody_listens(resource: str, url: str) -> Failure:
    """Cloud Shell's markers are set, as its image sets them anywhere, and there is no endpoint."""
    what = f"{_NOT_HERE} its variables are set, but MSI_ENDPOINT is not, and nobody listens at {url}."
    return Failure("not_cloud_shell", what, "sign_in", resource)


def unreachable(resource: str, reason: str) -> Failure:
    """Nobody listens there, or the connection broke."""
    what = f"The token request for {resource} failed: {reason}."
    return Failure("refused", what, "restart", resource)


def busy(resource: str, budget: float) -> Failure:
    """The budget went by while other requests of this process were at the endpoint."""
    what = (
        f"The token request for {resource} was not sent: its deadline of {duration(budget)} was exceeded while waiting "
        "for this process's other token requests. They are sent one at a time."
    )
    return Failure("busy", what, "again", resource)


def not_run(resource: str) -> Failure:
    """The thread of the acquisition did not get to run."""
    what = f"The token request for {resource} was not sent: its thread has not been run."
    return Failure("busy", what, "not_run", resource)


def nested(resource: str) -> Failure:
    """What runs inside a token request has requested a token."""
    what = (
        f"A token for {resource} was requested from inside another token request on the same thread (by a hook, a "
        "signal handler or a finalizer)."
    )
    return Failure("nested", what, "nested", resource)


def no_answer(resource: str, budget: float) -> Failure:
    """The endpoint did not answer in time."""
    within = duration(budget)
    what = f"The Cloud Shell token endpoint did not answer within {within} when asked for a token for {resource}."
    return Failure("timeout", what, "tab", resource)


def circuit_open(resource: str, ago: float, rest: float) -> Failure:
    """The endpoint timed out a moment ago, and is not asked again yet."""
    what = (
        f"The Cloud Shell token endpoint timed out {duration(ago)} ago; requests are suspended for another "
        f"{duration(rest)}, this one for {resource} included."
    )
    return Failure("timeout", what, "tab", resource, details={"after": duration(rest)})


def portal_timeout(resource: str, code: str, retry_after: float, said: str) -> Failure:
    """The endpoint answered, the browser behind it did not."""
    what = f"Cloud Shell did not get a token for {resource} from the Azure portal in your browser: {said}"
    return Failure("portal", what, "tab", resource, code, retry_after)


def entra_refused(resource: str, code: str, said: str) -> Failure:
    """Microsoft Entra ID itself refused. Nobody has reported which of its errors come through the endpoint."""
    what = f"Microsoft Entra ID did not issue a token for {resource}: {said}"
    return Failure("entra", what, "reload", resource, code)


def endpoint_error(resource: str, status: int, code: str, retry_after: float | None, said: str) -> Failure:
    """Any other error status."""
    what = f"The Cloud Shell token endpoint answered {status} when asked for a token for {resource}: {said}"
    return Failure("endpoint", what, "again", resource, code, retry_after)


def redirected(resource: str, status: int) -> Failure:
    """Following it could carry the request off this machine."""
    what = (
        f"The Cloud Shell token endpoint answered {status}, a redirect, when asked for a token for {resource}; "
        "redirects are never followed."
    )
    return Failure("endpoint", what, "unset_endpoint", resource)


def audience_not_supported(resource: str, supported: tuple[str, ...], said: str = "") -> Failure:
    """The resource is not on Cloud Shell's list, or a broker before Cloud Shell says why it has no token."""
    listing = f" It supports: {', '.join(supported)}." if supported else f" {sentence(said)}" if said else ""
    what = f"Cloud Shell does not issue tokens for {resource} (AudienceNotSupported).{listing}"
    meant = audiences.meant_by(resource)
    details = {"scope": scope_of(meant)} if meant else {}
    refused = Failure("audience", what, "sign_in", resource, "AudienceNotSupported", details=details)
    refused.supported_audiences = supported
    return refused


def scope_of(resource: str) -> str:
    """The scope to ask for a resource by."""
    return f"{resource.rstrip('/')}/.default"


def wrong_resource(resource: str, received: str) -> Failure:
    """A token for something else. Seen live: azure-cli#12297, go-azure-helpers#51."""
    what = f"The Cloud Shell token endpoint answered a request for {resource} with a token for {received}."
    return Failure("wrong_resource", what, "again", resource, retry_after=0.0)


def unusable_reply(
    resource: str, reason: str, cure: str = "again", details: Mapping[str, str] | None = None
) -> Failure:
    """There is no usable token in it; the reason never quotes it."""
    what = f"The Cloud Shell token endpoint returned an unusable response for {resource}: {reason}."
    return Failure("reply", what, cure, resource, details=details)


def expired_by_our_clock(resource: str, ago: int, life: int) -> Failure:
    """A token that has expired by this machine's clock, and has not by the endpoint's."""
    reason = (
        f"it holds a token that has already expired, {duration(ago)} ago by the clock of this machine, while the "
        f"endpoint says that it lives for {duration(life)}"
    )
    return unusable_reply(resource, reason, "clock", {"ahead": duration(ago + life)})


def clock_is_behind(resource: str, ours: int, life: int) -> str:
    """A line for the log: the token lives longer by this machine's clock than the endpoint says."""
    return (
        f"The clock of this machine seems to be {duration(ours - life)} behind: by it, the token for {resource} lives "
        f"for another {duration(ours)}; the endpoint says {duration(life)}, which counts."
    )


def claims_not_supported(resource: str, claims: str) -> Failure:
    """The endpoint has no parameter for a claims challenge."""
    what = f"Cloud Shell cannot satisfy the claims challenge for {resource}: the endpoint does not accept claims."
    return Failure("claims", what, "claims", resource, details={"claims": encoded(claims)})


def refused_token_again(resource: str, claims: str) -> Failure:
    """The answer to a claims challenge was the token that the service had refused."""
    what = f"The service refused the token for {resource} with a claims challenge, and there is no other token for it."
    return Failure("claims", what, "challenged", resource, details={"claims": encoded(claims)})


def other_tenant(resource: str, requested: str, actual: str | None) -> Failure:
    """A tenant other than the one the user is signed in to."""
    signed_in = f"tenant {quoted(actual, 100)} only" if actual else "an unknown tenant (the token has no tid claim)"
    what = f"A token for {resource} in tenant {requested} was requested, but Cloud Shell is signed in to {signed_in}."
    return Failure("tenant", what, "directory", resource, details={"tenant": requested})


def tenant_by_name(resource: str, requested: str) -> Failure:
    """A tenant by a name that the token does not show to be its own."""
    what = (
        f"A token for {resource} in tenant {quoted(requested, 100)} was requested, and Cloud Shell's token does not "
        "tell whether that name is one of its tenant's."
    )
    return Failure("tenant", what, "tenant_id", resource)


def pop_not_supported(resource: str) -> Failure:
    """Proof of possession."""
    what = f"Cloud Shell cannot issue a proof-of-possession token for {resource}: its endpoint has bearer tokens only."
    return Failure("pop", what, "pop", resource)


def another_identity(resource: str, cause: Failure, theirs: Identity, mine: Identity) -> Failure:
    """Cloud Shell has no token this time, and another credential's is known to be another user's."""
    what = (
        f"{sentence(cause.what)} Another credential has a token for {resource}, but as {theirs.beside(mine)}, and "
        f"Cloud Shell's user is {mine.beside(theirs)}."
    )
    return Failure(
        "identity",
        what,
        "identity",
        resource,
        cause.code,
        details={"as_user": mine.name or "Cloud Shell's user", "theirs": theirs.name or "the other user"},
    )


def broken_off(resource: str, error: str) -> Failure:
    """A hook or the transport raised what ends threads or loops, and must not end the caller's."""
    what = f"The token request for {resource} was broken off: a hook or the transport raised {error}."
    return Failure("error", what, "hook", resource)


def encoded(claims: str) -> str:
    """A claims challenge as services send it and az takes it, in base64."""
    return b2a_base64(claims.encode(), newline=False).decode()
