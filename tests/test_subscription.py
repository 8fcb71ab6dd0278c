"""Which subscription to work in, where nothing says so."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from azure_cloudshell_credential import CloudShellCredential, aio, default_subscription_id
from azure_cloudshell_credential._azure.subscription import first_enabled_subscription_id, known_subscription_id
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


def test_what_is_known_is_returned_without_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", "of-env")
    assert default_subscription_id() == "of-env"


def test_resource_manager_is_asked_last(shell: CloudShellEmulator) -> None:
    with EmulatedAzure(shell) as azure, azure.as_environment():
        assert first_enabled_subscription_id(CloudShellCredential().get_token(ARM).token) == azure.subscription_id


def test_without_any_the_error_says_how_to_choose(
    in_cloud_shell: CloudShellEmulator, monkeypatch: pytest.MonkeyPatch, mocker: Any
) -> None:
    monkeypatch.setenv("AZURE_CONFIG_DIR", os.devnull)
    pages = [{"value": [{"state": "Disabled", "subscriptionId": "x"}], "nextLink": "https://x/2"}, {"value": []}]
    get = mocker.patch("requests.get", side_effect=[mocker.Mock(json=lambda page=page: page) for page in pages])
    with pytest.raises(LookupError, match=r"set AZURE_SUBSCRIPTION_ID.*az account set"):
        default_subscription_id()
    assert [call.args[0] for call in get.call_args_list][1] == "https://x/2"


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

    def test_without_any_the_error_says_how_to_choose(
        self, loop: Callable[..., Any], in_cloud_shell: CloudShellEmulator, monkeypatch: pytest.MonkeyPatch, mocker: Any
    ) -> None:
        monkeypatch.setenv("AZURE_CONFIG_DIR", os.devnull)
        mocker.patch("requests.get", return_value=mocker.Mock(json=lambda: {"value": []}))
        with pytest.raises(LookupError, match="set AZURE_SUBSCRIPTION_ID"):
            loop(aio.default_subscription_id)

    def test_a_listing_that_hangs_is_given_up(
        self, loop: Callable[..., Any], in_cloud_shell: CloudShellEmulator, monkeypatch: pytest.MonkeyPatch, mocker: Any
    ) -> None:
        monkeypatch.setenv("AZURE_CONFIG_DIR", os.devnull)
        over = threading.Event()
        mocker.patch("requests.get", side_effect=lambda *_, **__: over.wait(20))
        mocker.patch("azure_cloudshell_credential.aio._subscription.LISTING_SECONDS", 0.2)
        with pytest.raises(TimeoutError, match="did not list the subscriptions in time"):
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
