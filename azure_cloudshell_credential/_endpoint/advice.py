"""What to do next: the last sentence of every error, made here and nowhere else.

It is made of three things: why there is no token (the cure and the details that a failure carries), who reads it, and
what is so with the Azure CLI here. A sentence names one or two ways, joined by ", or". Each of them cures by itself:
``tests/test_advice.py`` does what it says.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from .azure_cli import ABSENT, BROKEN, LEFT_OUT, OWN, REFUSED, SIGNED_IN, SLOW, UNKNOWN, AzureCli, az_on_disk
from .failures import Failure
from .text import printable

CREDENTIAL = "credential"
"""A user of ``CloudShellCredential``, alone or in a chain that the user made: it cannot know which."""
DEFAULT = "default"
"""A user of ``DefaultCloudShellCredential``, or of another credential that asks the Azure CLI."""
TOKEN = "token"  # noqa: S105 - a command
FALLBACK = "fallback"
"""``token --fallback``."""
PROGRAM = "program"
"""A program behind a broker, told by the broker."""
LED = "led"
"""Whoever has been led to a broker, told by our own code: what the broker says is said before."""
DOCTOR = "doctor"

_TRY_AGAIN = "try again"
_FIRST = {
    "sign_in": "",
    "claims": "",
    "challenged": "",
    "again": _TRY_AGAIN,
    "tab": f"keep the browser tab with Cloud Shell open and active, check the portal's directory and {_TRY_AGAIN}",
    "restart": "restart Cloud Shell",
    "reload": "reload the portal and restart Cloud Shell",
    "directory": "switch the directory in the portal and restart Cloud Shell",
    "unset_endpoint": "unset MSI_ENDPOINT",
}
"""By cure: what would help without another sign-in."""

_ONLY = {
    "several": "ask for one resource's scopes at a time",
    "cleared": "pass on MSI_ENDPOINT and ACC_CLOUD",
    "not_run": (
        "check that this process is not overloaded, and that gevent or eventlet is patched in before threads start"
    ),
    "nested": "request it after that one has ended",
    "tenant_id": "pass the tenant's id",
    "pop": "use a credential that supports proof of possession",
    "hook": "correct the hook or the transport",
    "variables": "start this program with the variables that azure-cloudshell sets now",
    "nothing": "",
}
"""By cure: what to do where no other sign-in helps."""

_FROM_DETAILS = {
    "clock": "set the clock of this machine, which may be {ahead} ahead",
    "configuration": "correct the configuration of {credential}",
}
"""The same, with a detail in it."""

_LED = {
    "again": _TRY_AGAIN,
    "tab": _TRY_AGAIN,
    "restart": "start azure-cloudshell again in a new shell, and this program with the variables that it sets",
    "claims": "no sign-in cures this under azure-cloudshell, which cannot pass a claims challenge on",
    "directory": "run 'az login --tenant {tenant}' and start azure-cloudshell with --credential az",
}
"""By cure: what to do for whoever has been led to a broker."""

_REACH = {
    CREDENTIAL: "use DefaultCloudShellCredential unless AzureCliCredential is behind this credential",
    TOKEN: "add --fallback",
}
"""What those do who do not ask the Azure CLI."""
_WITHOUT_CLOUD_SHELL = "DefaultCloudShellCredential(exclude_cloud_shell_credential=True)"
_USERS = "DefaultCloudShellCredential(), 'azure-cloudshell token --fallback' and 'azure-cloudshell run'"
_OWN = " (the user that 'az account show' names is Cloud Shell's own sign-in)"
_WHERE = " where azure-cloudshell was started"

# Microsoft Entra ID's errors that another sign-in of the same user does not change, by
# https://learn.microsoft.com/entra/identity-platform/reference-error-codes. az names a command for each of them.
_CONSENT = "ask an administrator of the tenant to consent to the Azure CLI for {resource}"
_REMEDIES = {
    "65001": _CONSENT,
    "90094": _CONSENT,
    "53003": "ask an administrator of the tenant, whose Conditional Access policy refuses this sign-in",
    "50020": "ask an administrator of the tenant to invite the user",
    "500011": "check the resource {resource}, which the tenant does not know",
}


def message(failure: Failure, reader: str) -> str:
    """What happened, and what to do about it.

    :param reader: who reads it.
    """
    return f"{failure.what} {next_step(failure, reader)}".rstrip()


def next_step(failure: Failure, reader: str) -> str:
    """What to do about a failure, for one who reads it here; empty where there is nothing to say."""
    az = failure.az or az_on_disk(os.environ)
    return printable(sentence_for(failure.cure, reader, az, {"resource": failure.resource, **failure.details}))


def sentence_for(cure: str, reader: str, az: AzureCli, details: Mapping[str, str]) -> str:
    """The sentence.

    :param cure: of the cause.
    :param reader: who reads it.
    :param az: what is so with the Azure CLI.
    :param details: ``resource``; where they are known, the ``tenant`` and ``claims`` that were requested, the ``scope``
        that was meant, as whom Cloud Shell (``as_user``) and another credential (``theirs``) are signed in, the
        class of a ``credential`` that is configured and fails, by how much the clock is ``ahead``, ``after`` how
        long asking again may help, and that the command ``has_waited``.
    """
    if cure in _ONLY:
        return _sentence(_ONLY[cure])
    if reader == LED:
        return _sentence(_after(_LED.get(cure, ""), details).format(**details))
    if scope := details.get("scope"):
        is_command = reader in (TOKEN, FALLBACK)
        return _sentence(
            f"use the resource {scope.removesuffix('/.default')}" if is_command else f"use the scope {scope}"
        )
    if cure in _FROM_DETAILS:
        return _sentence(_FROM_DETAILS[cure].format(**details))
    if cure == "identity":
        return _sentence(_sign_in(reader, details), _as_the_other(reader, details))
    if cure == "other_host" and reader in _REACH:
        reach = "use DefaultCloudShellCredential" if reader == CREDENTIAL else _REACH[reader]
        return f"{_sentence(reach)[:-1]}: the managed identity of this place is asked then."
    first = _first(cure, reader, details)
    reach = "" if reader == DOCTOR else _REACH.get(reader, "")
    if cure == "claims":
        # Cloud Shell, which is asked first, still has the token that was challenged.
        reach = reach if reader == TOKEN else f"use {_WITHOUT_CLOUD_SHELL}"
    return _sentence(first, _other(reader, az, details, reach, has_first=bool(first)))


def as_the_broker_says(failure: Failure) -> Failure:
    """The failure of a request to a broker, whose words say what happened and what to do instead of ours."""
    if failure.code == "NotFound":
        # What a broker answers to a secret, or a host name, that is not its own.
        failure.what = (
            f"The token request for {failure.resource} failed: MSI_ENDPOINT has a secret or a host name in it that the "
            "azure-cloudshell there does not know."
        )
        failure.cure = "variables"
    elif failure.code and failure.said:
        failure.what, failure.cure = failure.said, "nothing"
    return failure


def _first(cure: str, reader: str, details: Mapping[str, str]) -> str:
    """What would help without another sign-in."""
    first = _FIRST.get(cure, "")
    if cure == "tab" and reader == TOKEN and "has_waited" not in details:
        first = first.replace(_TRY_AGAIN, "add --wait")
    return _after(first, details)


def _after(step: str, details: Mapping[str, str]) -> str:
    return step.replace(_TRY_AGAIN, f"{_TRY_AGAIN} in {details['after']}") if "after" in details else step


def for_doctor(cure: str, az: AzureCli, details: Mapping[str, str] | None = None) -> str:
    """The sentence for somebody who has not said what will ask: the ways to use another sign-in are named."""
    step = sentence_for(cure, DOCTOR, az, details or {})
    if az.state == SIGNED_IN and cure not in (*_ONLY, *_FROM_DETAILS):
        return f"{step} The Azure CLI is signed in as {az.detail}: {_USERS} use that sign-in.".lstrip()
    has_way = "az login" in step or az.state == LEFT_OUT
    return f"{step[:-1]}: {_USERS} use that sign-in." if has_way else step


def for_another_host() -> str:
    """The sentence of ``doctor`` where a managed identity is, or a container is led to a broker outside of it."""
    return f"{_USERS} ask the managed identity of this place."


def for_those_that_failed(names: Sequence[str]) -> str:
    """The sentence of ``doctor`` for resources that Cloud Shell serves, and has no token for just now."""
    return f"{_sentence(_FIRST['tab'])[:-1]} for: {', '.join(names)}."


def for_one_not_allowed() -> str:
    """The sentence of a broker that serves some resources only."""
    return f"To have it served, name it in --allow{_WHERE}."


def for_those_refused_by_a_broker() -> str:
    """The sentence of ``doctor`` behind a broker that refuses some resources."""
    return f"Run 'az login'{_WHERE}, or see its --allow."


def _sentence(*ways: str) -> str:
    text = ", or ".join(filter(None, ways))
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _listed(*steps: str) -> str:
    *others, last = [step for step in steps if step] or [""]
    return f"{', '.join(others)} and {last}" if others else last


def _command(details: Mapping[str, str]) -> str:
    claims, tenant = details.get("claims"), details.get("tenant")
    return f"az login{f' --claims-challenge {claims}' if claims else ''}{f' --tenant {tenant}' if tenant else ''}"


def _sign_in(reader: str, details: Mapping[str, str]) -> str:
    """Sign in: as the same user, where it is known who that is."""
    as_user = f" as {details['as_user']}" if details.get("as_user") else ""
    return f"run '{_command(details)}'{as_user}{_WHERE if reader == PROGRAM else ''}"


def _as_the_other(reader: str, details: Mapping[str, str]) -> str:
    if reader == PROGRAM:
        return f"start azure-cloudshell with --credential az to be {details['theirs']}"
    return f"use {_WITHOUT_CLOUD_SHELL} to be {details['theirs']}" if reader in (CREDENTIAL, DEFAULT) else ""


def _other(reader: str, az: AzureCli, details: Mapping[str, str], reach: str, *, has_first: bool) -> str:
    """The way by another sign-in; empty where there is none."""
    sign_in = _sign_in(reader, details)
    if az.state == ABSENT:
        return _listed("install the Azure CLI", sign_in, reach)
    if az.state == LEFT_OUT:
        beneath = az.beneath or AzureCli(SIGNED_IN)
        needs_sign_in = beneath.state not in (SIGNED_IN, SLOW, BROKEN, REFUSED) or _needs_another(beneath, details)
        install = "install the Azure CLI" if beneath.state == ABSENT else ""
        return _listed(install, sign_in if needs_sign_in else "", reach, f"{az.detail}, which leaves out the Azure CLI")
    if not details.get("claims"):
        if az.state == SIGNED_IN and not _needs_another(az, details):
            return f"{reach}: the Azure CLI is signed in as {az.detail}" if reach else ""
        if az.state in _AFTER_ASKING:
            return _AFTER_ASKING[az.state](reader, az, details, has_first=has_first)
    return _listed(f"{sign_in}{_OWN if az.state == OWN else ''}", reach)


def _needs_another(az: AzureCli, details: Mapping[str, str]) -> bool:
    """Whether the sign-in that there is does not do."""
    as_user = details.get("as_user")
    return bool(details.get("tenant") or details.get("claims") or (as_user and as_user.lower() != az.detail.lower()))


def _slow(reader: str, _az: AzureCli, _details: Mapping[str, str], *, has_first: bool) -> str:
    longer = {DEFAULT: "pass process_timeout=120", FALLBACK: "add --timeout 120"}
    return longer.get(reader, "" if has_first else _TRY_AGAIN)


def _broken(_reader: str, _az: AzureCli, _details: Mapping[str, str], *, has_first: bool) -> str:
    return "" if has_first else "correct what the Azure CLI reports"


def _refused(reader: str, az: AzureCli, details: Mapping[str, str], *, has_first: bool) -> str:
    if remedy := _REMEDIES.get(az.code):
        return "" if has_first else remedy.format(**{"resource": "it", **details})
    if az.detail:
        return f"run '{az.detail}'{_WHERE if reader == PROGRAM else ''}, as the Azure CLI says"
    return _sign_in(reader, details)


def _unknown(_reader: str, _az: AzureCli, _details: Mapping[str, str], *, has_first: bool) -> str:  # noqa: ARG001
    return ""


_AFTER_ASKING = {SLOW: _slow, BROKEN: _broken, REFUSED: _refused, UNKNOWN: _unknown}
