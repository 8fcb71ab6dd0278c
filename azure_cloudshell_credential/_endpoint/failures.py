"""What can keep Cloud Shell from issuing a token, and the words for it.

Each row of the table "what happens when" is one function here, so that its wording stands in one place for the
credential, its asynchronous version and the command line. A failure is a plain value: it holds no reply, no token and
no traceback. ``_errors`` turns it into the exception a caller sees. Text from the endpoint is made one printable
line here, on its way into a failure and not later: nothing that is shown can move a cursor or forge a second line.
"""

from __future__ import annotations

import re

RETRY_OR_LOGIN = "Try again, or sign in with 'az login'."
_KEEP_THE_TAB = (
    "Keep the browser tab with Cloud Shell open and active, check that the portal is in the right directory, "
    "and try again, or sign in with 'az login'."
)


class Failure:
    """Why there is no token.

    :param kind: a word for programs: ``not_cloud_shell``, ``scope``, ``refused``, ``busy``, ``nested``, ``timeout``,
        ``portal``, ``audience``, ``entra``, ``endpoint``, ``reply``, ``wrong_resource``, ``claims``, ``tenant``,
        ``pop``, ``error`` or ``chain``.
    :param what: what happened, a sentence.
    :param advice: what to do next, a sentence.
    :param resource: the resource requested.
    :param retryable: whether asking again may help.
    :param retry_after: how many seconds the endpoint wants to be left alone.
    :param supported_audiences: for ``audience``, those the endpoint listed.
    :param attempts: for ``chain``, each credential's name and what it said.
    """

    __slots__ = ("advice", "attempts", "kind", "resource", "retry_after", "retryable", "supported_audiences", "what")

    def __init__(
        self,
        kind: str,
        what: str,
        advice: str,
        *,
        resource: str = "",
        retryable: bool = False,
        retry_after: float = 0.0,
        supported_audiences: tuple[str, ...] = (),
        attempts: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self.kind = kind
        self.what = printable(what)
        self.advice = printable(advice)
        self.resource = resource
        self.retryable = retryable
        self.retry_after = retry_after
        self.supported_audiences = supported_audiences
        self.attempts = attempts

    @property
    def message(self) -> str:
        """What happened and what to do about it."""
        return f"{self.what} {self.advice}".rstrip()

    def __repr__(self) -> str:
        return f"Failure({self.kind!r}, {self.message!r})"


def not_in_cloud_shell(refusal: str | None) -> Failure:
    """No endpoint: the environment does not look like Cloud Shell, or names an endpoint that is not Cloud Shell's."""
    if refusal:
        return Failure("not_cloud_shell", refusal, "Unset or correct it, or sign in with 'az login'.")
    return Failure(
        "not_cloud_shell",
        "This is not Azure Cloud Shell: neither MSI_ENDPOINT nor a Cloud Shell variable is set.",
        "Sign in with 'az login', or run this in Cloud Shell.",
    )


def permission_without_resource(scope: str) -> Failure:
    """A bare permission such as ``User.Read``, as msgraph-sdk passes it through: it does not say of which resource."""
    return Failure(
        "scope",
        f"The scope {scope} is a permission without its resource, and Cloud Shell issues tokens for resources.",
        "For Microsoft Graph, use the scope https://graph.microsoft.com/.default.",
        resource=scope,
    )


def unreachable(resource: str, reason: str) -> Failure:
    """The endpoint refuses the connection, or the connection broke."""
    return Failure(
        "refused",
        f"The token request for {resource} failed: {reason}.",
        "Restart Cloud Shell, or sign in with 'az login'.",
        resource=resource,
    )


def busy(resource: str, seconds: float) -> Failure:
    """The budget was used up while other requests of this process were at the endpoint."""
    return Failure(
        "busy",
        f"The token request for {resource} was not sent: its deadline of {count(seconds, 'second')} was exceeded while "
        "waiting for this process's other token requests. They are sent one at a time.",
        RETRY_OR_LOGIN,
        resource=resource,
    )


def nested(resource: str) -> Failure:
    """A token was requested by what runs inside a token request: a hook, a signal handler or a finalizer."""
    return Failure(
        "nested",
        f"A token for {resource} was requested from inside another token request on the same thread "
        "(by a hook, a signal handler or a finalizer).",
        "Request it after that one has ended.",
        resource=resource,
    )


def no_answer(resource: str, seconds: float) -> Failure:
    """The endpoint did not answer in time."""
    return Failure(
        "timeout",
        f"The Cloud Shell token endpoint did not answer within {count(seconds, 'second')} when asked for a token "
        f"for {resource}.",
        _KEEP_THE_TAB,
        resource=resource,
    )


def circuit_open(resource: str, ago: float, rest: float) -> Failure:
    """The endpoint timed out a moment ago, and is not asked again yet."""
    return Failure(
        "timeout",
        f"The Cloud Shell token endpoint timed out {count(round(ago), 'second')} ago; requests are suspended for "
        f"another {count(max(1, round(rest)), 'second')}, this one for {resource} included.",
        _KEEP_THE_TAB,
        resource=resource,
    )


def portal_timeout(resource: str, said: str, *, retry_after: float = 0.0) -> Failure:
    """The endpoint answered, but the browser behind it did not."""
    return Failure(
        "portal",
        f"Cloud Shell did not get a token for {resource} from the Azure portal in your browser: {said}",
        _KEEP_THE_TAB,
        resource=resource,
        retryable=True,
        retry_after=retry_after,
    )


def audience_not_supported(resource: str, supported: tuple[str, ...]) -> Failure:
    """The resource is not on Cloud Shell's list."""
    listing = f" It supports: {', '.join(supported)}." if supported else ""
    return Failure(
        "audience",
        f"Cloud Shell does not issue tokens for {resource} (AudienceNotSupported).{listing}",
        "Sign in with 'az login': DefaultCloudShellCredential, or a chain with AzureCliCredential behind this "
        "credential, then uses that sign-in. For a program you cannot change, put 'azure-cloudshell run --' before it.",
        resource=resource,
        supported_audiences=supported,
    )


def entra_refused(resource: str, said: str, advice: str, *, retryable: bool = False) -> Failure:
    """Microsoft Entra ID itself refused: ``_entra`` knows the advice for each of its codes."""
    return Failure(
        "entra",
        f"Microsoft Entra ID did not issue a token for {resource}: {said}",
        advice,
        resource=resource,
        retryable=retryable,
    )


def endpoint_error(resource: str, status: int, said: str, *, retryable: bool, retry_after: float = 0.0) -> Failure:
    """Any other error status."""
    return Failure(
        "endpoint",
        f"The Cloud Shell token endpoint answered {status} when asked for a token for {resource}: {said}",
        RETRY_OR_LOGIN,
        resource=resource,
        retryable=retryable,
        retry_after=retry_after,
    )


def redirected(resource: str, status: int) -> Failure:
    """A redirect: following it could carry the request off this machine."""
    return Failure(
        "endpoint",
        f"The Cloud Shell token endpoint answered {status}, a redirect, when asked for a token for {resource}; "
        "redirects are never followed.",
        "Check that MSI_ENDPOINT is Cloud Shell's own, or sign in with 'az login'.",
        resource=resource,
    )


def unusable_reply(resource: str, reason: str) -> Failure:
    """A reply without a usable token; the reason never quotes it."""
    return Failure(
        "reply",
        f"The Cloud Shell token endpoint returned an unusable response for {resource}: {reason}.",
        RETRY_OR_LOGIN,
        resource=resource,
    )


def wrong_resource(resource: str, received: str) -> Failure:
    """A token for something else. Seen live: azure-cli#12297, go-azure-helpers#51."""
    return Failure(
        "wrong_resource",
        f"The Cloud Shell token endpoint answered a request for {resource} with a token for {quoted(received, 200)}.",
        RETRY_OR_LOGIN,
        resource=resource,
        retryable=True,
    )


def claims_not_supported(resource: str, claims: str) -> Failure:
    """A claims challenge: the endpoint has no parameter for it."""
    from base64 import b64encode

    # az takes the challenge the way services send it, base64-encoded.
    encoded = b64encode(claims.encode()).decode()
    return Failure(
        "claims",
        f"Cloud Shell cannot satisfy the claims challenge for {resource}: the endpoint does not accept claims.",
        f"Run az login --claims-challenge {encoded}",
        resource=resource,
    )


def other_tenant(resource: str, requested: str, actual: str | None) -> Failure:
    """A tenant other than the one the user is signed in to."""
    signed_in = f"only {quoted(actual, 100)}" if actual else "an unknown tenant (the token has no tid claim)"
    return Failure(
        "tenant",
        f"A token for {resource} in tenant {requested} was requested, but Cloud Shell is signed in to {signed_in}.",
        f"Switch the directory in the portal and restart Cloud Shell, or run az login --tenant {requested}",
        resource=resource,
    )


def pop_not_supported(resource: str) -> Failure:
    """Proof of possession: the endpoint issues bearer tokens only."""
    return Failure(
        "pop",
        f"Cloud Shell cannot issue a proof-of-possession token for {resource}: its endpoint has bearer tokens only.",
        "Use a credential that supports proof of possession.",
        resource=resource,
    )


def broken_off(resource: str, error: str) -> Failure:
    """A hook or transport raised what ends threads or loops, and must not end the caller's."""
    return Failure(
        "error",
        f"The token request for {resource} was broken off: a hook or the transport raised {error}.",
        "Correct the hook or the transport.",
        resource=resource,
    )


def nobody_has_a_token(scope: str, attempts: tuple[tuple[str, str], ...]) -> Failure:
    """The whole chain was tried; said once, in one paragraph."""
    said = " ".join(f"{name}: {sentence(text)}" for name, text in attempts)
    return Failure("chain", f"No credential has a token for {scope}. {said}", "", resource=scope, attempts=attempts)


def count(number: float, unit: str) -> str:
    """A number with its unit, in the plural where English has one."""
    text = f"{number:.3g}" if number < 1000 else f"{number:.0f}"
    return f"{text} {unit}" if text == "1" else f"{text} {unit}s"


# A pattern, compiled when there is something to redact: compiling costs the command line a millisecond.
_TOKEN_LIKE = r"(?a:eyJ[\w-]*(?:\.[\w-]*){0,4}|[\w+=~-]{48,})"  # noqa: S105 - a pattern


def printable(text: str) -> str:
    """The text as one line of printable characters."""
    if text.isprintable():
        return text
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def redacted(text: str) -> str:
    """The text without anything that looks like a token."""
    return re.sub(_TOKEN_LIKE, "[redacted]", text)


def quoted(text: str, limit: int = 400) -> str:
    """What the endpoint said, fit to be shown: one line, bounded, nothing in it that looks like a token."""
    line = redacted(" ".join(printable(text[: 4 * limit]).split()))
    return line if len(line) <= limit else line[: limit - 1] + "…"


def sentence(text: str) -> str:
    """The text with a full stop, unless it ends a sentence already."""
    return text if text.endswith((".", "!", "?", "…")) else text + "."
