"""Why no credential of a chain has a token: one paragraph for the person who reads it.

Cloud Shell's reason is a value. azure-identity's are texts, and those of a ``DefaultAzureCredential`` one text with a
list in it, which is split here and nowhere else.
"""

from __future__ import annotations

import os
import re

from azure.core.exceptions import AzureError

from .._endpoint import audiences, failures
from .._endpoint.failures import Failure
from .._endpoint.scopes import TokenRequest
from .._endpoint.text import quoted, sentence

_AZ = "AzureCliCredential"
_TIMED_OUT = "the Azure CLI took too long to answer, or could not be run"

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


def reasons_in(name: str, error: AzureError) -> list[tuple[str, str]]:
    """What a credential's exception says, or what each of the credentials in it says.

    :param name: the credential's class.
    :return: for each, its class and its reason, fit to be shown.
    """
    text = error.message or str(error)
    attempts = _ATTEMPT.findall(text) or [(name, text)]
    own = [(each, _BOILERPLATE.split(_PREFIX.sub("", said, count=1))[0]) for each, said in attempts]
    own = [(each, _TIMED_OUT if said.startswith("Failed to invoke the Azure CLI") else said) for each, said in own]
    return [(each, quoted(said, 300)) for each, said in own]


def nobody_has_a_token(request: TokenRequest, cloud_shells: Failure | None, reasons: list[tuple[str, str]]) -> Failure:
    """The failure of the whole chain, said once, in one paragraph.

    :param cloud_shells: why Cloud Shell has no token; None if it is not in the chain.
    :param reasons: why the others have none.
    """
    if cloud_shells is not None and cloud_shells.kind == "not_cloud_shell":
        cloud_shells = None
    az = next((text for name, text in reasons if name == _AZ), None)
    others = [(name, text) for name, text in reasons if name != _AZ and not _NOT_SET_UP.search(text)]
    said = (others if az is None else [(_AZ, az), *others]) or reasons
    if request.claims:
        # The command that satisfies the challenge is in the advice, whole.
        said = [(name, text) for name, text in said if "claims" not in text]
        advice = failures.claims_advice(request.claims, request.tenant_id)
    elif request.is_for_several:
        advice = failures.several_resources(request.resource).advice
    elif len(request.scopes) > 1 and any("exactly one scope" in text for _, text in reasons):
        # What is wrong is how it was asked for, not with which sign-in.
        advice = failures.use_scope(request.resource)
    elif meant := _meant_by(request.resource, cloud_shells, reasons):
        advice = failures.use_scope(meant)
    else:
        advice = _advice(cloud_shells, az, knows_others=bool(others))
    if cloud_shells is not None:
        said = [("Cloud Shell", cloud_shells.what), *said]
    code = cloud_shells.code if cloud_shells else ""
    told = [f"{name}: {sentence(text)}" for name, text in said]
    what = " ".join([f"No credential has a token for {request.resource}.", *told])
    return Failure("chain", what, advice, request.resource, code)


def _meant_by(resource: str, cloud_shells: Failure | None, reasons: list[tuple[str, str]]) -> str | None:
    """The resource that is meant by one that Cloud Shell, or Microsoft Entra ID, has refused."""
    if any("AADSTS500011" in text for _, text in reasons):
        return audiences.meant_by(resource, is_registered=False)
    return cloud_shells.meant if cloud_shells else None


def _advice(cloud_shells: Failure | None, az: str | None, *, knows_others: bool) -> str:
    """What to do, for the one who reads it here."""
    chosen = quoted(os.environ.get("AZURE_TOKEN_CREDENTIALS", "").strip(), 60)
    if az is None and chosen and not knows_others:
        return f"AZURE_TOKEN_CREDENTIALS={chosen} leaves out 'az login': unset it to use that."
    if cloud_shells is not None:
        is_refused_to_az = az is not None and cloud_shells.kind == "audience"
        return f"S{failures.SIGN_IN[1:]}." if is_refused_to_az else cloud_shells.advice
    start = "Install the Azure CLI and sign" if az and "not found on path" in az else "Sign"
    return "" if az is None else f"{start} in with 'az login'."
