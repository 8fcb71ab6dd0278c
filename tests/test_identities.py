"""Whose token: another user's is refused or told, in whatever order things fail.

Cloud Shell is ada throughout, az is whoever a row says.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from itertools import product
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

import pytest
from azure.core.credentials import AccessTokenInfo
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import CredentialUnavailableError

from azure_cloudshell_credential import CloudShellCredential, DefaultCloudShellCredential
from azure_cloudshell_credential._azure import identities
from azure_cloudshell_credential._azure.credential import SyncCredential
from azure_cloudshell_credential._azure.default_chain import Chain
from azure_cloudshell_credential._endpoint import clock, environment
from azure_cloudshell_credential.aio._credential import AsyncCredential
from azure_cloudshell_credential.broker import CloudShellBroker
from azure_cloudshell_credential.emulator import CloudShellEmulator, Identity, faults

from .clocks import ShiftedClock
from .command import run
from .conftest import ARM, VAULT, claims_of

ADA = Identity()
OWN, OTHER = ADA.tenant_id, "99999999-aaaa-4bbb-8ccc-222222222222"
NOBODY = "77777777-7777-4777-8777-777777777777"
BUS = "https://servicebus.azure.net/.default"


def jwt_of(name: str, tenant: str, object_id: str, **claims: Any) -> str:
    claims = {"tid": tenant, "oid": object_id, **({"upn": name} if "@" in name else {"appid": name}), **claims}
    return f"eyJ9.{b64encode(json.dumps(claims).encode()).decode()}.{name}"


AZ = {
    "same": jwt_of(ADA.user, OWN.upper(), ADA.object_id),
    "grace": jwt_of("grace@contoso.example", OWN, "55555555-eeee-4fff-8aaa-666666666666"),
    "foreign": jwt_of("bob@fabrikam.example", OTHER, "66666666-eeee-4fff-8aaa-666666666666"),
    "application": jwt_of("88888888-eeee-4fff-8aaa-666666666666", OWN, "44444444-eeee-4fff-8aaa-666666666666"),
    "opaque": "opaque",
}
TENANTS = {
    "none": None,
    "common": "common",
    "own": OWN.upper(),
    "other": OTHER,
    "own domain": "Contoso.Example",
    "other domain": "fabrikam.example",
}
TRANSIENT = {
    "portal": faults.portal_timeout(),
    "hang": faults.hang(),
    "drop": faults.drop(),
    "5xx": faults.server_error(503),
    "garbage": faults.garbage(),
    "expired": faults.expired_token(),
    "wrong resource": faults.wrong_resource(),
}
ACC = {
    "right": {"ACC_TID": OWN, "ACC_OID": ADA.object_id},
    "wrong": {"ACC_TID": OWN, "ACC_OID": NOBODY},
    "no id": {"ACC_TID": OWN, "ACC_OID": "ada"},
    "no user": {"ACC_TID": OWN},
    "nothing": {},
}

# What Cloud Shell does, what it has issued before in this process, who az is, the tenant asked for, what the
# environment says: who is handed out, and what is said of it. The first row that fits holds.
ROWS = [
    # Cloud Shell's own token, where it is for the tenant asked for.
    ("answers | another user", "nothing", "*", "none | common | own | own domain", "*", "cloud shell", ""),
    ("answers", "*", "*", "none | common | own | own domain", "*", "cloud shell", ""),
    ("another user", "*", "*", "none | common | own | own domain", "*", "cloud shell", "warning"),
    # A token of another tenant than the id asked for is its credential's failure.
    ("another user", "other | this", "same | grace | application", "other", "*", "nobody", "warning"),
    ("*", "*", "same | grace | application", "other", "*", "nobody", ""),
    ("*", "*", "foreign", "own", "*", "nobody", ""),
    # Cloud Shell is signed in elsewhere: who asks for another tenant by its id is told whose token it is.
    ("answers | another user", "*", "foreign", "other", "*", "az", "warning"),
    ("another user", "other | this", "opaque", "*", "*", "az", "warning"),
    ("answers | another user", "*", "opaque", "*", "*", "az", "info"),
    # By name nobody can tell: another user's token for what Cloud Shell has just issued one for is refused.
    ("answers", "*", "same", "other domain", "*", "az", ""),
    ("answers", "*", "*", "other domain", "*", "refused", ""),
    ("another user", "nothing", "*", "other domain", "*", "refused", ""),
    ("another user", "*", "*", "other domain", "*", "refused", "warning"),
    # An opaque token is not known to be another user's.
    ("*", "*", "opaque", "*", "*", "az", "info"),
    # Cloud Shell's tokens have told who its user is.
    ("*", "other | this", "same", "*", "*", "az", ""),
    ("*", "other | this", "foreign", "other", "*", "az", "warning"),
    ("*", "this", "*", "*", "*", "refused", ""),
    ("audience | entra", "other", "*", "*", "*", "az", "warning"),
    ("drop", "other", "*", "*", "*", "refused", ""),
    # Only the environment has.
    ("*", "nothing", "same", "*", "right", "az", ""),
    ("audience | entra", "nothing", "*", "*", "right | wrong", "az", "warning"),
    ("drop", "nothing", "*", "*", "right | wrong", "refused", ""),
    # It knows the tenant only.
    ("audience | entra", "nothing", "foreign", "*", "no id | no user", "az", "warning"),
    ("drop", "nothing", "foreign", "*", "no id | no user", "refused", ""),
    # Nobody knows.
    ("*", "nothing", "*", "*", "no id | no user | nothing", "az", "info"),
]


def expected(cell: tuple[str, ...]) -> tuple[str, str]:
    for *pattern, who, said in ROWS:
        if all(words == "*" or word in words.split(" | ") for word, words in zip(cell, pattern, strict=True)):
            return who, said
    raise AssertionError(f"no row for {cell}")


class Peer:
    """A credential that is not ours."""

    def __init__(self, value: str) -> None:
        self.value = value

    def get_token_info(self, *scopes: str, options: Any = None) -> AccessTokenInfo:
        return AccessTokenInfo(self.value, int(clock.current.time()) + 3600)


class Two(Chain):
    """Cloud Shell, then another credential, as the default chain has them."""

    def _steps(self) -> Iterable[Any]:
        own = {name: value for name, value in self._options.items() if name != "az"}
        return CloudShellCredential(retry_total=0, **own), self._options["az"]


class SyncTwo(Two, SyncCredential):
    def token(self, scope: str, tenant: str | None = None) -> str:
        return self.get_token(scope, tenant_id=tenant).token


class AsyncTwo(Two, AsyncCredential):
    def token(self, scope: str, tenant: str | None = None) -> str:
        return asyncio.run(self.get_token(scope, tenant_id=tenant)).token


class BrokerOfTwo:
    """A broker's answers in azd's form, which has a tenant."""

    def __init__(self, **options: Any) -> None:
        self.credential = SyncTwo(**options)

    def token(self, scope: str, tenant: str | None = None) -> str:
        with CloudShellBroker(self.credential) as broker:
            names = broker.environment
            request = Request(
                f"{names['AZD_AUTH_ENDPOINT']}/token?api-version=2023-07-12-preview",
                json.dumps({"scopes": [scope], **({"tenantId": tenant} if tenant else {})}).encode(),
                {"Authorization": f"Bearer {names['AZD_AUTH_KEY']}", "Content-Type": "application/json"},
            )
            with build_opener(ProxyHandler({})).open(request) as reply:
                content = json.load(reply)
        if content["status"] != "success":
            raise ClientAuthenticationError(message=content["message"])
        return str(content["token"])


KINDS = pytest.mark.parametrize("two", [SyncTwo, AsyncTwo, BrokerOfTwo], ids=["sync", "async", "broker"])


class Said(logging.Handler):
    """What this package's log says, from INFO up, but for Cloud Shell's and the broker's routine."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        is_brokers = record.name.endswith("_broker")
        if record.name.endswith("identities") or (record.levelno > logging.INFO and not is_brokers):
            self.records.append(record)

    def loudest(self) -> str:
        levels = [record.levelname.lower() for record in self.records]
        return "warning" if "warning" in levels else "".join(levels[:1])


@pytest.fixture
def said() -> Iterator[Said]:
    handler = Said()
    logger = logging.getLogger("azure_cloudshell_credential")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def begin_anew(shell: CloudShellEmulator) -> None:
    identities.forget(shell.port)
    shell.sign_in(user=ADA.user, object_id=ADA.object_id)
    shell.audiences = None


def happen(shell: CloudShellEmulator, what: str) -> None:
    if what == "another user":
        shell.sign_in(user="mallory@contoso.example", object_id="22222222-dddd-4eee-9fff-444444444444")
    elif what == "audience":
        shell.audiences = ["https://quantum.microsoft.com"]
    elif what == "entra":
        shell.script(faults.interaction_required())
    elif what != "answers":
        shell.script(TRANSIENT[what])


@pytest.mark.parametrize(
    "two",
    [SyncTwo, pytest.param(AsyncTwo, marks=pytest.mark.slow), pytest.param(BrokerOfTwo, marks=pytest.mark.slow)],
    ids=["sync", "async", "broker"],
)
@pytest.mark.parametrize("before", ["nothing", "other", "this"])
@pytest.mark.parametrize(
    "what",
    [
        "audience",
        "drop",
        *(pytest.param(each, marks=pytest.mark.slow) for each in ("answers", "another user", "entra")),
    ],
)
def test_every_order_of_answers(
    shell: CloudShellEmulator, monkeypatch: pytest.MonkeyPatch, said: Said, two: Any, what: str, before: str
) -> None:
    wrong = []
    for az, tenant, acc in product(AZ, TENANTS, ACC):
        begin_anew(shell)
        for name in ("ACC_TID", "ACC_OID"):
            monkeypatch.delenv(name, raising=False)
        for name, value in ACC[acc].items():
            monkeypatch.setenv(name, value)
        if before != "nothing":
            # What is known is known to the process, not to a credential.
            CloudShellCredential(endpoint=shell.endpoint).get_token(VAULT if before == "this" else ARM)
        happen(shell, what)
        said.records.clear()
        try:
            token = two(endpoint=shell.endpoint, az=Peer(AZ[az])).token(VAULT, TENANTS[tenant])
            who = "az" if token == AZ[az] else "cloud shell"
        except ClientAuthenticationError as error:
            who = "refused" if "but as" in error.message else "nobody"
        cell = (what, before, az, tenant, acc)
        if (who, said.loudest()) != expected(cell):
            wrong.append((*cell, who, said.loudest(), "not", *expected(cell)))
    assert wrong == []


@KINDS
@pytest.mark.parametrize("fault", TRANSIENT)
@pytest.mark.parametrize("known", [True, False])
def test_every_way_of_merely_failing_is_one(
    shell: CloudShellEmulator, monkeypatch: pytest.MonkeyPatch, two: Any, fault: str, known: bool
) -> None:
    if known:
        CloudShellCredential(endpoint=shell.endpoint).get_token(ARM)
    chain = two(endpoint=shell.endpoint, az=Peer(AZ["grace"]), timeout=0.5 if fault == "hang" else 30)
    with shell.failing(TRANSIENT[fault]):
        if not known:
            assert chain.token(VAULT) == AZ["grace"]
            return
        with pytest.raises(ClientAuthenticationError) as raised:
            chain.token(VAULT)
    assert f"but as grace@contoso.example in tenant {OWN}, and Cloud Shell's user is {ADA.user}" in raised.value.message


UNSAID = ("ACC_TID", "ACC_OID")


def wait_until_idle(credential: Any) -> None:
    deadline = time.monotonic() + 20
    while credential._cache.in_flight and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not credential._cache.in_flight


@pytest.fixture
def chain(shell: CloudShellEmulator) -> SyncTwo:
    return SyncTwo(endpoint=shell.endpoint, az=Peer(AZ["grace"]))


def test_what_was_handed_out_before_anything_was_known_is_looked_at_again(
    shell: CloudShellEmulator, chain: SyncTwo, said: Said
) -> None:
    shell.script(faults.portal_timeout())
    assert chain.token(ARM) == AZ["grace"]
    assert said.loudest() == "info"
    # Now Cloud Shell's user is known: the warning comes, and the other user's token is not used again.
    assert claims_of(chain.token(VAULT))["upn"] == ADA.user
    assert "management.azure.com is accessed as grace@contoso.example" in said.records[-1].getMessage()
    assert claims_of(chain.token(ARM))["upn"] == ADA.user
    with shell.failing(faults.drop()), pytest.raises(ClientAuthenticationError, match="but as grace@contoso"):
        chain.token(BUS)
    assert [record.levelname for record in said.records] == ["INFO", "WARNING"]


def test_it_is_not_used_again_either_where_another_credential_has_met_the_user(
    shell: CloudShellEmulator, chain: SyncTwo
) -> None:
    with shell.failing(faults.drop()):
        assert chain.token(ARM) == AZ["grace"]
    CloudShellCredential(endpoint=shell.endpoint).get_token(VAULT)
    with shell.failing(faults.drop()), pytest.raises(ClientAuthenticationError, match="but as grace@contoso"):
        chain.token(ARM)


def test_a_script_does_not_change_its_user_in_the_middle(
    shell: CloudShellEmulator, chain: SyncTwo, mocker: Any
) -> None:
    shifted = ShiftedClock(mocker)
    ada = chain.token(ARM)
    with shell.failing(faults.interaction_required()):
        # In the background, while the token is valid, and after it has expired.
        shifted.advance(shell.lifetime - 200)
        assert chain.token(ARM) == ada
        wait_until_idle(chain)
        assert chain.token(ARM) == ada
        shifted.advance(400)
        with pytest.raises(ClientAuthenticationError, match="but as grace@contoso"):
            chain.token(ARM)


def test_a_challenge_is_not_answered_as_another_user(chain: SyncTwo) -> None:
    chain.token(ARM)
    with pytest.raises(ClientAuthenticationError, match="but as grace@contoso"):
        chain.get_token(ARM, claims='{"access_token":{}}')


def test_what_no_sign_in_of_the_same_user_answers_is_advised_otherwise(shell: CloudShellEmulator) -> None:
    # Who signs in as ada in fabrikam's tenant has another object id there.
    elsewhere = jwt_of(ADA.user, OTHER, NOBODY)
    chain = SyncTwo(endpoint=shell.endpoint, az=Peer(elsewhere))
    chain.token(ARM)
    with pytest.raises(ClientAuthenticationError, match=r"but as ada@.* Pass the tenant's id\.$"):
        chain.token(ARM, "fabrikam.example")
    assert chain.token(ARM, OTHER) == elsewhere
    with pytest.raises(ClientAuthenticationError, match=r"but as ada@.*un 'az login --claims-challenge [^']*' as ada@"):
        chain.get_token(ARM, claims='{"access_token":{}}')


def test_one_warning_for_each_other_user_names_the_resource_and_both(
    shell: CloudShellEmulator, chain: SyncTwo, said: Said
) -> None:
    shell.audiences = ["https://management.azure.com/"]
    for scope in (ARM, BUS, VAULT, BUS):
        chain.token(scope)
    SyncTwo(endpoint=shell.endpoint, az=Peer(AZ["grace"])).token(BUS)
    assert [record.getMessage() for record in said.records] == [
        f"https://servicebus.azure.net is accessed as grace@contoso.example in tenant {OWN}, not as {ADA.user} in "
        f"tenant {OWN}, Cloud Shell's user."
    ]
    SyncTwo(endpoint=shell.endpoint, az=Peer(AZ["foreign"])).token(BUS)
    assert len(said.records) == 2


def test_a_name_that_two_have_is_told_with_their_object_ids(shell: CloudShellEmulator, said: Said) -> None:
    twin = jwt_of(ADA.user, OTHER, NOBODY)
    chain = SyncTwo(endpoint=shell.endpoint, az=Peer(twin))
    chain.token(ARM)
    chain.token(BUS)
    assert f"{ADA.user} (object {NOBODY}) in tenant {OTHER}, not as {ADA.user} (object {ADA.object_id})" in (
        said.records[-1].getMessage()
    )


def test_an_endpoint_that_answers_as_somebody_else_is_said(shell: CloudShellEmulator, said: Said) -> None:
    credential = CloudShellCredential(endpoint=shell.endpoint)
    credential.get_token(ARM)
    shell.sign_in(user="mallory@contoso.example", object_id=NOBODY)
    for scope in (VAULT, VAULT, "https://graph.microsoft.com/.default"):
        credential.get_token(scope)
    assert [record.getMessage() for record in said.records] == [
        f"Cloud Shell's token for https://vault.azure.net is for mallory@contoso.example in tenant {OWN}; those before "
        f"were for {ADA.user} in tenant {OWN}."
    ]


def test_where_nobody_listens_at_the_documented_address_it_is_another_place(
    monkeypatch: pytest.MonkeyPatch, said: Said, mocker: Any
) -> None:
    # Cloud Shell's image elsewhere, in which a variable of ours may be left over.
    monkeypatch.setenv("AZUREPS_HOST_ENVIRONMENT", "cloud-shell/1.0")
    monkeypatch.setenv("ACC_OID", ADA.object_id)
    mocker.patch.object(environment, "DEFAULT_ENDPOINT", "http://localhost:9/oauth2/token")
    assert SyncTwo(endpoint=None, az=Peer(AZ["grace"])).token(ARM) == AZ["grace"]
    assert said.records == []
    with pytest.raises(CredentialUnavailableError, match="This is not Azure Cloud Shell: its variables are set, but"):
        CloudShellCredential().get_token(ARM)


def test_where_somebody_has_listened_there_it_is_cloud_shell_and_fails(
    monkeypatch: pytest.MonkeyPatch, said: Said, mocker: Any
) -> None:
    monkeypatch.setenv("AZUREPS_HOST_ENVIRONMENT", "cloud-shell/1.0")
    with CloudShellEmulator() as shell:
        mocker.patch.object(environment, "DEFAULT_ENDPOINT", shell.endpoint)
        CloudShellCredential().get_token(VAULT)
    for scope in (VAULT, ARM):
        with pytest.raises(ClientAuthenticationError, match=r"nobody listens at .* any more\. .* but as grace"):
            SyncTwo(endpoint=None, az=Peer(AZ["grace"])).token(scope)
    assert said.records == []


@pytest.mark.parametrize(
    "options", [{"exclude_cloud_shell_credential": True}, {}], ids=["excluded", "service principal"]
)
def test_what_the_user_has_chosen_is_not_remarked_upon(
    in_cloud_shell: CloudShellEmulator, monkeypatch: pytest.MonkeyPatch, said: Said, options: dict[str, Any]
) -> None:
    CloudShellCredential().get_token(ARM)
    if not options:
        monkeypatch.setenv("AZURE_CLIENT_ID", "x")
        monkeypatch.setenv("AZURE_CLIENT_SECRET", "x")
    credential = DefaultCloudShellCredential(**options)
    steps = list(credential.credentials)
    steps[0] = Peer(AZ["grace"])
    credential.credentials = tuple(steps)
    assert credential.get_token(ARM).token == AZ["grace"]
    assert said.records == []


def test_a_client_that_takes_the_tenant_from_a_challenge_is_told_whose_token_it_gets(
    shell: CloudShellEmulator, said: Said
) -> None:
    # As azure-keyvault-secrets does for a vault in another tenant.
    chain = SyncTwo(endpoint=shell.endpoint, az=Peer(AZ["foreign"]))
    options: Any = {"tenant_id": OTHER, "enable_cae": True, "claims": None}
    assert chain.get_token_info(VAULT, options=options).token == AZ["foreign"]
    assert said.loudest() == "warning"


class TestTheCommand:
    """``token --fallback``: a process of its own, which knows what the environment says."""

    @pytest.fixture
    def fallback(
        self, in_cloud_shell: CloudShellEmulator, fake_az: str, tmp_path: Path
    ) -> Callable[..., CompletedProcess[str]]:
        program = tmp_path / "bin" / "az"
        program.write_text(program.read_text().replace(fake_az, AZ["grace"]))

        def token(name: str, *options: str) -> CompletedProcess[str]:
            return run("token", name, "--fallback", *options)

        return token

    def test_says_whose_token_it_prints(self, fallback: Any) -> None:
        done = fallback("servicebus")
        assert done.stdout == AZ["grace"] + "\n"
        assert done.stderr == (
            f"azure-cloudshell: https://servicebus.azure.net is accessed as grace@contoso.example (object "
            f"55555555-eeee-4fff-8aaa-666666666666) in tenant {OWN}, not as the object {ADA.object_id} in tenant {OWN} "
            "(from ACC_OID), Cloud Shell's user.\n"
        )

    def test_refuses_another_users_where_cloud_shell_merely_fails(
        self, in_cloud_shell: CloudShellEmulator, fallback: Any
    ) -> None:
        with in_cloud_shell.failing(faults.drop()):
            done = fallback("vault")
        assert (done.returncode, done.stdout) == (1, "")
        assert "but as grace@contoso.example" in done.stderr
        with in_cloud_shell.failing(faults.drop()):
            assert "but as" not in fallback("vault", "--tenant", OTHER).stderr

    def test_says_nothing_where_nothing_is_known(self, fallback: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in UNSAID:
            monkeypatch.delenv(name)
        assert fallback("servicebus").stderr == ""


class TestUnderABroker:
    """Nobody is asked after a broker: it has decided who may have what."""

    def test_the_default_chain_ends_with_it(
        self, in_cloud_shell: CloudShellEmulator, fake_az: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with CloudShellBroker(CloudShellCredential(), allow=["vault"]) as broker:
            for name, value in broker.environment.items():
                monkeypatch.setenv(name, value)
            credential = DefaultCloudShellCredential()
            assert [type(step).__name__ for step in credential.credentials] == ["CloudShellCredential"]
            with pytest.raises(ClientAuthenticationError, match="--allow"):
                credential.get_token(ARM)
            assert claims_of(credential.get_token(VAULT).token)["upn"] == ADA.user

    def test_so_do_the_fallback_and_a_run_inside_a_run(self, in_cloud_shell: CloudShellEmulator, fake_az: str) -> None:
        inner = [sys.executable, "-m", "azure_cloudshell_credential"]
        for command in ([*inner, "token", "arm", "--fallback"], [*inner, "run", "--", *inner, "token", "arm"]):
            done = run("run", "--allow", "vault", "--", *command)
            assert (done.returncode, done.stdout) == (1, ""), command
            assert "--allow" in done.stderr

    def test_a_broker_on_another_machine_is_asked_by_the_fallback(
        self, in_cloud_shell: CloudShellEmulator, fake_az: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As in a container: by App Service's variables, and nobody after it."""
        name = socket.gethostname()
        with CloudShellBroker(CloudShellCredential(), allow=["vault"], host_names=[name]) as broker:
            variables = broker.variables_for({})
            for each in in_cloud_shell.environment:
                monkeypatch.delenv(each, raising=False)
            here = f"http://127.0.0.1:{broker.port}"
            # App Service's form by an address that this machine has under every name.
            for each, value in variables.items():
                is_asked = each in ("IDENTITY_ENDPOINT", "AZURE_MSI_ENDPOINT")
                monkeypatch.setenv(each, value.replace(f"http://{name}:{broker.port}", here) if is_asked else value)
            told = run("token", "vault")
            assert told.stderr.endswith(" Add --fallback: the managed identity of this place is asked then.\n")
            assert claims_of(run("token", "vault", "--fallback").stdout.strip())["upn"] == ADA.user
            inner = [sys.executable, "-m", "azure_cloudshell_credential", "token", "arm"]
            for words in (["token", "arm", "--fallback"], ["run", "--", *inner]):
                refused = run(*words)
                assert (refused.returncode, refused.stdout) == (1, ""), words
                assert "not to serve https://management.azure.com/ (--allow)." in refused.stderr
            with pytest.raises(CredentialUnavailableError, match="Use DefaultCloudShellCredential: the managed"):
                CloudShellCredential().get_token(VAULT)
            assert claims_of(DefaultCloudShellCredential().get_token(VAULT).token)["upn"] == ADA.user
