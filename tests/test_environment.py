"""Where the endpoint is, and that finding out never raises, connects or leaves the machine."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from azure_cloudshell_credential import CloudShellCredential
from azure_cloudshell_credential._endpoint.environment import (
    DEFAULT_ENDPOINT,
    Endpoint,
    Environment,
    is_led_to_a_broker,
)
from azure_cloudshell_credential.aio import CloudShellCredential as AsyncCloudShellCredential

OTHER = "http://127.0.0.1:4242/oauth2/token"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"MSI_ENDPOINT": OTHER}, OTHER),
        ({"MSI_ENDPOINT": OTHER, "ACC_CLOUD": "PROD"}, OTHER),
        ({"MSI_ENDPOINT": ""}, None),
        ({"MSI_ENDPOINT": OTHER, "MSI_SECRET": "s"}, None),
        ({"MSI_ENDPOINT": OTHER, "IDENTITY_ENDPOINT": "http://x"}, None),
        ({"MSI_ENDPOINT": OTHER, "MSI_SECRET": "s", "ACC_CLOUD": "PROD"}, DEFAULT_ENDPOINT),
        ({"AZUREPS_HOST_ENVIRONMENT": "cloud-shell/1.0"}, DEFAULT_ENDPOINT),
        ({"AZUREPS_HOST_ENVIRONMENT": "ADO"}, None),
        ({"ACC_CLOUD": "Fairfax"}, DEFAULT_ENDPOINT),
        ({"AZD_IN_CLOUDSHELL": "1"}, DEFAULT_ENDPOINT),
        ({"AZD_IN_CLOUDSHELL": "True"}, DEFAULT_ENDPOINT),
        ({"AZD_IN_CLOUDSHELL": "T"}, DEFAULT_ENDPOINT),
        ({"AZD_IN_CLOUDSHELL": "0"}, None),
        ({"POWERSHELL_DISTRIBUTION_CHANNEL": "CloudShell"}, DEFAULT_ENDPOINT),
        ({"POWERSHELL_DISTRIBUTION_CHANNEL": "PSDocker"}, None),
        ({"ACC_TID": "t"}, None),
    ],
)
def test_the_endpoint_is_where_the_environment_says(environ: dict[str, str], expected: str | None) -> None:
    endpoint = Environment(environ).endpoint
    assert (endpoint.url if endpoint else None) == expected


def test_an_explicit_endpoint_comes_first() -> None:
    endpoint = Environment({"MSI_ENDPOINT": "http://localhost:1/"}, OTHER).endpoint
    assert endpoint is not None
    assert (endpoint.url, endpoint.host, endpoint.port, endpoint.target) == (OTHER, "127.0.0.1", 4242, "/oauth2/token")


@pytest.mark.parametrize(
    ("environ", "endpoint"),
    [
        ({}, None),
        ({"MSI_ENDPOINT": OTHER}, None),
        ({"MSI_ENDPOINT": "https://elsewhere.example"}, None),
        ({}, OTHER),
    ],
)
def test_tenant_and_cloud_are_read(environ: dict[str, str], endpoint: str | None) -> None:
    environment = Environment({**environ, "ACC_TID": "t", "ACC_CLOUD": "Fairfax"}, endpoint)
    assert (environment.tenant_id, environment.cloud) == ("t", "Fairfax")
    environment = Environment({**environ, "ACC_TID": "t"}, endpoint)
    assert (environment.tenant_id, environment.cloud) == ("t", None)


EXPLANATION = (
    "it must be a loopback URL like http://localhost:50342/oauth2/token, so that no token request leaves this machine."
)


def test_a_wrong_endpoint_is_explained() -> None:
    with pytest.raises(ValueError, match="^" + re.escape(EXPLANATION.replace("it must", "The endpoint must")) + "$"):
        Endpoint("http://elsewhere.example/")
    assert Environment({"MSI_ENDPOINT": "x"}).refusal == f"MSI_ENDPOINT is not Cloud Shell's: {EXPLANATION}"


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:1/",
        "http://LOCALHOST/token",
        "http://127.0.0.1:50342/oauth2/token",
        "http://127.8.9.255:1/",
        "http://[::1]:50342/oauth2/token",
        "http://localhost:50342/oauth2/token?x=y",
    ],
)
def test_loopback_urls_are_accepted(url: str) -> None:
    assert Endpoint(url).url == url


@pytest.mark.parametrize(
    ("url", "authority", "target"),
    [
        ("http://[::1]:1/a?b=c", "[::1]:1", "/a?b=c"),
        ("http://localhost", "localhost:80", "/"),
        ("http://localhost?a", "localhost:80", "/?a"),
        ("http://localhost:65535/", "localhost:65535", "/"),
        ("http://127.0.0.1:8/x", "127.0.0.1:8", "/x"),
        ("http://[::1]", "[::1]:80", "/"),
        ("http://localhost?a=/b?c", "localhost:80", "/?a=/b?c"),
        ("http://localhost:1/?a=http://x/", "localhost:1", "/?a=http://x/"),
        ("http://localhost:00080/", "localhost:80", "/"),
        ("HTTP://Localhost:1", "Localhost:1", "/"),
    ],
)
def test_an_endpoint_knows_its_authority_and_target(url: str, authority: str, target: str) -> None:
    assert (Endpoint(url).authority, Endpoint(url).target) == (authority, target)


NOT_LOOPBACK = [
    "",
    "not a url",
    "localhost:50342",
    "https://localhost:50342/",
    "ftp://localhost/",
    "http://",
    "http:///token",
    "http://?x",
    "http://[::1]:/",
    "http://[::1]x/",
    "http://localhost:000080/",
    "http://localhost/a b",
    "http://localhost/a\x7f",
    "http://localhost/\u00e9",
    "http://localhost/#a",
    "http://127.0.0.01/",
    "http://127.0.0.0x1/",
    "http://169.254.169.254/metadata/identity/oauth2/token",
    "http://localhost.evil.example/",
    "http://127.0.0.1.evil.example/",
    "http://127.0.0.1@evil.example/",
    "http://localhost@evil.example/",
    "http://user:password@localhost/",
    "http://127.1/",
    "http://127.0.0.256/",
    "http://0.0.0.0/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://[::]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::1/",
    "http://localhost:99999/",
    "http://localhost:65536/",
    "http://localhost:0/",
    "http://localhost:/",
    "http://localhost/#fragment",
    "http://localhost:80:80/",
    "http://localhost:x/",
    "http://local\thost/",
    "http://localhost/\r\nX-Injected: 1",
    "http://localhost\\@evil.example/",
    "http://host.docker.internal/",
    "http://localho\u017ft/",
]


@pytest.mark.parametrize("url", NOT_LOOPBACK)
def test_anything_else_is_a_value_error(url: str) -> None:
    with pytest.raises(ValueError, match="The endpoint must be a loopback URL"):
        CloudShellCredential(endpoint=url)


def test_an_endpoint_that_is_not_a_string_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="The endpoint must be a loopback URL"):
        CloudShellCredential(endpoint=42)  # type: ignore[arg-type]


@pytest.mark.parametrize("url", [url for url in NOT_LOOPBACK if url])
def test_in_the_environment_it_is_refused_without_asking(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from azure.identity import CredentialUnavailableError

    monkeypatch.setenv("MSI_ENDPOINT", url)
    monkeypatch.setenv("ACC_CLOUD", "PROD")
    with pytest.raises(CredentialUnavailableError, match="MSI_ENDPOINT is not Cloud Shell's") as raised:
        CloudShellCredential().get_token("https://management.azure.com/.default")
    assert "evil" not in raised.value.message
    assert "user:" not in raised.value.message


LED = {
    **dict.fromkeys(("MSI_ENDPOINT", "ARM_MSI_ENDPOINT"), "http://127.0.0.1:1/s/oauth2/token"),
    **dict.fromkeys(("IDENTITY_ENDPOINT", "AZURE_MSI_ENDPOINT"), "http://127.0.0.1:1/msi/token"),
}


@pytest.mark.parametrize(
    ("environ", "is_led"),
    [
        ({}, False),
        (LED, True),
        *(({**LED, name: "http://127.0.0.1:2/"}, False) for name in LED),
        *(({other: LED[other] for other in LED if other != name}, False) for name in LED),
        (dict.fromkeys(LED, ""), False),
        # App Service's, with what object_store and Terraform need there.
        (dict.fromkeys(LED, "http://127.0.0.1:1/msi/token"), False),
    ],
)
def test_only_two_pairs_of_alike_variables_lead_to_a_broker(environ: dict[str, str], is_led: bool) -> None:
    assert is_led_to_a_broker(environ) == is_led


@pytest.mark.parametrize(
    "environ",
    [
        {"AZUREPS_HOST_ENVIRONMENT": "my-cloud-shell/1"},
        {"AZD_IN_CLOUDSHELL": "0"},
        {"POWERSHELL_DISTRIBUTION_CHANNEL": "PSDocker CloudShell"},
        {"ACC_CLOUD": ""},
    ],
)
def test_other_values_mark_no_cloud_shell(environ: dict[str, str]) -> None:
    environment = Environment(environ)
    assert (environment.endpoint, environment.refusal, environment.other_host) == (None, None, None)


def test_neither_construction_nor_a_request_outside_cloud_shell_opens_a_socket(mocker: Any) -> None:
    from azure.identity import CredentialUnavailableError

    socket = mocker.patch("socket.socket", side_effect=AssertionError("a socket was opened"))
    with CloudShellCredential() as credential, pytest.raises(CredentialUnavailableError):
        credential.get_token("https://management.azure.com/.default")
    assert not socket.called


_TEXT = st.text(st.characters(exclude_characters="\x00", codec="utf-8"))


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "MSI_ENDPOINT",
                "MSI_SECRET",
                "IDENTITY_ENDPOINT",
                "ACC_CLOUD",
                "ACC_TID",
                "AZUREPS_HOST_ENVIRONMENT",
                "AZD_IN_CLOUDSHELL",
                "POWERSHELL_DISTRIBUTION_CHANNEL",
            ]
        ),
        st.one_of(_TEXT, st.sampled_from(NOT_LOOPBACK), _TEXT.map(lambda text: f"http://{text}")),
    )
)
def test_no_environment_makes_construction_raise(environ: dict[str, str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environ.items():
            patch.setenv(name, value)
        CloudShellCredential()
        AsyncCloudShellCredential()


@given(st.one_of(_TEXT, st.from_regex(r"http://[\w.:@\[\]-]{1,30}/.*")))
def test_an_accepted_endpoint_is_on_this_machine(url: str) -> None:
    try:
        endpoint = Endpoint(url)
    except ValueError:
        return
    assert endpoint.host.lower() in ("localhost", "::1") or endpoint.host.startswith("127.")
    assert "\r" not in endpoint.target
