"""Microsoft Entra ID's error codes: which are transient, and what to do about the others.

The codes and what they mean are from Microsoft's list, "Microsoft Entra authentication and authorization error codes"
(https://learn.microsoft.com/entra/identity-platform/reference-error-codes). That they reach a caller through Cloud
Shell's endpoint has not been seen; Entra may put its text into any error. To teach this package a new code, add it to
a row of the table.
"""

from __future__ import annotations

import re

_CODE = r"AADSTS([0-9]{1,8})"
_RETRY = "Entra calls this a temporary condition. Try again in a minute."
# Cloud Shell's documentation (msi-authorization) and Azure/CloudShell#490: az login inside the container is a sign-in
# from the container, which is not a managed device.
_CONDITIONAL_ACCESS = (
    "A Conditional Access policy blocks this. 'az login' inside Cloud Shell is judged as a sign-in from a device of "
    "its own, an unmanaged one, and may be blocked too: sign in on a device that the policy accepts, or ask your "
    "administrator."
)
_INTERACTION = "Sign in with 'az login' to answer what it asks for."
_CONSENT = "Sign in with 'az login' and give consent there, or ask your administrator to consent."
_ACCOUNT = "Ask your administrator about the account: another way to sign in will not help."
_RESOURCE = "Check the spelling of the resource, and that the service is enabled in this tenant."
_SESSION = "The sign-in in your browser has ended: reload the portal, sign in again and restart Cloud Shell."
_DIRECTORY = "Switch the portal to a directory that this user is a member of, and restart Cloud Shell."
_LOOP = (
    "Entra has seen too many of the same request in a short time. Wait a few minutes, then keep one credential "
    "object, which caches its tokens, instead of making new ones."
)

# retryable, advice, codes
_TABLE: tuple[tuple[bool, str, tuple[int, ...]], ...] = (
    (True, _RETRY, (50033, 50087, 90006, 90012, 90024, 90033, 90055, 90090)),
    # Repeating the request at once is what this one is about.
    (False, _LOOP, (50196,)),
    (
        False,
        _CONDITIONAL_ACCESS,
        (50005, 50097, 50129, 50131, 50155, 50187, 53000, 53001, 53002, 53003, 53004, 530032),
    ),
    (False, _INTERACTION, (50072, 50074, 50076, 50079, 50125, 50158, 50199, 700020)),
    (False, _CONSENT, (65001, 65004, 90008, 90094)),
    (False, _ACCOUNT, (50053, 50055, 50057, 50105, 50144)),
    (False, _RESOURCE, (50001, 500011, 65005, 650052, 650057, 70011, 700016)),
    (False, _SESSION, (50058, 50089, 50132, 50133, 50173, 70008, 700082)),
    (False, _DIRECTORY, (16003, 50020, 50034, 51004, 90072)),
)


def advise(text: str) -> tuple[bool, str] | None:
    """What to do about an error.

    :param text: an error's code and message.
    :return: whether to ask again, and the advice; None if the error is not Entra's.
    """
    match = re.search(_CODE, text)
    if match is None and "interaction_required" not in text:
        return None
    code = int(match[1]) if match else 0
    for retryable, advice, codes in _TABLE:
        if code in codes:
            return retryable, advice
    return False, _INTERACTION
