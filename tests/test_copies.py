"""Copies and pickles of credentials: the configuration travels, tokens and acquisitions never do."""

from __future__ import annotations

import copy
import os
import pickle
from collections.abc import Callable
from typing import Any

import cloudpickle
import pytest

from azure_cloudshell_credential import CloudShellAuth, CloudShellCredential, DefaultCloudShellCredential
from azure_cloudshell_credential.aio import CloudShellCredential as AsyncCloudShellCredential
from azure_cloudshell_credential.aio import DefaultCloudShellCredential as AsyncDefaultCloudShellCredential
from azure_cloudshell_credential.broker import CloudShellBroker
from azure_cloudshell_credential.emulator import CloudShellEmulator, faults

from .clocks import wait_until
from .conftest import ARM, VAULT, waited

QUIET = {"exclude_powershell_credential": True, "exclude_developer_cli_credential": True}
KINDS: dict[str, Callable[[], Any]] = {
    "sync": CloudShellCredential,
    "async": AsyncCloudShellCredential,
    "default": lambda: DefaultCloudShellCredential(**QUIET),
    "async default": lambda: AsyncDefaultCloudShellCredential(**QUIET),
}
COPIES: dict[str, Callable[[Any], Any]] = {
    "pickle": lambda thing: pickle.loads(pickle.dumps(thing)),
    "cloudpickle": lambda thing: pickle.loads(cloudpickle.dumps(thing)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@pytest.fixture(params=KINDS)
def credential(request: pytest.FixtureRequest, in_cloud_shell: CloudShellEmulator) -> Any:
    return KINDS[request.param]()


@pytest.mark.parametrize("kind", [DefaultCloudShellCredential, AsyncDefaultCloudShellCredential])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_pickle_protocol_keeps_a_credential_without_options(kind: Any, protocol: int) -> None:
    twin = pickle.loads(pickle.dumps(kind(), protocol))
    assert [type(step) for step in twin.credentials] == [type(step) for step in kind().credentials]


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_a_copy_has_no_token_and_gets_its_own(credential: Any, in_cloud_shell: CloudShellEmulator, copied: Any) -> None:
    held = waited(credential.get_token(ARM)).token
    for dumps in (pickle.dumps, cloudpickle.dumps):
        assert held.encode() not in dumps(credential)
    twin = copied(credential)
    assert waited(twin.get_token(ARM)).token
    assert len(in_cloud_shell.requests) == 2


def test_a_copy_notices_that_tokens_have_expired(credential: Any, in_cloud_shell: CloudShellEmulator) -> None:
    twin = pickle.loads(pickle.dumps(credential))
    first = waited(twin.get_token(ARM)).token
    in_cloud_shell.expire_tokens()
    assert waited(twin.get_token(ARM)).token != first


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_copy_works_after_a_fork(credential: Any, in_cloud_shell: CloudShellEmulator) -> None:
    twin = copy.deepcopy(credential)
    waited(twin.get_token(ARM))
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, b"ok" if waited(twin.get_token(VAULT)).token else b"no")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 10) == b"ok"
    for end in (reader, writer):
        os.close(end)


def test_a_pickle_holds_no_secret_of_a_broker(
    in_cloud_shell: CloudShellEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    with CloudShellBroker(CloudShellCredential()) as broker:
        for name, value in broker.environment.items():
            monkeypatch.setenv(name, value)
        credential = CloudShellCredential()
        pickled = pickle.dumps(credential)
        assert broker._secrets.path.encode() not in pickled
        assert pickle.loads(pickled).endpoint == credential.endpoint
        assert pickle.loads(pickled).get_token(ARM).token


@pytest.mark.parametrize("kind", [CloudShellCredential, lambda: DefaultCloudShellCredential(**QUIET)])
def test_a_copy_can_be_made_while_a_token_is_acquired(in_cloud_shell: CloudShellEmulator, kind: Any) -> None:
    from threading import Thread

    credential = kind()
    in_cloud_shell.script(faults.hang(0.5))
    asking = Thread(target=credential.get_token, args=(ARM,))
    asking.start()
    wait_until(lambda: in_cloud_shell.requests)
    for copied in COPIES.values():
        assert copied(credential).get_token(VAULT).token
    asking.join()


def test_whatever_holds_a_credential_is_copied_without_its_tokens(in_cloud_shell: CloudShellEmulator) -> None:
    auth = CloudShellAuth()
    held = auth._credential.get_token(ARM).token
    assert held.encode() not in pickle.dumps(auth)
    assert copy.deepcopy(auth)._credential.get_token(ARM).token


def of_a_subclass(kind: type[Any]) -> type[Any]:
    """A user's own kind, with an ``__init__`` of another shape and attributes before, in and after it."""

    class Own(kind):  # type: ignore[misc]
        def __init__(self, name: str) -> None:
            self.before = [name]
            super().__init__(**(QUIET if issubclass(kind, DefaultCloudShellCredential) else {}))
            self._name = name

    return Own


class Own(of_a_subclass(CloudShellCredential)):  # type: ignore[misc]
    pass


class OwnAsync(of_a_subclass(AsyncCloudShellCredential)):  # type: ignore[misc]
    pass


class OwnDefault(of_a_subclass(DefaultCloudShellCredential)):  # type: ignore[misc]
    pass


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("kind", [Own, OwnAsync, OwnDefault])
def test_a_copy_keeps_what_a_subclass_has_added(in_cloud_shell: CloudShellEmulator, kind: Any, copied: Any) -> None:
    credential = kind("ada")
    credential.later = {"since": 7}
    held = waited(credential.get_token(ARM)).token
    twin = copied(copied(credential))
    assert (type(twin), twin.before, twin._name, twin.later) == (kind, ["ada"], "ada", {"since": 7})
    assert held.encode() not in pickle.dumps(credential)
    assert waited(twin.get_token(ARM)).token
    assert len(in_cloud_shell.requests) == 2


@pytest.mark.parametrize("copied", [pickle.dumps, cloudpickle.dumps, copy.copy, copy.deepcopy])
def test_a_broker_is_not_copied(copied: Any) -> None:
    with CloudShellBroker() as broker, pytest.raises(TypeError):
        copied(broker)
