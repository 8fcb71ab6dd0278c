"""The sign-ins of a developer that a default chain would find in their home folder."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any

import msal

TOKEN = "the-developers-own"
_CLIENT_ID = "04b07795-8ddb-461a-bbee-02f9e1bf7b46"
_VISUAL_STUDIO_CODE = "aebc6443-996d-45c2-90f0-388ff96faa56"


def sign_in_to_shared_cache(home: Path, scope: str) -> None:
    """Put a token into the cache that Microsoft's developer tools share."""
    claims = {
        "aud": _CLIENT_ID,
        "oid": "u",
        "tid": "t",
        "sub": "s",
        "preferred_username": "linus@contoso.example",
        "exp": int(time.time()) + 9999,
    }
    cache = msal.SerializableTokenCache()
    cache.add(
        {
            "client_id": _CLIENT_ID,
            "scope": [scope],
            "token_endpoint": "https://login.microsoftonline.com/organizations/oauth2/v2.0/token",
            "response": {
                "access_token": TOKEN,
                "refresh_token": "r",
                "foci": "1",
                "expires_in": 36000,
                "id_token": f"{_encoded({'alg': 'none'})}.{_encoded(claims)}.",
                "client_info": _encoded({"uid": "u", "utid": "t"}),
                "token_type": "Bearer",
            },
        }
    )
    folder = home / ".IdentityService"
    folder.mkdir()
    for suffix in ("nocae", "cae"):
        (folder / f"msal.cache.{suffix}").write_text(cache.serialize())


def sign_in_to_visual_studio_code(home: Path) -> None:
    """Leave the record that its extension Azure Resources leaves."""
    record = home / ".azure" / "ms-azuretools.vscode-azureresourcegroups" / "authRecord.json"
    record.parent.mkdir(parents=True)
    content = {
        "authority": "login.microsoftonline.com",
        "clientId": _VISUAL_STUDIO_CODE,
        "homeAccountId": "u.t",
        "tenantId": "t",
        "username": "linus@contoso.example",
    }
    record.write_text(json.dumps(content))


def _encoded(content: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()
