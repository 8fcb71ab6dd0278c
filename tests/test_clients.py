"""Unmodified clients behind the broker, each at its version, in the default environment. ``make clients`` runs them."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from azure_cloudshell_credential import DefaultCloudShellCredential
from azure_cloudshell_credential._serving.messages import Request, Response
from azure_cloudshell_credential.broker import CloudShellBroker
from azure_cloudshell_credential.emulator import CloudShellEmulator, Identity, faults
from azure_cloudshell_credential.emulator._proxy import Proxy

from .azurite import NODE_MODULES, Azurite, needs
from .clients import node_of, python_of
from .command import run
from .test_cli_run import AIO, ARM, DENIED, JAVASCRIPT, MSAL, MSAL_NODE, REFUSAL, SEARCH, SYNC

pytestmark = [pytest.mark.clients, pytest.mark.slow]

VAULT = "https://vault.azure.net"
CLIENT_ID = "0f0f0f0f-0000-4000-8000-000000000000"
WITH_CLIENT_ID = SYNC.replace(
    "ManagedIdentityCredential)", f"lambda: ManagedIdentityCredential(client_id='{CLIENT_ID}'))"
)


@pytest.fixture(params=["in Cloud Shell", "elsewhere"])
def place(
    request: pytest.FixtureRequest,
    shell: CloudShellEmulator,
    fake_az: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[tuple[str, str]]:
    """An emulated Cloud Shell that refuses search, or none; with an az that refuses one resource, and a dead proxy.

    Returns the tokens that there are for Resource Manager and for search.
    """
    program = tmp_path / "bin" / "az"
    first, rest = program.read_text().split("\n", 1)
    refusal = f"import sys\nif any({DENIED!r} in word for word in sys.argv): sys.exit({REFUSAL!r})"
    program.write_text(f"{first}\n{refusal}\n{rest}")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    if request.param == "elsewhere":
        yield fake_az, fake_az
        return
    shell.deny("search")
    with shell.as_environment():
        yield shell.issue(ARM)[0], fake_az


def check(place: tuple[str, str], *command: str, **environment: str) -> None:
    """The program gets both tokens from each of its credentials, and for the third resource an error that says why."""
    done = run("run", "--", *command, ARM, SEARCH, DENIED, **environment)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found
    assert len(found) % 3 == 0
    for index in range(0, len(found), 3):
        assert tuple(found[index : index + 2]) == place
        assert ": " in found[index + 2]


@pytest.mark.parametrize("program", [SYNC, AIO, WITH_CLIENT_ID], ids=["sync", "aio", "client_id"])
@pytest.mark.parametrize("version", ["1.27", "1.16", "1.5"])
def test_azure_identity_for_python(place: tuple[str, str], version: str, program: str) -> None:
    own = {"AZURE_CLIENT_ID": CLIENT_ID} if program == WITH_CLIENT_ID else {}
    check(place, python_of(f"azure-identity-{version}"), "-W", "ignore", "-c", program, **own)


@pytest.mark.parametrize("names", [["IDENTITY_ENDPOINT", "IDENTITY_HEADER"], ["MSI_ENDPOINT"]], ids=["new", "old"])
@pytest.mark.parametrize("version", ["1.27", "1.16"])
def test_azure_identity_with_one_kind_of_variables(place: tuple[str, str], version: str, names: list[str]) -> None:
    unset = {"IDENTITY_ENDPOINT", "IDENTITY_HEADER", "MSI_ENDPOINT"} - set(names)
    options = [f"--unset={name}" for name in unset]
    check(place, "env", *options, python_of(f"azure-identity-{version}"), "-c", SYNC)


def test_azure_identity_1_5_in_app_services_first_form(place: tuple[str, str]) -> None:
    # As on an App Service of its time: MSI_ENDPOINT with MSI_SECRET, and a date for the expiry.
    line = 'export MSI_ENDPOINT=$IDENTITY_ENDPOINT MSI_SECRET=$IDENTITY_HEADER; exec "$0" "$@"'
    check(place, "bash", "-c", line, python_of("azure-identity-1.5"), "-W", "ignore", "-c", SYNC)


ONLY_DEFAULT = SYNC.replace("(DefaultAzureCredential, ManagedIdentityCredential)", "(DefaultAzureCredential,)")
ONLY_DEFAULT_IN_JAVASCRIPT = JAVASCRIPT.replace(", new ManagedIdentityCredential(...options)]", "]")


@pytest.fixture(params=["Python 1.21", "Python 1.23", "Python 1.27", "JavaScript 4.13", "JavaScript 4.14"])
def default_azure_credential(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[list[str], dict[str, str], bool]:
    """A program with nothing but a DefaultAzureCredential: its command, its variables, and whether it can be held."""
    language, version = request.param.split()
    if language == "Python":
        return [python_of(f"azure-identity-{version}"), "-c", ONLY_DEFAULT], {}, version != "1.21"
    if version == "4.13":
        node, modules = "node", needs("@azure/identity").parent.parent
    else:
        node, modules = node_of("azure-identity-js-4.14")
    (tmp_path / "app.cjs").write_text(ONLY_DEFAULT_IN_JAVASCRIPT)
    variables = {"IDENTITY": str(modules / "@azure" / "identity"), "NODE_PATH": str(modules)}
    return [node, str(tmp_path / "app.cjs")], variables, True


def test_what_allow_refuses_a_default_azure_credential_does_not_get_from_az(
    place: tuple[str, str], default_azure_credential: tuple[list[str], dict[str, str], bool]
) -> None:
    command, variables, is_held = default_azure_credential
    # The refused one first: a chain that has succeeded once remembers where.
    done = run("run", "--allow", "search", "--", *command, ARM, SEARCH, **variables)
    refused, served = json.loads(done.stdout)
    assert served == place[1]
    # What the client says may not be the reason.
    assert f"azure-cloudshell: {ARM}: refused, not one of the resources that are allowed (--allow)\n" in done.stderr
    # azure-identity before 1.23 does not read AZURE_TOKEN_CREDENTIALS.
    assert ("Error: " in refused) if is_held else (refused == place[1])


def test_when_the_tab_has_died_a_default_azure_credential_does_not_get_another_users_token(
    in_cloud_shell: CloudShellEmulator,
    fake_az: str,
    tmp_path: Path,
    default_azure_credential: tuple[list[str], dict[str, str], bool],
) -> None:
    command, variables, is_held = default_azure_credential
    another = CloudShellEmulator(identity=Identity(user="grace@contoso.example", object_id="g")).issue(VAULT)[0]
    program = tmp_path / "bin" / "az"
    program.write_text(program.read_text().replace(fake_az, another))
    with CloudShellBroker(DefaultCloudShellCredential(timeout=1)) as broker:
        assert broker.get_token(f"{ARM}/.default")[0] == in_cloud_shell.issue(ARM)[0]
        in_cloud_shell.script(*[faults.portal_timeout()] * 100)
        environment = broker.child_environment({**os.environ, **variables})
        done = subprocess.run(
            [*command, VAULT], env=environment, capture_output=True, text=True, timeout=60, check=True
        )
    (refused,) = json.loads(done.stdout)
    assert ("Error: " in refused) if is_held else (refused == another)


@pytest.mark.parametrize("client_id", ["", CLIENT_ID], ids=["", "client_id"])
def test_azure_identity_for_javascript(place: tuple[str, str], tmp_path: Path, client_id: str) -> None:
    package = needs("@azure/identity")
    (tmp_path / "app.cjs").write_text(JAVASCRIPT)
    own = {"IDENTITY": str(package), "NODE_PATH": str(NODE_MODULES), "CLIENT_ID": client_id}
    check(place, "node", str(tmp_path / "app.cjs"), **own)


def test_msal(place: tuple[str, str], tmp_path: Path) -> None:
    check(place, sys.executable, "-c", MSAL)
    package = needs("@azure/msal-node")
    (tmp_path / "app.cjs").write_text(MSAL_NODE)
    check(place, "node", str(tmp_path / "app.cjs"), MSAL=str(package), NODE_PATH=str(NODE_MODULES))


@pytest.fixture
def box(in_cloud_shell: CloudShellEmulator, azurite: Azurite) -> Azurite:
    """A real blob service that has a container."""
    from azure.storage.blob import BlobServiceClient

    from azure_cloudshell_credential import CloudShellCredential

    with BlobServiceClient(azurite.account_url, CloudShellCredential(), connection_verify=azurite.ca_file) as service:
        if not service.get_container_client("box").exists():
            service.create_container("box")
    return azurite


OBSTORE = """
import sys, obstore
from obstore.store import AzureStore
store = AzureStore("box", account_name="devstoreaccount1", endpoint=sys.argv[1],
                   client_options={"allow_invalid_certificates": True})
obstore.put(store, "hello", b"stored")
print(bytes(obstore.get(store, "hello").bytes()).decode())
"""
OPTIONS = """
import sys
options = {"azure_storage_account_name": "devstoreaccount1", "azure_storage_endpoint": sys.argv[1],
           "allow_invalid_certificates": "true"}
"""
DELTALAKE = f"""{OPTIONS}
import pyarrow
from deltalake import DeltaTable, write_deltalake
write_deltalake("az://box/table", pyarrow.table({{"x": [1, 2]}}), storage_options=options, mode="overwrite")
print("stored" if DeltaTable("az://box/table", storage_options=options).to_pyarrow_table().num_rows == 2 else "lost")
"""
POLARS = f"""{OPTIONS}
import polars
settings = {{"storage_options": options, "credential_provider": None}}
polars.DataFrame({{"x": [1, 2]}}).write_parquet("az://box/frame.parquet", **settings)
print("stored" if polars.read_parquet("az://box/frame.parquet", **settings).shape == (2, 1) else "lost")
"""
PYARROW = """
import sys
from urllib.parse import urlsplit
from pyarrow import fs
host = urlsplit(sys.argv[1]).netloc
store = fs.AzureFileSystem("devstoreaccount1", blob_storage_authority=host, dfs_storage_authority=host)
with store.open_output_stream("box/hello.arrow") as stream: stream.write(b"stored")
print(store.open_input_stream("box/hello.arrow").read().decode())
"""


@pytest.mark.parametrize(
    "program", [OBSTORE, DELTALAKE, POLARS, PYARROW], ids=["obstore", "deltalake", "polars", "pyarrow"]
)
def test_data_frames_reach_a_real_blob_service(box: Azurite, program: str) -> None:
    done = run(
        "run", "--", python_of("data"), "-c", program, box.account_url,
        SSL_CERT_FILE=box.ca_file, HTTP_PROXY="http://127.0.0.1:9",
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "stored\n"), done.stderr


@pytest.mark.parametrize("program", [OBSTORE, DELTALAKE, POLARS], ids=["obstore", "deltalake", "polars"])
def test_data_frames_that_are_refused_a_token_print_no_secret(box: Azurite, program: str) -> None:
    show = 'printenv MSI_ENDPOINT IDENTITY_HEADER AZD_AUTH_KEY; exec "$@"'
    command = ["bash", "-c", show, "x", python_of("data"), "-c", program, box.account_url]
    done = run("run", "--allow", "vault", "--", *command, SSL_CERT_FILE=box.ca_file)
    url, header, key, *rest = done.stdout.splitlines()
    assert done.returncode != 0
    # They asked, and were refused.
    assert "--allow" in done.stderr
    shown = done.stderr + "".join(rest)
    assert not [secret for secret in (url.split("/")[3], header, key) if secret in shown]


TERRAFORM = """
terraform {
  backend "azurerm" {
    storage_account_name = "devstoreaccount1"
    container_name       = "box"
    key                  = "state"
    use_azuread_auth     = true
  }
}
resource "terraform_data" "x" { input = "hello" }
output "x" { value = terraform_data.x.output }
"""


@contextmanager
def account(azurite: Azurite, ca_file: Path) -> Iterator[Proxy]:
    """A proxy that leads to Azurite for the account's host, and nowhere else."""
    to = urlsplit(azurite.account_url)

    def respond(request: Request) -> Response:
        connection = http.client.HTTPSConnection(
            to.hostname or "", to.port, context=ssl.create_default_context(cafile=azurite.ca_file)
        )
        kept = {name: value for name, value in request.headers.items() if name not in ("host", "content-length")}
        connection.request(request.method, to.path + request.target, request.body, kept)
        reply = connection.getresponse()
        headers = {name.title(): value for name, value in reply.getheaders() if name.lower() not in HOP_BY_HOP}
        body = reply.read().decode()
        connection.close()
        return Response(reply.status, body, headers)

    with Proxy({"devstoreaccount1.blob.core.windows.net": respond}, ca_file) as proxy:
        yield proxy


HOP_BY_HOP = ("connection", "content-length", "date", "keep-alive", "transfer-encoding")


def test_a_terraform_backend_stores_its_state(box: Azurite, tmp_path: Path) -> None:
    if shutil.which("terraform") is None:
        pytest.skip("needs terraform on PATH")
    (tmp_path / "main.tf").write_text(TERRAFORM)
    (tmp_path / "rc").write_text("disable_checkpoint = true\n")
    line = f"cd {tmp_path} && terraform init -no-color -input=false && terraform apply -no-color -auto-approve"
    with account(box, tmp_path / "ca.pem") as proxy:
        settings = {**proxy.environment, "TF_CLI_CONFIG_FILE": str(tmp_path / "rc"), "ARM_USE_MSI": "true"}
        done = run("run", "--verbose", "--", "bash", "-c", line, **settings, CHECKPOINT_DISABLE="1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'x = "hello"' in done.stdout
    assert "https://storage.azure.com" in done.stderr
    assert "of ada@contoso.example" in done.stderr
