"""Which subscription to work in, where nothing says so."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trio
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ServiceRequestError,
    ServiceResponseTimeoutError,
)

from azure_cloudshell_credential import CloudShellCredential, aio, default_subscription_id
from azure_cloudshell_credential._azure.subscription import first_enabled_subscription_id, known_subscription_id
from azure_cloudshell_credential._serving.messages import Request, Response, compact
from azure_cloudshell_credential.emulator import CloudShellEmulator, EmulatedAzure

from .conftest import ARM

PROFILE = {
    "subscriptions": [
        {"id": "other", "isDefault": False, "tenantId": "t"},
        {"id": "of-az", "isDefault": True, "tenantId": "t"},
    ]
}
STORAGE = json.dumps({"storageAccountResourceId": "/subscriptions/of-storage/resourceGroups/g/x", "diskSizeInGB": 5})


@pytest.fixture
def config(tmp_path: Path) -> Any:
    """Writes the profile of the Azure CLI, and returns the variable that points to it."""

    def write(profile: object, encoding: str = "utf-8-sig") -> dict[str, str]:
        text = profile if isinstance(profile, str) else json.dumps(profile)
        (tmp_path / "azureProfile.json").write_text(text, encoding=encoding)
        return {"AZURE_CONFIG_DIR": str(tmp_path)}

    return write


def test_the_first_that_is_known_is_taken(config: Any) -> None:
    everything = {"AZURE_SUBSCRIPTION_ID": "of-env", **config(PROFILE), "ACC_STORAGE_PROFILE": STORAGE}
    assert known_subscription_id(everything) == "of-env"
    del everything["AZURE_SUBSCRIPTION_ID"]
    assert known_subscription_id(everything) == "of-az"
    everything["AZURE_CONFIG_DIR"] = os.devnull
    assert known_subscription_id(everything) == "of-storage"
    del everything["ACC_STORAGE_PROFILE"]
    assert known_subscription_id(everything) is None


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_the_profile_may_have_a_byte_order_mark(config: Any, encoding: str) -> None:
    assert known_subscription_id(config(PROFILE, encoding)) == "of-az"


@pytest.mark.parametrize(
    "profile",
    [
        "",
        "not JSON",
        [],
        {},
        {"subscriptions": None},
        {"subscriptions": [None, {"isDefault": True}, {"isDefault": True, "id": 7}]},
        {"subscriptions": [{"isDefault": True, "id": "t", "tenantId": "t"}]},
    ],
)
def test_a_profile_without_a_default_says_nothing(config: Any, profile: object) -> None:
    assert known_subscription_id(config(profile)) is None


@pytest.mark.parametrize(
    "storage", ["", "x", "[]", "{}", '{"storageAccountResourceId": 7}', '{"storageAccountResourceId": "/x"}']
)
def test_a_storage_profile_without_an_account_says_nothing(storage: str) -> None:
    assert known_subscription_id({"ACC_STORAGE_PROFILE": storage, "AZURE_CONFIG_DIR": os.devnull}) is None


HERE = "https://management.azure.com/subscriptions"
REFUSED = {"error": {"code": "InvalidAuthenticationToken", "message": "No, eyJhbGciOiJub25lIn0.eyJhdWQiOiJ4In0.c2ln"}}


@pytest.fixture(params=["sync", "async"])
def listing(
    request: pytest.FixtureRequest, shell: CloudShellEmulator, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """Makes Resource Manager answer with pages, the last one again and again; what it returns asks for the id."""
    azure = EmulatedAzure(shell)
    asked: list[tuple[str, str]] = []

    def make(*pages: Any) -> Any:
        queue = list(pages)

        def respond(received: Request) -> Response:
            page = queue.pop(0) if len(queue) > 1 else queue[0]
            status, content = page if isinstance(page, tuple) else (200, page)
            asked.append((received.method, received.target))
            headers = {"Location": "https://example.net/"} if status == 302 else {}
            return Response(status, content if isinstance(content, str) else compact(content), headers)

        azure.resource_manager.respond = respond  # type: ignore[method-assign, assignment]
        stack.enter_context(azure)
        stack.enter_context(azure.as_environment())
        monkeypatch.delenv("AZURE_SUBSCRIPTION_ID")
        monkeypatch.setenv("AZURE_CONFIG_DIR", os.devnull)
        return ask

    def ask() -> str:
        if request.param == "sync":
            return default_subscription_id(CloudShellCredential())
        return asyncio.run(aio.default_subscription_id(aio.CloudShellCredential()))

    ask.asked = asked  # type: ignore[attr-defined]
    ask.azure = azure  # type: ignore[attr-defined]
    with ExitStack() as stack:
        yield make


def test_what_is_known_is_returned_without_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", "of-env")
    assert default_subscription_id() == "of-env"


def test_resource_manager_is_asked_last(shell: CloudShellEmulator) -> None:
    with EmulatedAzure(shell) as azure, azure.as_environment():
        assert first_enabled_subscription_id(CloudShellCredential().get_token(ARM).token) == azure.subscription_id


def test_the_default_of_az_in_another_tenant_is_not_taken(config: Any) -> None:
    here = {**config(PROFILE), "ACC_STORAGE_PROFILE": STORAGE}
    assert known_subscription_id({**here, "ACC_TID": "T"}) == "of-az"
    assert known_subscription_id({**here, "ACC_TID": "another"}) == "of-storage"


def test_a_subscription_that_was_chosen_for_want_of_another_is_warned_of(
    listing: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert listing({"value": [{"state": "Enabled", "subscriptionId": "first"}]})() == "first"
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [text.startswith("Working in first, the first enabled subscription. To choose") for text in warned] == [True]


def test_without_any_the_error_names_the_tenant_and_what_is_disabled(listing: Any, shell: CloudShellEmulator) -> None:
    gone = {"state": "Disabled", "subscriptionId": "x", "displayName": "Trial"}
    ask = listing({"value": [gone], "nextLink": f"{HERE}?page=2"}, {"value": [7, {}]})
    with pytest.raises(LookupError) as raised:
        ask()
    assert str(raised.value) == (
        f"There is no enabled subscription in {shell.identity.tenant_id}: Trial (Disabled). "
        "Switch the directory in the portal, or ask for access to a subscription."
    )
    assert [target for _, target in ask.asked] == ["/subscriptions?api-version=2022-12-01", "/subscriptions?page=2"]


@pytest.mark.parametrize(
    ("reply", "kind", "said"),
    [
        ((401, REFUSED), ClientAuthenticationError, "answered 401: InvalidAuthenticationToken: No, [redacted]."),
        ((403, {"error": {"code": "AuthorizationFailed"}}), HttpResponseError, "answered 403: AuthorizationFailed."),
        ((503, "upstream\n\x1b[31m down"), HttpResponseError, "answered 503: upstream [31m down."),
        ((500, ""), HttpResponseError, "answered 500: nothing."),
        ((302, ""), HttpResponseError, "answered 302: nothing."),
        ((429, [1]), HttpResponseError, "answered 429: [1]."),
        ((200, {}), HttpResponseError, "holds no list of subscriptions."),
        ((200, {"value": None}), HttpResponseError, "holds no list of subscriptions."),
        ((200, []), HttpResponseError, "holds no list of subscriptions."),
        ((200, "not JSON"), HttpResponseError, "holds no list of subscriptions."),
    ],
)
def test_what_resource_manager_says_instead_is_one_line_of_an_azure_error(
    listing: Any, reply: Any, kind: type[AzureError], said: str
) -> None:
    ask = listing(reply)
    with pytest.raises(kind) as raised:
        ask()
    assert isinstance(raised.value, AzureError)
    assert raised.value.message.endswith(said)
    assert "\n" not in raised.value.message
    if reply[0] != 200:
        assert getattr(raised.value, "status_code", None) == reply[0]


@pytest.mark.parametrize(
    "link",
    [
        "http://management.azure.com/subscriptions?page=2",
        "https://example.net/subscriptions",
        "https://management.azure.com@example.net/",
        "https://management.azure.com.example.net/",
        "https://management.azure.com:8443/",
        "https://management.azure.com/a b",
        7,
    ],
)
def test_a_next_page_elsewhere_is_not_asked(listing: Any, link: object) -> None:
    ask = listing({"value": [], "nextLink": link})
    with pytest.raises(HttpResponseError, match="another address, which is not asked"):
        ask()
    assert len(ask.asked) == 1
    assert ask.azure.refused == []


def test_pages_without_end_are_given_up(listing: Any) -> None:
    ask = listing({"value": [], "nextLink": HERE})
    with pytest.raises(HttpResponseError, match="more than 100 pages"):
        ask()
    assert len(ask.asked) == 100


def test_without_a_network_it_is_an_azure_error_without_the_token(
    in_cloud_shell: CloudShellEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    token = CloudShellCredential().get_token(ARM).token
    with pytest.raises(ServiceRequestError, match="could not be reached") as raised:
        first_enabled_subscription_id(token)
    assert (raised.value.__context__, raised.value.__cause__) == (None, None)


def test_an_asynchronous_credential_is_a_type_error_wherever_the_id_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", "of-env")
    with pytest.raises(TypeError, match="CloudShellCredential is asynchronous: a synchronous credential is needed"):
        default_subscription_id(aio.CloudShellCredential())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "loop", [lambda function, *given: asyncio.run(function(*given)), trio.run], ids=["asyncio", "trio"]
)
class TestOnAnEventLoop:
    def test_what_is_known_is_returned_without_asking(
        self, loop: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", "of-env")
        assert loop(aio.default_subscription_id) == "of-env"

    @pytest.mark.parametrize("given", [(), (aio.CloudShellCredential,)], ids=["default", "given"])
    def test_resource_manager_is_asked_last(
        self, loop: Callable[..., Any], shell: CloudShellEmulator, monkeypatch: pytest.MonkeyPatch, given: Any
    ) -> None:
        with EmulatedAzure(shell) as azure, azure.as_environment():
            monkeypatch.setenv("AZURE_CONFIG_DIR", os.devnull)
            assert loop(aio.default_subscription_id, *(make() for make in given)) == azure.subscription_id

    def test_a_listing_that_hangs_is_given_up(
        self, loop: Callable[..., Any], in_cloud_shell: CloudShellEmulator, monkeypatch: pytest.MonkeyPatch, mocker: Any
    ) -> None:
        monkeypatch.setenv("AZURE_CONFIG_DIR", os.devnull)
        over = threading.Event()
        mocker.patch("requests.get", side_effect=lambda *_, **__: over.wait(20))
        mocker.patch("azure_cloudshell_credential.aio._subscription.LISTING_SECONDS", 0.2)
        with pytest.raises(ServiceResponseTimeoutError, match="did not answer in time"):
            loop(aio.default_subscription_id)
        over.set()

    def test_a_synchronous_credential_is_a_type_error_wherever_the_id_comes_from(
        self, loop: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", "of-env")
        with pytest.raises(
            TypeError, match="CloudShellCredential is synchronous: an asynchronous credential is needed"
        ):
            loop(aio.default_subscription_id, CloudShellCredential())
