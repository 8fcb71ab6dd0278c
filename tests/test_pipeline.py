"""The loopback exchange as azure-core's transport, and the reply it makes."""

from __future__ import annotations

from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ServiceRequestError, ServiceResponseTimeoutError
from azure.core.rest import HttpRequest, HttpResponse

from azure_cloudshell_credential._azure.pipeline import BufferedResponse, LoopbackTransport
from azure_cloudshell_credential.emulator import CloudShellEmulator, faults

from .conftest import CANARY


def response(status: int = 200, body: bytes = b'{"a":"\xc3\xa4"}') -> BufferedResponse:
    return BufferedResponse(HttpRequest("POST", "http://localhost/x"), status, {"content-type": "text/x"}, body)


def test_a_buffered_response_is_one_of_azure_cores() -> None:
    reply = response()
    assert isinstance(reply, HttpResponse)
    assert (reply.status_code, reply.reason, reply.content_type, reply.url) == (200, "", "text/x", "http://localhost/x")
    assert reply.request.method == "POST"
    assert reply.json() == {"a": "ä"}
    assert reply.content == reply.read() == b"".join(reply.iter_raw()) == b"".join(reply.iter_bytes())
    assert reply.is_closed
    assert reply.is_stream_consumed
    with reply as entered:
        assert entered is reply


def test_its_text_is_decoded_as_asked() -> None:
    reply = response(body=b"\xef\xbb\xbf\xe4")
    assert reply.text() == "\N{REPLACEMENT CHARACTER}"
    assert reply.text("latin-1") == "ï»¿ä"
    assert reply.encoding is None
    reply.encoding = "latin-1"
    assert reply.text() == "ï»¿ä"


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
    with LoopbackTransport() as transport:
        assert transport.send(request(shell.endpoint), **OPTIONS).status_code == 400
        with pytest.raises(ServiceRequestError, match="connection refused by localhost:9"):
            transport.send(request("http://localhost:9/"), **OPTIONS)
        shell.script(faults.hang())
        with pytest.raises(ServiceResponseTimeoutError):
            transport.send(request(shell.endpoint), **OPTIONS)


def test_the_aio_package_has_no_other_names() -> None:
    from azure_cloudshell_credential import aio

    with pytest.raises(AttributeError, match="has no attribute 'Nonsense'"):
        aio.Nonsense  # noqa: B018
