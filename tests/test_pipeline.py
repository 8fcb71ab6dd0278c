"""The loopback exchange as azure-core's transport, and the reply it makes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ServiceRequestError
from azure.core.pipeline.transport import HttpResponse
from azure.core.rest import HttpRequest

from azure_cloudshell_credential._azure.pipeline import LoopbackTransport, WholeResponse
from azure_cloudshell_credential._endpoint.environment import Endpoint
from azure_cloudshell_credential._endpoint.protocol import Reply
from azure_cloudshell_credential.emulator import CloudShellEmulator, faults

from .command import without_coverage
from .conftest import CANARY


def response(status: int = 200, body: bytes = b'{"a":"\xc3\xa4"}') -> WholeResponse:
    return WholeResponse(
        HttpRequest("POST", "http://localhost/x"), Reply(status, {"content-type": "text/x", "x-token": "A1" * 40}, body)
    )


def test_a_whole_response_is_one_of_azure_cores() -> None:
    reply = response()
    assert isinstance(reply, HttpResponse)
    assert (reply.status_code, reply.reason, reply.content_type) == (200, "", "text/x")
    assert (reply.request.method, reply.request.url) == ("POST", "http://localhost/x")
    assert reply.json() == {"a": "ä"}
    assert reply.content == reply.body() == b'{"a":"\xc3\xa4"}'


def test_a_token_in_its_headers_is_taken_out() -> None:
    assert response().headers["X-Token"] == "[redacted]"


def test_its_text_is_decoded_as_asked() -> None:
    reply = response(body=b"\xef\xbb\xbf\xc3\xa4")
    assert reply.text() == "ä"
    assert reply.text("latin-1") == "ï»¿Ã¤"


def test_its_status_is_raised_without_the_body() -> None:
    response(399).raise_for_status()
    with pytest.raises(HttpResponseError) as raised:
        response(400, CANARY.encode()).raise_for_status()
    assert CANARY not in str(raised.value)
    assert CANARY not in repr(response(400, CANARY.encode()))


def request(url: str) -> HttpRequest:
    return HttpRequest("POST", url, headers={"Metadata": "true"}, content=b"resource=r")


OPTIONS: dict[str, Any] = {"connection_timeout": 1, "read_timeout": 0.3}


def test_the_transport_raises_what_azure_cores_do(shell: CloudShellEmulator) -> None:
    with LoopbackTransport(Endpoint("http://127.0.0.1:9/oauth2/token")) as transport:
        assert transport.send(request(shell.endpoint), **OPTIONS).status_code == 400
        with pytest.raises(ServiceRequestError, match="connection to localhost:9 failed"):
            transport.send(request("http://localhost:9/"), **OPTIONS)
        shell.script(faults.hang())
        with pytest.raises(ServiceRequestError, match="it did not answer in time"):
            transport.send(request(shell.endpoint), **OPTIONS)


RECORDED = """
import sys
from azure_cloudshell_credential._azure.pipeline import make_send
from azure_cloudshell_credential._endpoint.acquisition import RetryPolicy, ask_endpoint
from azure_cloudshell_credential._endpoint.environment import Endpoint

endpoint = Endpoint(sys.argv[1])
send = make_send(endpoint, {})
started = []
watched = ("import", "subprocess", "os.")
sys.addaudithook(lambda event, arguments: started.append(event) if event.startswith(watched) else None)
outcome = ask_endpoint("https://management.azure.com", send, RetryPolicy(), endpoint)
assert outcome.expires_on, outcome
print(started)
"""


def test_while_a_request_is_sent_nothing_is_imported_and_no_program_started(shell: CloudShellEmulator) -> None:
    # A process that forks meanwhile would leave its child with an import lock that nobody releases.
    done = subprocess.run(
        [sys.executable, "-c", RECORDED, shell.endpoint],
        env=without_coverage(),
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "[]\n"


@pytest.mark.skipif(sys.platform == "win32", reason="the recorder is a shell script")
def test_no_program_on_path_is_started_on_the_way_to_a_token(shell: CloudShellEmulator, tmp_path: Path) -> None:
    for name in ("uname", "lsb_release", "ver", "cmd", "sh", "file"):
        recorder = tmp_path / name
        recorder.write_text(f"#!/bin/sh\necho {name} >>{tmp_path}/started\n")
        recorder.chmod(0o755)
    program = (
        "from azure_cloudshell_credential import CloudShellCredential as C\n"
        "print(C().get_token('https://management.azure.com/.default').expires_on)"
    )
    environment = {**without_coverage(), **shell.environment, "PATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, check=True, capture_output=True, text=True, timeout=60
    )
    assert int(done.stdout)
    assert not (tmp_path / "started").exists()
