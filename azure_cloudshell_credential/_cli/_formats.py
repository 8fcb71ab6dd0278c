"""The forms in which ``azure-cloudshell token`` prints a token."""

from __future__ import annotations

import os
from collections.abc import Callable

from .._endpoint.token import Token, claims_of
from ._errors import CommandError


def formatted(token: Token, form: str, shell: str | None) -> str:
    """The token in one of the ``FORMS``.

    :param shell: for ``env``, the shell whose syntax it is; None for the calling one.
    """
    if form == "env":
        from ._shells import detect, set_variable

        return set_variable(shell or detect(), "AZURE_ACCESS_TOKEN", token.value)
    return _FORMATTERS[form](token)


def _as_json(token: Token) -> str:
    """The fields of ``az account get-access-token``, azure-cli 2.91."""
    import json
    from datetime import datetime

    from .._azure.subscription import known_subscription_id

    fields = {
        "accessToken": token.value,
        # In local time, as az prints it.
        "expiresOn": datetime.fromtimestamp(token.expires_on).strftime("%Y-%m-%d %H:%M:%S.%f"),
        "expires_on": token.expires_on,
        "subscription": known_subscription_id(os.environ),
        "tenant": claims_of(token.value).get("tid") or os.environ.get("ACC_TID"),
        "tokenType": "Bearer",
    }
    return json.dumps(fields, indent=2)


def _as_claims(token: Token) -> str:
    import json

    claims = claims_of(token.value)
    if not claims:
        raise CommandError("The token is not a JWT; it has no readable claims.")
    return json.dumps(claims, indent=2)


def _as_exec_credential(token: Token) -> str:
    """What kubectl takes from a credential plugin: Kubernetes' client.authentication.k8s.io."""
    import json
    from datetime import datetime, timezone

    from .._endpoint.untrusted_json import read_json

    # kubectl says which version it speaks.
    info = read_json(os.environ.get("KUBERNETES_EXEC_INFO", ""))
    version = info.get("apiVersion") if isinstance(info, dict) else None
    expiry = datetime.fromtimestamp(token.expires_on, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    fields = {
        "apiVersion": version if isinstance(version, str) else "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": token.value, "expirationTimestamp": expiry},
    }
    return json.dumps(fields)


def _as_git_credential(token: Token) -> str:
    """What git takes from a credential helper, git-credential(1).

    Azure DevOps takes an Entra token wherever it takes a personal access token, and any user name but an empty one
    (https://learn.microsoft.com/azure/devops/repos/git/auth-overview); Git Credential Manager presents it like this.
    """
    return f"username=azure-cloudshell\npassword={token.value}\npassword_expiry_utc={token.expires_on}"


_FORMATTERS: dict[str, Callable[[Token], str]] = {
    "token": lambda token: token.value,
    "json": _as_json,
    "header": lambda token: f"Authorization: Bearer {token.value}",
    "claims": _as_claims,
    "exec-credential": _as_exec_credential,
    "git-credential": _as_git_credential,
}

FORMS = ("token", "json", "header", "env", "claims", "exec-credential", "git-credential")
