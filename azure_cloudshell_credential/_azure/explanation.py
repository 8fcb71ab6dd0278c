"""Why no credential of a chain has a token: one paragraph for the person who reads it.

Cloud Shell's reason is a value. azure-identity's are texts, and those of a ``DefaultAzureCredential`` one text with a
list in it, which is split here and nowhere else.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import PurePath

from azure.core.exceptions import AzureError

from .._endpoint import audiences, azure_cli, failures
from .._endpoint.azure_cli import AzureCli
from .._endpoint.environment import is_led_to_a_broker
from .._endpoint.failures import Failure, Reason
from .._endpoint.scopes import TokenRequest
from .._endpoint.text import quoted, sentence

_AZ = "AzureCliCredential"
_PROGRAMS = {"az": _AZ, "azd": "AzureDeveloperCliCredential"}
_AZURE_IDENTITYS_WORDS = ("Azure CLI not found", "Please run 'az login'", "Failed to invoke the Azure CLI")
_CONFIGURED = ("EnvironmentCredential", "WorkloadIdentityCredential", "ManagedIdentityCredential")
_MAX_SAID = 1200
"""Characters of what one credential says: Microsoft Entra ID's errors have up to 700, with their ids."""

# What az says before the commands that sign in again, in its versions from 2.58 on. They are in the advice.
_BEFORE_COMMANDS = re.compile(
    r"\s*(?:Interactive authentication is needed\.\s*)?(?:To re-authenticate, please run:|Please run:"
    r"|Please explicitly log in with:|Run the command below to authenticate interactively)(?=[;:\s]|$)"
)

# An attempt begins with a tab and goes on to the next one.
_ATTEMPT = re.compile(r"^\t(\w+): (.*(?:\n(?!\t\w+: ).*)*)", re.MULTILINE)
# Where the part of a text begins that is the same for everyone.
_BOILERPLATE = re.compile(
    r"\s*(?:See the troubleshooting guide|Visit https?:|To mitigate this issue|Attempted credentials:)"
)
_PREFIX = re.compile(r"\w+ authentication unavailable[.,] ?")
# What is not installed, not configured or not there: no credential that the reader has set up.
_NOT_SET_UP = re.compile(
    r"^$|not fully configured|not installed|not found on path|could not be found|is required to use|only supported on"
    r"|not supported on this platform|Shared token cache|in the cache|no response from|No managed identity endpoint"
    r"|value must be specified|should be a valid|token_file_path|Visual Studio Code"
    r"|Please run .?(?:Connect-AzAccount|'azd auth login')",
    re.IGNORECASE,
)


def reasons_in(name: str, error: AzureError | ValueError) -> list[Reason]:
    """What a credential's exception says, or what each of the credentials in it says.

    :param name: the credential's class.
    """
    text = _text_of(error)
    attempts = _ATTEMPT.findall(text) or [(_whose(error) or name, text)]
    return [_reason(each, _BOILERPLATE.split(_PREFIX.sub("", said, count=1))[0]) for each, said in attempts]


def _text_of(error: AzureError | ValueError) -> str:
    return (error.message if isinstance(error, AzureError) else "") or str(error)


def _whose(error: AzureError | ValueError) -> str | None:
    """Whose error a ``DefaultAzureCredential`` passes on as its own: after a first token it asks one credential only.

    The credentials that start a program raise theirs from ``subprocess``'s, which names the program.
    """
    command = getattr(error.__cause__, "cmd", None)
    if isinstance(command, (list, tuple)) and command:
        return _PROGRAMS.get(PurePath(str(command[0])).stem)
    return _AZ if _text_of(error).startswith(_AZURE_IDENTITYS_WORDS) else None


def _reason(name: str, said: str) -> Reason:
    if name != _AZ:
        return Reason(name, quoted(said, _MAX_SAID))
    az = azure_cli.az_that_said(said)
    if az.state == azure_cli.SLOW:
        said = "the Azure CLI did not answer in time, or could not be run"
    elif az.state == azure_cli.REFUSED:
        said = _BEFORE_COMMANDS.split(said)[0]
    return Reason(name, quoted(said, _MAX_SAID), az)


def nobody_has_a_token(
    request: TokenRequest, cloud_shells: Failure | None, reasons: Sequence[Reason], *, excludes_az: bool = False
) -> Failure:
    """The failure of the whole chain, said once, in one paragraph.

    :param cloud_shells: why Cloud Shell has no token; None if it is not in the chain.
    :param reasons: why the others have none.
    :param excludes_az: whether the user's program leaves out the Azure CLI.
    """
    if cloud_shells is not None and cloud_shells.kind == "not_cloud_shell" and cloud_shells.cure != "unset_endpoint":
        cloud_shells = None
    az = next((each for each in reasons if each.az), None)
    others = [each for each in reasons if each is not az and not _NOT_SET_UP.search(each.text)]
    said = ([az, *others] if az else others) or (() if cloud_shells else reasons)
    code = cloud_shells.code if cloud_shells else ""
    failure = Failure("chain", _told(request, cloud_shells, reasons, said), "sign_in", request.resource, code)
    failure.reasons = reasons
    failure.az = az.az if az else _az_that_was_not_asked(knows_others=bool(others), is_excluded=excludes_az)
    if az and request.claims and (on_disk := azure_cli.az_on_disk(os.environ)).state == azure_cli.ABSENT:
        # azure-identity answers a challenge without a look for az.
        failure.az = on_disk
    if cloud_shells is not None:
        failure.cure, failure.details = cloud_shells.cure, dict(cloud_shells.details)
    if failure.cure == "sign_in" and az is None and others and others[-1].name in _CONFIGURED:
        # It has ended the chain. There is nothing to add to what a broker outside of this container says.
        failure.cure = "nothing" if is_led_to_a_broker(os.environ) else "configuration"
        failure.details = {"credential": others[-1].name}
    _add_what_was_asked_for(failure, request)
    return failure


def _told(
    request: TokenRequest, cloud_shells: Failure | None, reasons: Sequence[Reason], said: Sequence[Reason]
) -> str:
    """What happened, in one paragraph."""
    if cloud_shells is not None and not reasons:
        # Nobody else was asked: behind a broker, whose words those are, nobody ever is.
        return cloud_shells.what
    # The command that satisfies a challenge is in the advice, whole.
    shown = [(each.name, each.text) for each in said if not (request.claims and "claims" in each.text)]
    if cloud_shells is not None:
        shown = [("Cloud Shell", cloud_shells.what), *shown]
    told = [f"{name}: {sentence(text)}" for name, text in shown if text]
    return " ".join([f"No credential has a token for {request.resource}.", *told])


def _add_what_was_asked_for(failure: Failure, request: TokenRequest) -> None:
    if request.is_for_several:
        failure.cure = "several"
    elif meant := _meant_by(request, failure):
        failure.details["scope"] = failures.scope_of(meant)
    if request.tenant_id:
        failure.details["tenant"] = request.tenant_id
    if request.claims:
        failure.details["claims"] = failures.encoded(request.claims)


def _meant_by(request: TokenRequest, failure: Failure) -> str | None:
    """The resource to ask for where the request is what is wrong, and not with which sign-in it was made."""
    if failure.az and failure.az.code == "500011":
        return audiences.meant_by(request.resource, is_registered=False)
    takes_one = any("exactly one scope" in reason.text for reason in failure.reasons)
    return request.resource if len(request.scopes) > 1 and takes_one else None


def _az_that_was_not_asked(*, knows_others: bool, is_excluded: bool) -> AzureCli:
    az = azure_cli.az_on_disk(os.environ)
    if is_excluded:
        az = AzureCli(azure_cli.LEFT_OUT, "drop exclude_cli_credential=True", beneath=az.beneath or az)
    return az if az.state == azure_cli.LEFT_OUT and not knows_others else AzureCli(azure_cli.UNKNOWN)
