"""Why no credential of a chain has a token: one paragraph for the person who reads it.

Cloud Shell's reason is a value. azure-identity's are texts, and those of a ``DefaultAzureCredential`` one text with a
list in it, which is split here and nowhere else.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from azure.core.exceptions import AzureError

from .._endpoint import failures
from .._endpoint.failures import Failure
from .sources import TokenRequest

_AZ = "AzureCliCredential"

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
    r"|value must be specified|should be a valid|token_file_path|Visual Studio Code",
    re.IGNORECASE,
)
_TIMED_OUT = "Failed to invoke the Azure CLI"


class Reason(NamedTuple):
    """Why one credential has no token.

    :param name: its class.
    :param text: what it said, fit to be shown.
    """

    name: str
    text: str


def reasons_in(name: str, error: AzureError) -> list[Reason]:
    """What a credential's exception says, or what each of the credentials in it says.

    :param name: the credential's class.
    """
    text = error.message or str(error)
    reasons = []
    for each, said in _ATTEMPT.findall(text) or [(name, text)]:
        shown = failures.quoted(_BOILERPLATE.split(_PREFIX.sub("", said, count=1))[0], 300)
        if each == _AZ and said.startswith(_TIMED_OUT):
            shown = "the Azure CLI took too long to answer, or could not be run"
        reasons.append(Reason(each, shown))
    return reasons


def nobody_has_a_token(request: TokenRequest, cloud_shells: Failure | None, reasons: list[Reason]) -> Failure:
    """The failure of the whole chain, said once, in one paragraph.

    :param cloud_shells: why Cloud Shell has no token; None if it is not in the chain.
    :param reasons: why the others have none.
    """
    if cloud_shells is not None and cloud_shells.kind == "not_cloud_shell":
        cloud_shells = None
    azs = [reason for reason in reasons if reason.name == _AZ]
    others = [reason for reason in reasons if reason.name != _AZ and not _NOT_SET_UP.search(reason.text)]
    said = [*azs, *others] or reasons
    if request.claims:
        # The command that satisfies the challenge is in the advice, whole.
        said = [reason for reason in said if "claims" not in reason.text]
        advice = failures.claims_advice(request.claims, request.tenant_id)
    else:
        advice = _advice(cloud_shells, azs, others)
    if cloud_shells is not None:
        said = [Reason("Cloud Shell", cloud_shells.what), *said]
    resource = " ".join(request.scopes)
    told = [
        f"No credential has a token for {resource}.",
        *(f"{name}: {failures.sentence(text)}" for name, text in said),
    ]
    code = cloud_shells.code if cloud_shells is not None else ""
    return Failure("chain", " ".join(told), advice, resource, code=code)


def _advice(cloud_shells: Failure | None, azs: list[Reason], others: list[Reason]) -> str:
    """What to do, for the one who reads it here."""
    if not azs:
        chosen = os.environ.get("AZURE_TOKEN_CREDENTIALS", "").strip()
        if chosen and not others:
            return f"AZURE_TOKEN_CREDENTIALS={failures.quoted(chosen, 60)} leaves out 'az login': unset it to use that."
        return "" if cloud_shells is None else cloud_shells.advice
    if cloud_shells is None:
        install = "Install the Azure CLI and sign" if "not found on path" in azs[0].text else "Sign"
        return f"{install} in with 'az login'."
    return f"S{failures.SIGN_IN[1:]}." if cloud_shells.kind == "audience" else cloud_shells.advice
