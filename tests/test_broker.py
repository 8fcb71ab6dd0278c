"""The broker: who may ask it, what it answers in each protocol, and what it never shows."""

from __future__ import annotations

import asyncio
import calendar
import json
import logging
import os
import pickle
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import requests
from azure.core.credentials import AccessToken, AccessTokenInfo
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import ManagedIdentityCredential, aio

from azure_cloudshell_credential import CloudShellCredential, DefaultCloudShellCredential
from azure_cloudshell_credential._azure import default_chain
from azure_cloudshell_credential._endpoint import audiences, environment
from azure_cloudshell_credential.broker import CloudShellBroker
from azure_cloudshell_credential.emulator import CloudShellEmulator, faults

from .conftest import CANARY, Everything, in_threads

ARM = "https://management.azure.com"
SEARCH = "https://search.azure.com"
METADATA = {"Metadata": "true"}
PROTOCOLS = ("cloud-shell", "app-service", "azd")


class Given:
    """A credential that gives what it is told to."""

    def __init__(self, outcome: Any = None) -> None:
        self.outcome = outcome or AccessToken(CANARY, int(time.time()) + 3600)
        self.scopes: list[str] = []
        self.options: list[dict[str, Any]] = []

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        self.scopes += scopes
        self.options.append(options)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        token: AccessToken = self.outcome
        return token


class GivenInfo(Given):
    """The same, in the newer form."""

    def get_token_info(self, *scopes: str, options: Any = None) -> AccessTokenInfo:
        token = self.get_token(*scopes, **(options or {}))
        return AccessTokenInfo(token.token, token.expires_on)


@pytest.fixture
def given() -> Given:
    return Given()


@pytest.fixture
def broker(given: Given) -> Iterator[CloudShellBroker]:
    with CloudShellBroker(given) as broker:
        yield broker


def ask(broker: CloudShellBroker, resource: str = ARM, **headers: str) -> requests.Response:
    return requests.post(
        broker.environment["MSI_ENDPOINT"], {"resource": resource}, headers={**METADATA, **headers}, timeout=10
    )


def ask_app_service(broker: CloudShellBroker, resource: str = ARM, version: str = "2019-08-01") -> requests.Response:
    variables = broker.environment
    headers = {"X-IDENTITY-HEADER": variables["IDENTITY_HEADER"]}
    parameters = {"resource": resource, "api-version": version}
    return requests.get(variables["IDENTITY_ENDPOINT"], parameters, headers=headers, timeout=10)


def ask_azd(broker: CloudShellBroker, body: Any, key: str | None = None) -> requests.Response:
    url = broker.environment["AZD_AUTH_ENDPOINT"] + "/token?api-version=2023-07-12-preview"
    headers = {"Authorization": f"Bearer {key or broker.environment['AZD_AUTH_KEY']}"}
    return requests.post(url, json=body, headers=headers, timeout=10)


def test_one_environment_leads_every_client_to_it(broker: CloudShellBroker) -> None:
    variables = broker.environment
    base = variables["AZD_AUTH_ENDPOINT"]
    assert base == f"http://127.0.0.1:{broker.port}"
    cloud_shells = f"{base}/{broker._secrets.path}/oauth2/token"
    assert variables == {
        "IDENTITY_ENDPOINT": f"{base}/msi/token",
        "IDENTITY_HEADER": variables["IDENTITY_HEADER"],
        "MSI_ENDPOINT": cloud_shells,
        "ARM_MSI_ENDPOINT": cloud_shells,
        "AZURE_MSI_ENDPOINT": f"{base}/msi/token",
        "AZD_AUTH_ENDPOINT": base,
        "AZD_AUTH_KEY": variables["AZD_AUTH_KEY"],
    }


def test_what_would_lead_a_program_elsewhere_is_removed(broker: CloudShellBroker) -> None:
    before = {
        "MSI_SECRET": "x",
        "IDENTITY_SERVER_THUMBPRINT": "x",
        "IMDS_ENDPOINT": "x",
        "AZD_AUTH_CERT": "x",
        "MSI_ENDPOINT": "http://localhost:50342/oauth2/token",
        "HOME": "/h",
        "no_proxy": "a, localhost",
        "NO_PROXY": "b",
    }
    after = broker.child_environment(before)
    assert not after.keys() & set(broker.removed)
    assert set(broker.removed) == set(list(before)[:4])
    assert after["HOME"] == "/h"
    assert after["MSI_ENDPOINT"] == broker.environment["MSI_ENDPOINT"]
    assert after["NO_PROXY"] == after["no_proxy"] == "a,localhost,b,127.0.0.1,::1"


@pytest.mark.parametrize(("before", "after"), [(None, "prod"), ("", "prod"), (" ", "prod"), ("dev", "dev")])
def test_a_default_azure_credential_stops_at_the_broker_unless_its_user_has_chosen(
    broker: CloudShellBroker, before: str | None, after: str
) -> None:
    chosen = {} if before is None else {"AZURE_TOKEN_CREDENTIALS": before}
    assert broker.child_environment(chosen)["AZURE_TOKEN_CREDENTIALS"] == after
    assert "AZURE_TOKEN_CREDENTIALS" not in broker.environment


@pytest.mark.parametrize("names", [["IDENTITY_ENDPOINT", "IDENTITY_HEADER"], ["MSI_ENDPOINT"], None])
def test_azure_identity_asks_it(
    broker: CloudShellBroker, given: Given, monkeypatch: pytest.MonkeyPatch, names: list[str] | None
) -> None:
    for name, value in broker.environment.items():
        if names is None or name in names:
            monkeypatch.setenv(name, value)
    token = ManagedIdentityCredential().get_token(f"{ARM}/.default")
    assert token.token == CANARY
    assert abs(token.expires_on - given.outcome.expires_on) <= 2
    assert given.scopes == [f"{ARM}/.default"]


def test_a_client_id_makes_no_difference_and_that_is_said_once(
    broker: CloudShellBroker, monkeypatch: pytest.MonkeyPatch, log: Everything
) -> None:
    for name, value in broker.environment.items():
        monkeypatch.setenv(name, value)
    for _ in range(2):
        assert ManagedIdentityCredential(client_id="0f0f").get_token(f"{ARM}/.default").token == CANARY
    for field in ("client_id", "mi_res_id", "object_id", "principal_id"):
        form = {"resource": ARM, field: "0f0f"}
        url = broker.environment["MSI_ENDPOINT"]
        assert requests.post(url, form, headers=METADATA, timeout=10).json()["access_token"] == CANARY
    assert sum("named a managed identity" in line for line in log.lines) == 1


@pytest.mark.parametrize("kind", [Given, GivenInfo])
def test_a_credential_of_either_form_serves(kind: type[Given]) -> None:
    credential = kind()
    with CloudShellBroker(credential) as broker:
        for _ in range(3):
            assert ask(broker).json()["access_token"] == CANARY
    assert credential.scopes == [f"{ARM}/.default"]


def test_the_reply_has_cloud_shells_form(broker: CloudShellBroker) -> None:
    content = ask(broker, f"{ARM}/").json()
    assert list(content) == [
        "access_token",
        "refresh_token",
        "expires_in",
        "expires_on",
        "not_before",
        "resource",
        "token_type",
    ]
    assert all(isinstance(value, str) for value in content.values())
    assert content["resource"] == f"{ARM}/"


def test_a_get_is_answered_too(broker: CloudShellBroker) -> None:
    url = broker.environment["MSI_ENDPOINT"]
    assert requests.get(url, {"resource": ARM}, headers=METADATA, timeout=10).json()["access_token"] == CANARY


@pytest.mark.parametrize(("name", "has_header"), [("ARM_MSI_ENDPOINT", False), ("AZURE_MSI_ENDPOINT", True)])
def test_terraform_asks_by_get_without_a_secret_header_and_object_store_with_one(
    broker: CloudShellBroker, name: str, has_header: bool
) -> None:
    # hashicorp/go-azure-sdk, sdk/auth/managed_identity_authorizer.go; object_store, azure/credential.rs.
    parameters = {"api-version": "2018-02-01", "resource": f"{ARM}/", "client_id": "0f0f"}
    headers = METADATA | ({"x-identity-header": broker.environment["IDENTITY_HEADER"]} if has_header else {})
    reply = requests.get(broker.environment[name], parameters, headers=headers, timeout=10).json()
    assert (reply["access_token"], reply["token_type"]) == (CANARY, "Bearer")
    assert int(reply["expires_on"]) - time.time() > 3590


def test_app_services_reply_has_both_forms_of_the_expiry(broker: CloudShellBroker, given: Given) -> None:
    content = ask_app_service(broker).json()
    assert content["expires_on"] == str(given.outcome.expires_on)
    assert 3590 <= int(content["expires_in"]) <= 3600
    assert all(isinstance(value, str) for value in content.values())


def test_the_older_app_service_form_has_a_header_of_its_own_and_a_date(broker: CloudShellBroker, given: Given) -> None:
    url = broker.environment["IDENTITY_ENDPOINT"]
    parameters = {"resource": ARM, "api-version": "2017-09-01", "clientid": "0f0f"}
    headers = {"secret": broker.environment["IDENTITY_HEADER"]}
    content = requests.get(url, parameters, headers=headers, timeout=10).json()
    assert content["access_token"] == CANARY
    # As azure-identity 1.5 reads it (app_service.py).
    parsed = time.strptime(content["expires_on"], "%m/%d/%Y %H:%M:%S +00:00")
    assert calendar.timegm(parsed) == given.outcome.expires_on
    assert 3590 <= int(content["expires_in"]) <= 3600


def test_numbers_are_whole_seconds() -> None:
    expires_on = int(time.time()) + 3600
    with CloudShellBroker(Given(AccessToken(CANARY, expires_on + 0.75))) as broker:  # type: ignore[arg-type]
        for content in (ask(broker).json(), ask_app_service(broker).json()):
            assert content["expires_on"] == str(expires_on)
            assert content["expires_in"].isdigit()


@pytest.mark.parametrize("kind", [CloudShellCredential, DefaultCloudShellCredential])
def test_a_token_of_another_tenant_than_asked_for_is_not_served(
    in_cloud_shell: CloudShellEmulator, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    here = in_cloud_shell.identity.tenant_id
    with CloudShellBroker(kind()) as broker:
        asked = {"scopes": [f"{ARM}/.default"]}
        for own in ({}, {"tenantId": here}):
            assert ask_azd(broker, {**asked, **own}).json()["status"] == "success"
        refused = ask_azd(broker, {**asked, "tenantId": "99999999-aaaa-4bbb-8ccc-222222222222"}).json()
        assert refused["status"] == "error"
        assert f"signed in to tenant {here} only" in refused["message"]


def test_azds_own_protocol_is_served_too(broker: CloudShellBroker, given: Given) -> None:
    content = ask_azd(broker, {"scopes": [f"{ARM}//.default"], "tenantId": "t-1"}).json()
    assert (content["status"], content["token"]) == ("success", CANARY)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", content["expiresOn"])
    assert given.scopes == [f"{ARM}//.default"]
    assert given.options == [{"tenant_id": "t-1"}]
    assert ask_azd(broker, {"scopes": [ARM]}, "x").status_code == 404
    bodies: list[Any] = [{}, {"scopes": []}, {"scopes": ["a", "b"]}, {"scopes": [7]}, []]
    for malformed in bodies:
        assert ask_azd(broker, malformed).json()["status"] == "error"
    url = broker.environment["AZD_AUTH_ENDPOINT"] + "/token"
    key = {"Authorization": f"Bearer {broker.environment['AZD_AUTH_KEY']}"}
    assert requests.post(url, "{", headers=key, timeout=10).json()["code"] == "GetTokenError"


def test_a_slash_at_the_end_of_the_path_makes_no_difference(broker: CloudShellBroker) -> None:
    variables = broker.environment
    for name in ("MSI_ENDPOINT", "ARM_MSI_ENDPOINT"):
        reply = requests.get(variables[name] + "/", {"resource": ARM}, headers=METADATA, timeout=10)
        assert reply.json()["access_token"] == CANARY
    headers = {"X-IDENTITY-HEADER": variables["IDENTITY_HEADER"]}
    reply = requests.get(variables["IDENTITY_ENDPOINT"] + "/?resource=" + ARM, headers=headers, timeout=10)
    assert reply.json()["access_token"] == CANARY


@pytest.mark.parametrize("count", [150, 3000])
def test_many_fields_are_answered(broker: CloudShellBroker, count: int) -> None:
    fields = {**{f"f{index}": "x" for index in range(count)}, "resource": ARM}
    url = broker.environment["MSI_ENDPOINT"]
    assert requests.get(url, fields, headers=METADATA, timeout=10).json()["access_token"] == CANARY
    assert requests.post(url, fields, headers=METADATA, timeout=10).json()["access_token"] == CANARY


class TestAllow:
    """Least authority: the resources it was told to serve, in any spelling, and no other."""

    @pytest.fixture
    def limited(self, given: Given) -> Iterator[CloudShellBroker]:
        with CloudShellBroker(given, allow=["vault", "https://search.azure.com"]) as broker:
            yield broker

    def test_what_is_allowed_is_served_in_every_spelling(self, limited: CloudShellBroker) -> None:
        for resource in ("https://vault.azure.net", "https://vault.azure.net/", "HTTPS://SEARCH.azure.com/"):
            assert ask(limited, resource).json()["access_token"] == CANARY
        vault = audiences.lookup("https://vault.azure.net")
        assert vault is not None
        for identifier in vault.identifiers:
            assert ask(limited, identifier).json()["access_token"] == CANARY
        assert ask_azd(limited, {"scopes": ["https://vault.azure.net/.default"]}).json()["token"] == CANARY

    def test_everything_else_is_refused_in_the_protocols_own_form(
        self, limited: CloudShellBroker, given: Given, log: Everything
    ) -> None:
        assert ask(limited).json()["error"]["code"] == "AudienceNotSupported"
        assert ask_app_service(limited).json()["statusCode"] == 400
        assert ask_azd(limited, {"scopes": [f"{ARM}/.default"]}).json()["status"] == "error"
        assert given.scopes == []
        assert sum("refused, not one of the resources that are allowed" in line for line in log.lines) == 3

    def test_what_is_judged_is_what_is_asked_for(self, given: Given) -> None:
        # A permission is no part of the resource. azure-identity's AzureCliCredential takes it for one.
        with CloudShellBroker(given, allow=["https://my.example/api"]) as limited:
            assert ask_azd(limited, {"scopes": ["https://my.example/api"]}).json()["status"] == "error"
            assert given.scopes == []
            assert ask_azd(limited, {"scopes": ["https://my.example/api/.default"]}).json()["token"] == CANARY
            assert ask(limited, "https://my.example/api").json()["access_token"] == CANARY
        assert given.scopes == ["https://my.example/api/.default"]
        with CloudShellBroker(given, allow=["https://my.example"]) as limited:
            assert ask_azd(limited, {"scopes": ["https://my.example/api"]}).json()["token"] == CANARY
            assert ask(limited, "https://my.example/api").json()["error"]["code"] == "AudienceNotSupported"
        assert given.scopes[1:] == ["https://my.example/.default"]

    def test_an_unknown_name_is_an_error_with_a_suggestion(self) -> None:
        with pytest.raises(ValueError, match=r"'vualt' is not a known resource\. Did you mean 'vault'"):
            CloudShellBroker(allow=["vualt"])


def test_a_resource_that_is_refused_is_a_warning_once(
    broker: CloudShellBroker, given: Given, caplog: pytest.LogCaptureFixture
) -> None:
    given.outcome = ClientAuthenticationError("nobody is\nsigned in, eyJhbGciOiJub25lIn0.eyJhIjoxfQ.")
    for resource in (ARM, f"{ARM}/", SEARCH, ARM):
        ask(broker, resource)
        ask_app_service(broker, resource)
    ask_azd(broker, {"scopes": [f"{ARM}/.default"]})
    logged = [(record.levelname, record.message) for record in caplog.records if record.name.endswith("._broker")]
    warnings = [message for level, message in logged if level == "WARNING"]
    assert [message.partition(", ")[0] for message in warnings] == [f"{ARM}: refused", f"{SEARCH}: refused"]
    assert all("nobody is signed in, [redacted]" in message for message in warnings)
    assert logged.count(("INFO", f"{ARM}: refused, invalid_request")) == 4


class TestFailures:
    """In the protocol's own form, with Cloud Shell's own code, and redacted."""

    def failing(self, protocol: str, error: Exception) -> tuple[int, Any]:
        with CloudShellBroker(Given(error)) as broker:
            if protocol == "cloud-shell":
                reply = ask(broker)
            elif protocol == "app-service":
                reply = ask_app_service(broker)
            else:
                reply = ask_azd(broker, {"scopes": [f"{ARM}/.default"]})
        return reply.status_code, reply.json()

    @pytest.mark.parametrize("protocol", PROTOCOLS)
    def test_what_the_credentials_said_is_passed_on_in_one_line(self, protocol: str) -> None:
        message = (
            "Chain failed\nAttempted credentials:\n\tEnvironmentCredential: Not fully configured.\n"
            "\tAzureCliCredential: ERROR eyJhbGciOiJub25lIn0.eyJhIjoxfQ. here"
        )
        status, content = self.failing(protocol, ClientAuthenticationError(message=message))
        assert status == (200 if protocol == "azd" else 400)
        text = content["error"]["message"] if protocol == "cloud-shell" else content["message"]
        assert "AzureCliCredential: ERROR [redacted] here." in text
        assert "EnvironmentCredential" not in text
        assert "\n" not in text

    @pytest.mark.parametrize("protocol", PROTOCOLS)
    @pytest.mark.parametrize("error", [RuntimeError(f"odd {'x' * 60}"), ValueError(), KeyError("k")])
    def test_an_unforeseen_error_is_never_an_empty_500(self, protocol: str, error: Exception) -> None:
        status, content = self.failing(protocol, error)
        assert status == (200 if protocol == "azd" else 400)
        assert type(error).__name__ in json.dumps(content)
        assert "x" * 60 not in json.dumps(content)

    def test_a_request_without_its_header_or_its_resource(self, broker: CloudShellBroker) -> None:
        url = broker.environment["MSI_ENDPOINT"]
        assert requests.post(url, {"resource": ARM}, timeout=10).json()["error"]["code"] == "bad_request_102"
        assert requests.post(url, headers=METADATA, timeout=10).json()["error"]["code"] == "invalid_request"

    def test_what_is_no_resource_is_told_in_the_protocols_own_form(
        self, broker: CloudShellBroker, given: Given
    ) -> None:
        said = "A resource is a URI or an application id, such as https://vault.azure.net."
        assert ask(broker, "vault").json() == {"error": {"code": "invalid_request", "message": said}}
        assert ask_app_service(broker, "vault").json() == {"statusCode": 400, "message": f"invalid_request: {said}"}
        reply = ask_azd(broker, {"scopes": ["vault/.default"]}).json()
        assert reply["message"].startswith("invalid_request: 'vault/.default' is not a scope: use https://")
        assert given.scopes == []

    def test_app_services_secret_is_needed(self, broker: CloudShellBroker, given: Given) -> None:
        url = broker.environment["IDENTITY_ENDPOINT"]
        key = broker.environment["AZD_AUTH_KEY"]
        for headers in ({}, {"X-IDENTITY-HEADER": "x"}, {"Secret": ""}, METADATA, {"X-IDENTITY-HEADER": key}):
            assert requests.get(url, {"resource": ARM}, headers=headers, timeout=10).status_code == 404
        assert given.scopes == []

    @pytest.mark.parametrize("more", [{"Origin": "http://x"}, {"Via": "x"}, {"Host": "evil.example"}])
    def test_who_does_not_know_a_secret_is_told_nothing_else_either(
        self, broker: CloudShellBroker, more: dict[str, str]
    ) -> None:
        for path in ("/msi/token", "/token", "/oauth2/token"):
            reply = requests.get(f"http://127.0.0.1:{broker.port}{path}", headers={**METADATA, **more}, timeout=10)
            assert (reply.status_code, reply.json()["error"]["code"]) == (404, "NotFound"), path

    def test_each_refusal_leaves_a_line(self, broker: CloudShellBroker, log: Everything) -> None:
        url = broker.environment["MSI_ENDPOINT"]
        requests.post(url + "x", timeout=10)
        requests.post(url, headers={**METADATA, "Via": "1.1 proxy"}, timeout=10)
        requests.post(url, {"resource": ARM}, timeout=10)
        requests.get(broker.environment["IDENTITY_ENDPOINT"], {"resource": ARM}, timeout=10)
        requests.post(url, {"resource": "a b"}, headers=METADATA, timeout=10)
        with socket.create_connection(("127.0.0.1", broker.port), 5) as connection:
            connection.sendall(b"nonsense\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 400")
        ours = [line for line in log.lines if "was refused with" in line]
        assert [line.split("refused with ")[1][:3] for line in ours] == ["404", "403", "400", "404", "400", "400"]


class TestStrangers:
    def test_a_guess_at_the_path_is_not_found(self, broker: CloudShellBroker, given: Given) -> None:
        url = broker.environment["MSI_ENDPOINT"]
        secret = url.split("/")[3]
        assert len(secret) >= 43
        origin = f"http://127.0.0.1:{broker.port}"
        guesses = [
            "",
            "/x",
            f"/{secret[:-1]}",
            f"/{secret[:-1]}x",
            f"/{secret}x",
        ]
        for guess in guesses:
            reply = requests.post(f"{origin}{guess}/oauth2/token", {"resource": ARM}, headers=METADATA, timeout=10)
            assert (reply.status_code, reply.json()["error"]["code"]) == (404, "NotFound"), guess
        assert given.scopes == []

    def test_three_secrets_are_new_each_time(self) -> None:
        secrets = [secret for _ in range(50) for secret in CloudShellBroker(Given())._secrets]
        assert len(set(secrets)) == 150
        assert all(len(secret) * 4 >= 128 for secret in secrets)

    def test_none_of_them_opens_what_another_does(self, broker: CloudShellBroker, given: Given) -> None:
        path, header, key = broker._secrets
        for other in (header, key):
            url = broker.environment["MSI_ENDPOINT"].replace(path, other)
            assert requests.post(url, {"resource": ARM}, headers=METADATA, timeout=10).status_code == 404
        for other in (path, header):
            assert ask_azd(broker, {"scopes": [ARM]}, other).status_code == 404
        # A URL from somebody's error text opens nothing but its own form.
        for known, form in (("IDENTITY_ENDPOINT", "oauth2/token"), ("MSI_ENDPOINT", "msi/token")):
            url = f"{broker.environment[known].removesuffix('msi/token').removesuffix('oauth2/token')}{form}"
            for headers in (METADATA, {}, {"X-IDENTITY-HEADER": path}):
                assert requests.get(url, {"resource": ARM}, headers=headers, timeout=10).status_code == 404
        assert given.scopes == []

    def test_it_is_compared_in_constant_time(self, broker: CloudShellBroker, mocker: Any) -> None:
        compare = mocker.spy(__import__("hmac"), "compare_digest")
        requests.get(f"http://localhost:{broker.port}/{'x' * 64}/oauth2/token", timeout=10)
        assert compare.call_count >= 1

    @pytest.mark.parametrize(
        "headers",
        [
            {"Host": "evil.example"},
            {"Host": "169.254.169.254"},
            {"Host": "localhost.evil.example"},
            {"Host": "localhost/x.evil.example"},
            {"Host": "localhost?x.evil.example"},
            {"Host": "localhost@evil.example"},
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Sec-Fetch-Site": "cross-site"},
            {"X-Forwarded-For": "10.0.0.1"},
            {"X-Forwarded-Host": "localhost"},
            {"X-Forwarded-Anything": "x"},
            {"X-Real-IP": "10.0.0.1"},
            {"Via": "1.1 proxy"},
            {"Forwarded": "for=10.0.0.1"},
        ],
    )
    def test_browsers_rebound_names_and_proxies_are_refused(
        self, broker: CloudShellBroker, given: Given, headers: dict[str, str]
    ) -> None:
        assert ask(broker, **headers).status_code == 403
        assert given.scopes == []

    @pytest.mark.parametrize(
        ("path", "headers", "status"),
        [
            ("/x", "", 404),
            ("/msi/token?resource=x", "", 404),
            ("{prefix}/oauth2/token?resource=x", "Origin: https://evil.example\r\n", 403),
            ("{prefix}/oauth2/token?resource=x", "", 400),
        ],
    )
    def test_a_refused_request_is_the_last_of_its_connection(
        self, broker: CloudShellBroker, path: str, headers: str, status: int
    ) -> None:
        request = f"GET {path.format(prefix=broker._prefix)} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n"
        with socket.create_connection(("127.0.0.1", broker.port), 10) as connection:
            connection.sendall(request.encode())
            received = b""
            while part := connection.recv(65536):
                received += part
        assert received.startswith(f"HTTP/1.1 {status} ".encode())
        assert b"\r\nConnection: close\r\n" in received

    @pytest.mark.parametrize(
        ("host", "status"),
        [("127.0.0.1:{port}", 200), ("localhost:{port}", 200), ("evil.example:{port}", 403), ("169.254.169.254", 403)],
    )
    def test_a_target_that_names_the_host_is_served_if_it_is_this_one(
        self, broker: CloudShellBroker, host: str, status: int
    ) -> None:
        # As DuckDB's Azure extension sends it where HTTP_PROXY is set.
        host = host.format(port=broker.port)
        path = broker.environment["MSI_ENDPOINT"].partition(str(broker.port))[2]
        request = f"GET http://{host}{path}?resource={ARM} HTTP/1.1\r\nHost: {host}\r\nMetadata: true\r\n"
        with socket.create_connection(("127.0.0.1", broker.port), 10) as connection:
            connection.sendall(f"{request}Connection: close\r\n\r\n".encode())
            received = b""
            while part := connection.recv(65536):
                received += part
        assert received.startswith(f"HTTP/1.1 {status} ".encode())
        assert (CANARY.encode() in received) == (status == 200)

    def test_only_asking_for_a_token_is_served(self, broker: CloudShellBroker) -> None:
        url = broker.environment["MSI_ENDPOINT"]
        for method in ("PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE"):
            assert requests.request(method, url, headers=METADATA, timeout=10).status_code == 404
        assert requests.get(url.rsplit("/", 2)[0] + "/", headers=METADATA, timeout=10).status_code == 404

    def test_it_listens_on_loopback_only(self, broker: CloudShellBroker) -> None:
        assert [listener.getsockname()[0] for listener in broker._server.listeners] == ["127.0.0.1"]

    def test_nothing_shows_the_secret_or_a_token(self, broker: CloudShellBroker, log: Everything) -> None:
        logging.getLogger("azure_cloudshell_credential.broker").setLevel(logging.DEBUG)
        ask(broker)
        ask(broker, SEARCH)
        shown = [*log.lines, repr(broker), str(broker)]
        assert any("management.azure.com: a token of an unnamed user, valid for" in line for line in log.lines)
        # Loggers of the clients name the URL that they ask; the broker's own say nothing of it.
        ours = [line for line in shown if not line.startswith(("urllib3", "asyncio"))]
        assert not [line for line in ours if CANARY in line or any(secret in line for secret in broker._secrets)]
        with pytest.raises((TypeError, pickle.PicklingError)):
            pickle.dumps(broker)


HEAD = b"POST {path} HTTP/1.1\r\n"
GOOD = b"Host: localhost\r\nMetadata: true\r\nContent-Type: application/x-www-form-urlencoded\r\n"
FORM = b"resource=https%3A%2F%2Fmanagement.azure.com"
LENGTH = b"Content-Length: %d\r\n" % len(FORM)
METHODS = (b"POST", b"GET", b"PUT", b"get", b"PO ST", b"P\x00ST", b"", b"POST\t", b"CONNECT", b"PRI")
VERSIONS = (b"HTTP/1.1", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.1 x", b"HTTP/11", b"HTTP/1.", b"http/1.1", b"ICY", b"")
TARGETS = (
    b"",
    b"*",
    b"http://evil.example/",
    b"//evil.example/",
    b"/../oauth2/token",
    b"/%2e%2e/oauth2/token",
    b"/oauth2/token",
    b"/oauth2/token\x00",
    b"/\xff",
    b"/" + b"a" * 70_000,
    b"/a b",
)
HEADERS = (
    b"Host: localhost\r\nHost: evil.example\r\n",
    b"Host : localhost\r\n",
    b" Host: localhost\r\n",
    b"Host: localhost\r\n folded: x\r\n",
    b"Host localhost\r\n",
    b": x\r\n",
    b"Host: localhost\x00\r\n",
    b"Content-Length: -1\r\n",
    b"Content-Length: 1e3\r\n",
    b"Content-Length: +5\r\n",
    b"Content-Length: 99999999999\r\n",
    b"Content-Length: 5\r\nContent-Length: 6\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Transfer-Encoding: \x0bchunked\r\n",
    b"Transfer-Encoding : chunked\r\n",
    b"X: y\rTransfer-Encoding: chunked\r\n",
    b"X: y\nTransfer-Encoding: chunked\r\n",
    b"Expect: 100-continue\r\n",
    b"Expect: nonsense\r\n",
    b"X: " + b"y" * 70_000 + b"\r\n",
    b"".join(b"X%d: y\r\n" % index for index in range(300)),
    b"\x00\r\n",
    b"\r\n",
    b"M\xc3\xa9tadata: true\r\n",
)
BODIES = (
    b"",
    FORM[:5],
    b"resource=",
    b"resource=%00%0d%0a",
    b"&" * 5000,
    b"a=b&" * 500,
    b"\xff" * 100,
    b"{}",
    FORM * 2000,
)


def hostile() -> Iterator[bytes]:
    """Requests that no client sends: none of them may get a token, or keep the broker from its work."""
    for method in METHODS:
        for version in VERSIONS:
            yield method + b" /oauth2/token " + version + b"\r\n" + GOOD + LENGTH + b"\r\n" + FORM
    for target in TARGETS:
        yield b"POST " + target + b" HTTP/1.1\r\n" + GOOD + LENGTH + b"\r\n" + FORM
    for header in HEADERS:
        yield HEAD + header + b"\r\n" + FORM
        yield HEAD + GOOD.replace(b"Host: localhost\r\n", header) + LENGTH + b"\r\n" + FORM
        yield HEAD + header
    for body in BODIES:
        yield HEAD + GOOD + b"Content-Length: %d\r\n\r\n" % len(body) + body
    for cut in range(1, 80, 4):
        yield (HEAD + GOOD + LENGTH + b"\r\n" + FORM)[:cut]


def test_hostile_requests_get_no_token_and_harm_nobody(broker: CloudShellBroker, given: Given) -> None:
    path = broker.environment["MSI_ENDPOINT"].partition(str(broker.port))[2].encode()
    sent = 0
    for index, request in enumerate(hostile()):
        sent += 1
        # Half of them know the secret.
        data = request.replace(b"{path}", path if index % 2 else b"/oauth2/token")
        with socket.create_connection(("127.0.0.1", broker.port), 5) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            reply = b""
            try:
                while received := connection.recv(65536):
                    reply += received
            except ConnectionResetError:
                pass
        assert CANARY.encode() not in reply or is_valid(data), data[:200]
        assert b"Traceback" not in reply
    assert sent >= 186
    assert ask(broker).json()["access_token"] == CANARY


def is_valid(data: bytes) -> bool:
    """A request that knows the secret and is well formed after all: an unusual one may be answered."""
    return data.startswith(b"POST /") and b"Metadata: true" in data and FORM in data


def test_a_hundred_askers_cost_one_request(in_cloud_shell: CloudShellEmulator) -> None:
    in_cloud_shell.latency = 0.1
    with CloudShellBroker(DefaultCloudShellCredential()) as broker:
        replies = in_threads(100, lambda _: ask(broker).json()["access_token"])
    assert len(set(replies)) == 1
    assert len(in_cloud_shell.requests) == 1


def test_the_default_credential_is_the_default_chain(in_cloud_shell: CloudShellEmulator, fake_az: str) -> None:
    in_cloud_shell.deny("search")
    with CloudShellBroker() as broker:
        assert ask(broker).json()["access_token"] == in_cloud_shell.issue(ARM)[0]
        assert ask(broker, SEARCH).json()["access_token"] == fake_az
        assert broker.get_token(f"{SEARCH}/.default")[0] == fake_az


class TestNobodyHasAToken:
    """What a person reads then: Cloud Shell's reason, az's, and what to do; in one line, and nothing that misleads."""

    forms: tuple[Callable[[CloudShellBroker], requests.Response], ...] = (
        lambda broker: ask(broker, SEARCH),
        lambda broker: ask_app_service(broker, SEARCH),
        lambda broker: ask_azd(broker, {"scopes": [SEARCH]}),
    )
    MISLEADING = (
        "This is not",
        "neither MSI_ENDPOINT",
        "azure-identity-broker",
        "azure-cloudshell run",
        "EnvironmentC",
    )

    def check(self, broker: CloudShellBroker, code: str, *said: str) -> None:
        for form in self.forms:
            content = form(broker).json()
            text = content["error"]["code"] + content["error"]["message"] if "error" in content else content["message"]
            assert text.startswith(code)
            assert not [each for each in said if each not in text]
            assert not [each for each in (*self.MISLEADING, "\n") if each in text], text

    def test_in_cloud_shell(self, in_cloud_shell: CloudShellEmulator, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", os.devnull)
        with CloudShellBroker() as broker:
            self.check(broker, "AudienceNotSupported", "Cloud Shell does not issue tokens for", "Azure CLI not found")
            with pytest.raises(ClientAuthenticationError, match="No credential has a token"):
                broker.get_token(f"{SEARCH}/.default")

    def test_elsewhere(self, fake_az: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        # Each takes as long as azure-identity looks for a virtual machine.
        monkeypatch.setattr(self, "forms", self.forms[:1])
        (tmp_path / "bin" / "az").write_text(
            "#!/bin/sh\necho \"ERROR: Please run 'az login' to setup account.\" >&2; exit 1\n"
        )
        with CloudShellBroker() as broker:
            self.check(broker, "invalid_request", "Please run 'az login'")

    def test_an_az_that_takes_too_long(
        self, in_cloud_shell: CloudShellEmulator, fake_az: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "bin" / "az").write_text("#!/bin/sh\nexec sleep 30\n")
        monkeypatch.setattr(default_chain, "PROCESS_TIMEOUT", 1)
        in_cloud_shell.deny("search")
        with CloudShellBroker() as broker:
            self.check(broker, "AudienceNotSupported", "the Azure CLI did not answer in time")


def test_a_broker_does_not_ask_itself(fake_az: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with CloudShellBroker() as broker:
        for name, value in broker.environment.items():
            monkeypatch.setenv(name, value)
        start = time.monotonic()
        assert ask(broker).json()["access_token"] == fake_az
        assert time.monotonic() - start < 5


@pytest.mark.parametrize("host", ["LOCALHOST", "[::1]"])
@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("", "/oauth2/token"),
        ("MSI_ENDPOINT", "/oauth2/token"),
        ("IDENTITY_ENDPOINT", "/msi/token"),
        ("AZURE_POD_IDENTITY_AUTHORITY_HOST", ""),
    ],
)
def test_nor_does_one_that_is_found_in_another_way(
    fake_az: str, monkeypatch: pytest.MonkeyPatch, name: str, path: str, host: str
) -> None:
    with CloudShellBroker(path_secret=False) as broker:
        if name == "IDENTITY_ENDPOINT":
            monkeypatch.setenv("IDENTITY_HEADER", broker.environment["IDENTITY_HEADER"])
        if name:
            monkeypatch.setenv(name, f"http://{host}:{broker.port}{path}")
        else:
            # As in Cloud Shell's image elsewhere.
            monkeypatch.setenv("ACC_CLOUD", "PROD")
            monkeypatch.setattr(environment, "DEFAULT_ENDPOINT", f"http://{host}:{broker.port}{path}")
        assert ask(broker).json()["access_token"] == fake_az


@pytest.mark.parametrize("url", ["http://localhost:1/", "http://192.0.2.1:{port}/", "http://[", "", "x"])
def test_another_address_is_not_its_own(broker: CloudShellBroker, url: str) -> None:
    assert not broker._is_ours(url.format(port=broker.port))


def test_one_inside_another_asks_the_outer_one(
    in_cloud_shell: CloudShellEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    with CloudShellBroker() as outer:
        assert ask(outer).status_code == 200
        monkeypatch.setenv("MSI_ENDPOINT", outer.environment["MSI_ENDPOINT"])
        with CloudShellBroker() as inner:
            assert ask(inner).json()["access_token"] == in_cloud_shell.issue(ARM)[0]
    assert len(in_cloud_shell.requests) == 1


def test_an_endpoint_of_ones_own_is_asked_again_beside_a_broker(
    broker: CloudShellBroker, shell: CloudShellEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in broker.environment.items():
        monkeypatch.setenv(name, value)
    shell.script(faults.portal_timeout())
    assert CloudShellCredential(endpoint=shell.endpoint, retry_backoff_factor=0.01).get_token(f"{ARM}/.default").token


def test_it_serves_asynchronous_code(given: Given) -> None:
    async def main() -> str:
        async with CloudShellBroker(given) as broker:
            reply = await asyncio.to_thread(ask, broker)
            return str(reply.json()["access_token"])

    assert asyncio.run(main()) == CANARY


def test_a_hanging_credential_does_not_keep_it_from_stopping() -> None:
    release = Event()

    class Hanging(Given):
        def get_token(self, *scopes: str, **options: Any) -> AccessToken:
            self.scopes += scopes
            release.wait(20)
            return super().get_token(*scopes)

    credential = Hanging()
    broker = CloudShellBroker(credential).start()
    connection = socket.create_connection(("127.0.0.1", broker.port))
    path = broker.environment["MSI_ENDPOINT"].partition(str(broker.port))[2].encode()
    connection.sendall(HEAD.replace(b"{path}", path) + GOOD + LENGTH + b"\r\n" + FORM)
    while not credential.scopes:
        time.sleep(0.01)
    start = time.monotonic()
    broker.stop()
    assert time.monotonic() - start < 2
    connection.close()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", broker.port), 2)
    release.set()


def test_what_it_cannot_be_made_with() -> None:
    with pytest.raises(TypeError, match="str is not a credential"):
        CloudShellBroker("token")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="is asynchronous: a synchronous credential is needed"):
        CloudShellBroker(aio.ManagedIdentityCredential())
    for wildcard in ("0.0.0.0", "::", "0:0::0"):
        with pytest.raises(ValueError, match="name the one that the programs are to ask"):
            CloudShellBroker(listen=wildcard)
    for name in ("localhost", "eth0", "172.17.0.1:80", "", "0"):
        with pytest.raises(ValueError, match="is not an IP address of this machine"):
            CloudShellBroker(listen=name)
    for address in ("224.0.0.1", "ff02::1", "255.255.255.255"):
        with pytest.raises(ValueError, match="is an address of many machines: name one of this machine"):
            CloudShellBroker(listen=address)
    for name in ("http://x/", "x:80", "x\nA=b", "x\n", "a=b", "a b", "", "-x", "x,y"):
        with pytest.raises(ValueError, match="is not a host name such as"):
            CloudShellBroker(host_names=[name])
    with pytest.raises(ValueError, match=r"on this machine only, not on 172\.17\.0\.1"):
        CloudShellBroker(listen="172.17.0.1", path_secret=False)


def test_a_thousand_requests_leave_nothing_behind(broker: CloudShellBroker) -> None:
    from .soak import open_files

    with requests.Session() as session:
        session.headers.update(METADATA)
        before = open_files()
        for _ in range(1000):
            assert session.post(broker.environment["MSI_ENDPOINT"], {"resource": ARM}, timeout=10).status_code == 200
    assert open_files() - before < 10


class TestOurOwnCredentials:
    """CloudShellCredential and the chain in a program that was led to the broker."""

    @pytest.fixture
    def led(self, broker: CloudShellBroker, monkeypatch: pytest.MonkeyPatch) -> CloudShellBroker:
        for name, value in broker.environment.items():
            monkeypatch.setenv(name, value)
        # As in Cloud Shell itself.
        monkeypatch.setenv("AZUREPS_HOST_ENVIRONMENT", "cloud-shell/1.0")
        return broker

    def test_they_ask_the_broker(self, led: CloudShellBroker, given: Given) -> None:
        assert (
            CloudShellCredential().get_token(f"{ARM}/.default").token
            == DefaultCloudShellCredential().get_token(f"{ARM}/.default").token
        )
        assert len(given.scopes) == 1

    def test_they_leave_it_to_the_broker_to_ask_again(self, led: CloudShellBroker, given: Given) -> None:
        given.outcome = ClientAuthenticationError("nobody is signed in")
        with pytest.raises(ClientAuthenticationError, match="nobody is signed in"):
            CloudShellCredential().get_token(f"{ARM}/.default")
        assert len(given.scopes) == 1
        with pytest.raises(ClientAuthenticationError, match="nobody is signed in"):
            CloudShellCredential(retry_total=1, retry_backoff_factor=0).get_token(f"{ARM}/.default")
        assert len(given.scopes) == 3

    def test_they_log_no_secret_of_it(self, led: CloudShellBroker, log: Everything) -> None:
        CloudShellCredential(logging_enable=True).get_token(f"{ARM}/.default")
        DefaultCloudShellCredential(logging_enable=True).get_token(f"{ARM}/.default")
        assert not [
            line for line in log.lines if led._secrets.path in line and not line.startswith(("urllib3", "asyncio"))
        ]
