"""What can keep Cloud Shell from handing out a token, and the words for it.

Each row of the table "what happens when" is one function here, so that its wording stands in one place for the
credential, its async twin and the command line. A failure is a plain value: it holds no reply, no token and no
traceback. ``_errors`` turns it into the exception a caller sees.
"""

from __future__ import annotations

import re

RETRY_OR_LOGIN = "Try again, or sign in with 'az login'."


class Failure:
    """Why there is no token.

    :param kind: a word for programs: ``not_cloud_shell``, ``refused``, ``busy``, ``timeout``, ``portal``,
        ``audience``, ``entra``, ``endpoint``, ``reply``, ``wrong_resource``, ``claims``, ``tenant`` or ``pop``.
    :param what: what happened, a sentence.
    :param advice: what to do next, a sentence.
    :param resource: the resource asked for.
    :param may_pass: whether asking again may help.
    :param retry_after: how many seconds the endpoint wants to be left alone.
    :param supported_audiences: for ``audience``, those the endpoint listed.
    """

    __slots__ = ("advice", "kind", "may_pass", "resource", "retry_after", "supported_audiences", "what")

    def __init__(
        self,
        kind: str,
        what: str,
        advice: str,
        *,
        resource: str = "",
        may_pass: bool = False,
        retry_after: float = 0.0,
        supported_audiences: tuple[str, ...] = (),
    ) -> None:
        self.kind = kind
        self.what = what
        self.advice = advice
        self.resource = resource
        self.may_pass = may_pass
        self.retry_after = retry_after
        self.supported_audiences = supported_audiences

    @property
    def message(self) -> str:
        """What happened and what to do about it."""
        return f"{self.what} {self.advice}"

    def __repr__(self) -> str:
        return f"Failure({self.kind!r}, {self.message!r})"


def not_in_cloud_shell(refusal: str | None) -> Failure:
    """No endpoint: the environment does not look like Cloud Shell, or names an endpoint that is not its."""
    if refusal:
        return Failure("not_cloud_shell", refusal, "Unset or correct it, or sign in with 'az login'.")
    return Failure(
        "not_cloud_shell",
        "This is not Azure Cloud Shell: neither MSI_ENDPOINT nor a Cloud Shell variable is set.",
        "Sign in with 'az login', or run this in Cloud Shell.",
    )


def unreachable(resource: str, reason: str) -> Failure:
    """Nobody listens at the endpoint, or the connection broke."""
    return Failure(
        "refused",
        f"The Cloud Shell token endpoint could not be asked for a token for {resource}: {reason}.",
        "Restart Cloud Shell, or sign in with 'az login'.",
        resource=resource,
    )


def busy(resource: str, seconds: float) -> Failure:
    """Its turn did not come: the endpoint was still answering other requests of this process."""
    return Failure(
        "busy",
        f"The Cloud Shell token endpoint could not be asked for a token for {resource}: for {seconds:.3g} seconds it "
        "was busy with this process's earlier requests, and it takes one at a time.",
        RETRY_OR_LOGIN,
        resource=resource,
    )


def no_answer(resource: str, seconds: float) -> Failure:
    """The endpoint did not answer in time."""
    return Failure(
        "timeout",
        f"The Cloud Shell token endpoint did not answer within {seconds:.3g} seconds when asked for a token "
        f"for {resource}.",
        "Keep the browser tab with Cloud Shell open and active and try again, or sign in with 'az login'.",
        resource=resource,
    )


def still_no_answer(resource: str, ago: float, rest: float) -> Failure:
    """The endpoint did not answer a moment ago, and is not asked again yet."""
    return Failure(
        "timeout",
        f"The Cloud Shell token endpoint did not answer {ago:.0f} seconds ago and was not asked again for a token "
        f"for {resource}; it will be in {rest:.0f} seconds.",
        "Keep the browser tab with Cloud Shell open and active and try again, or sign in with 'az login'.",
        resource=resource,
    )


def portal_timeout(resource: str, said: str, *, retry_after: float) -> Failure:
    """The endpoint answered, but the browser behind it did not."""
    return Failure(
        "portal",
        f"Cloud Shell did not get a token for {resource} from the Azure portal in your browser: {said}",
        "Keep the browser tab with Cloud Shell open and active and try again, or sign in with 'az login'.",
        resource=resource,
        may_pass=True,
        retry_after=retry_after,
    )


def audience_not_supported(resource: str, supported: tuple[str, ...]) -> Failure:
    """The resource is not on Cloud Shell's list."""
    listing = f" It supports: {', '.join(supported)}." if supported else ""
    return Failure(
        "audience",
        f"Cloud Shell does not hand out tokens for {resource} (AudienceNotSupported).{listing}",
        "Sign in with 'az login': DefaultCloudShellCredential, or a chain with AzureCliCredential behind this "
        "credential, then uses that sign-in.",
        resource=resource,
        supported_audiences=supported,
    )


def entra_refused(resource: str, said: str) -> Failure:
    """Microsoft Entra ID itself said no: asking again does not change its mind."""
    return Failure(
        "entra",
        f"Microsoft Entra ID did not issue a token for {resource}: {said}",
        "Sign in with 'az login' to answer what it asks for.",
        resource=resource,
    )


def endpoint_error(resource: str, status: int, said: str, *, may_pass: bool, retry_after: float = 0.0) -> Failure:
    """Any other error status."""
    return Failure(
        "endpoint",
        f"The Cloud Shell token endpoint answered {status} when asked for a token for {resource}: {said}",
        RETRY_OR_LOGIN,
        resource=resource,
        may_pass=may_pass,
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
        f"The Cloud Shell token endpoint's answer for {resource} cannot be used: {reason}.",
        RETRY_OR_LOGIN,
        resource=resource,
    )


def wrong_resource(resource: str, received: str) -> Failure:
    """A token for something else. Seen live: azure-cli#12297, go-azure-helpers#51."""
    return Failure(
        "wrong_resource",
        f"The Cloud Shell token endpoint answered a request for {resource} with a token for {received}.",
        RETRY_OR_LOGIN,
        resource=resource,
        may_pass=True,
    )


def claims_not_supported(resource: str, claims: str) -> Failure:
    """A claims challenge: the endpoint has no parameter for it."""
    from base64 import b64encode

    # az takes the challenge the way services send it, base64-encoded.
    encoded = b64encode(claims.encode()).decode()
    return Failure(
        "claims",
        f"Cloud Shell cannot satisfy the claims challenge for {resource}: its endpoint takes no claims.",
        f"Run az login --claims-challenge {encoded}",
        resource=resource,
    )


def other_tenant(resource: str, asked: str, actual: str | None) -> Failure:
    """A tenant other than the one the user is signed in to."""
    signed_in = f"signed in to {actual}" if actual else "signed in to a tenant that its token does not name"
    return Failure(
        "tenant",
        f"A token for {resource} in tenant {asked} was requested, but Cloud Shell is {signed_in} and to that alone.",
        f"Switch the directory in the portal and restart Cloud Shell, or run az login --tenant {asked}",
        resource=resource,
    )


def pop_not_supported(resource: str) -> Failure:
    """Proof of possession: the endpoint hands out bearer tokens only."""
    return Failure(
        "pop",
        f"Cloud Shell cannot issue a proof-of-possession token for {resource}: its endpoint has bearer tokens only.",
        "Use a credential that supports proof of possession.",
        resource=resource,
    )


_TOKEN_LIKE = re.compile(r"eyJ[\w-]*(?:\.[\w-]*){0,4}|[\w+=~-]{48,}", re.ASCII)


def redacted(text: str) -> str:
    """The text without anything that looks like a token."""
    return _TOKEN_LIKE.sub("[redacted]", text)


def quotable(text: str, limit: int = 400) -> str:
    """What the endpoint said, fit to be shown: one line, bounded, nothing in it that looks like a token."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text[: 4 * limit]).split())
    line = redacted(line)
    if len(line) > limit:
        line = line[: limit - 1] + "…"
    return line if line.endswith((".", "!", "?", "…")) else line + "."
