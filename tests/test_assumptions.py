"""What is assumed of the endpoint: the emulator does it, and a report compares an endpoint with it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import requests

from azure_cloudshell_credential._cli._known_words import allowed
from azure_cloudshell_credential._cli._progress import Progress
from azure_cloudshell_credential._cli._report import make_report
from azure_cloudshell_credential._endpoint.environment import Environment
from azure_cloudshell_credential._serving.messages import Request, Response
from azure_cloudshell_credential._serving.server import Server
from azure_cloudshell_credential.emulator import CloudShellEmulator, faults
from azure_cloudshell_credential.emulator._questions import ARM, Outcome
from azure_cloudshell_credential.emulator.behaviour import ASSUMED, Assumption, Behaviour, assumptions

from .conftest import CANARY

TABLE = tuple(assumptions())

TEAPOT = Outcome(418, "Teapot", "Short and stout")

OTHERWISE = Behaviour(
    token_status=203,
    token_fields=("access_token", "expires_in", "expires_on", "not_before", "refresh_token", "resource", "token_type"),
    token_types=("number", "string"),
    refresh_token_is_empty=False,
    token_type="mac",
    lifetime=7200,
    resource_echo="another spelling",
    content_type="text/html",
    json_is_compact=False,
    token_is_kept=False,
    expires_in_when_kept="the whole lifetime",
    audience_for_arm_without_slash="https://management.azure.com",
    get=TEAPOT,
    vm_path_get=TEAPOT,
    vm_path_post=TEAPOT,
    slash_after_path=TEAPOT,
    chunked_body=TEAPOT,
    body_without_content_type=TEAPOT,
    unknown_parameter=TEAPOT,
    metadata_capitalised=TEAPOT,
    audience_with_slash_added=Behaviour.unsupported_audience,
    no_metadata=TEAPOT,
    metadata_false=TEAPOT,
    no_resource=TEAPOT,
    unsupported_audience=TEAPOT,
    portal_timeout=Outcome(504, "GatewayTimeout", "The portal is late."),
    metadata_folder=TEAPOT,
    unknown_path=TEAPOT,
    other_method=TEAPOT,
)
"""What an endpoint might do instead."""

IMPLIED = {
    "audience_with_slash_added": {"audience_for_arm_without_slash"},
}


def report_on(endpoint: str, seconds: float = 5.0) -> dict[str, Any]:
    return make_report(Environment({"MSI_ENDPOINT": endpoint, "ACC_CLOUD": "PROD"}), seconds, Progress()).content


@pytest.fixture(scope="module")
def seasoned() -> Iterator[CloudShellEmulator]:
    """An emulator whose token for Resource Manager is some seconds old: then ``expires_in`` tells."""
    with CloudShellEmulator() as shell:
        shell.issue(ARM)
        time.sleep(3.1)
        yield shell


def test_an_emulator_as_assumed_is_the_same_in_every_row(seasoned: CloudShellEmulator) -> None:
    rows = report_on(seasoned.endpoint)["assumptions"]
    assert [row["about"] for row in rows] == [row.name for row in TABLE]
    for row in rows:
        if row["about"] == "portal_timeout":
            assert (row["seen"], row["same"]) == (None, None)
        else:
            assert (row["same"], row["seen"]) == (True, row["assumed"]), row


@pytest.mark.slow
@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_an_endpoint_that_differs_in_a_field_is_found_out(row: Assumption, seasoned: CloudShellEmulator) -> None:
    otherwise = getattr(OTHERWISE, row.name)
    assert otherwise != row.assumed
    assumed = replace(Behaviour(), **{row.name: otherwise})
    if row.name == "expires_in_when_kept":
        seasoned.assumed = assumed
        rows = report_on(seasoned.endpoint)["assumptions"]
        seasoned.assumed = Behaviour()
    else:
        with CloudShellEmulator(assumed=assumed) as shell:
            if row.question is None:
                # For one of the resources, after what the other fields ask.
                shell.script(*[faults.ScriptedReply()] * 30, faults.portal_timeout())
            rows = report_on(shell.endpoint)["assumptions"]
    (seen,) = [each["seen"] for each in rows if each["about"] == row.name]
    different = {each["about"] for each in rows if each["same"] is False}
    assert different - IMPLIED.get(row.name, set()) == {row.name}
    if isinstance(otherwise, Outcome):
        assert str(seen).startswith(str(otherwise.status))
        assert "Teapot" not in str(seen)
    else:
        shown = " ".join(otherwise) if isinstance(otherwise, tuple) else otherwise
        assert seen == (shown if shown != "mac" else "<3>")


def test_a_portal_that_does_not_answer_is_seen_wherever_it_happens(shell: CloudShellEmulator) -> None:
    shell.script(*[faults.portal_timeout()] * 2)
    rows = {each["about"]: each for each in report_on(shell.endpoint)["assumptions"]}
    assert rows["portal_timeout"]["same"] is True


def test_an_emulator_can_be_set_to_behave_otherwise_while_it_serves(shell: CloudShellEmulator) -> None:
    shell.assumed = OTHERWISE
    shell.script(faults.portal_timeout())
    answers = [requests.post(shell.endpoint, {"resource": ARM}, headers={"Metadata": "true"}) for _ in "ab"]
    assert [answer.status_code for answer in answers] == [504, 203]
    assert answers[1].json()["expires_in"] == OTHERWISE.lifetime


def test_a_report_on_a_silent_portal_stops_soon_and_says_so(shell: CloudShellEmulator) -> None:
    with shell.failing(faults.portal_timeout()):
        report = report_on(shell.endpoint)
    assert len(shell.requests) == 3
    assert re.fullmatch(
        r"the portal did not answer 3 requests in a row: 3 of \d{3} requests were sent", report["stopped"]
    )


def test_a_report_goes_on_as_long_as_the_portal_answers_now_and_then(shell: CloudShellEmulator) -> None:
    for _ in range(9):
        shell.script(*[faults.portal_timeout()] * 2, faults.ScriptedReply())
    report = report_on(shell.endpoint)
    assert len(shell.requests) > 100
    assert report["stopped"] is None


def test_nothing_is_asked_twice_but_what_is_asked_again(shell: CloudShellEmulator) -> None:
    report = report_on(shell.endpoint)
    asked = [(each.method, each.path, str(each.headers), str(each.parameters)) for each in shell.requests]
    # The plain question again, and with a slash at the end of the path, which is not kept.
    assert len(asked) == len(set(asked)) + 2
    resources = [answer["resource"] for answer in report["answers"]]
    assert len(resources) == len(set(resources)) > 60


def test_every_row_has_a_source_or_is_called_assumed() -> None:
    issue = re.compile(r"([\w.-]+/)?[\w.-]+#\d+|azure/cloud-shell/[\w-]+")
    for row in TABLE:
        assert row.source == ASSUMED or issue.fullmatch(row.source), row
    assert {row.source == ASSUMED for row in TABLE} == {True, False}


NAMES = [
    "Ada Example",
    "Zoë Müller-Lüdenscheidt",
    "山田 太郎",
    "Иван Петров",
    "ada@contoso.example",
    "ada_contoso.example#EXT#@fabrikam.onmicrosoft.com",
    "fabrikam.onmicrosoft.com",
    "Contoso Pay-As-You-Go",
    "11111111-aaaa-4bbb-8ccc-222222222222",
    "11111111aaaa4bbb8ccc222222222222",
    "/subscriptions/abcdef01-2345-4567-9abc-def012345678/resourceGroups/payroll",
    "203.0.113.77",
    "2001:db8::7:77",
    "https://contoso.sharepoint.example/sites/hr",
    "SandboxHost-638000000000000000",
    "+49 89 1234567",
    CANARY,
    "eyJhbGciOiJub25lIn0.eyJ1cG4iOiJhIn0.c2ln",
    "\x1b]0;title\x07",
    "a\nforged: line",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_report_names_nobody_wherever_the_endpoint_puts_it(name: str) -> None:
    header = name.encode("ascii", "ignore").decode() or "x"
    printable = "".join(character for character in header if character.isprintable())
    tokenish = re.sub(r"[^\w-]", "-", printable, flags=re.ASCII) or "x"

    def respond(request: Request) -> Response:
        bodies: list[object] = [
            {"error": {"code": name, "message": f"Audience {name} is not a supported MSI token audience."}},
            {"error": {"code": "invalid_request", "message": f"AADSTS50020: User '{name}' ({name}) in tenant {name}."}},
            {"error": name, "error_description": name},
            {"error": {"code": {name: name}, "message": [name]}},
            {
                name: name,
                "access_token": name,
                "expires_on": name,
                "not_before": 1,
                "token_type": name,
                "resource": name,
            },
            {"access_token": "t", "expires_on": "4915112345678", "not_before": "0", "expires_in": 4915112345678},
            [name],
            name,
        ]
        body = bodies[len(asked) % len(bodies)]
        asked.append(request)
        text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=len(asked) % 2 == 0)
        status = 200 if len(asked) % 3 else 400
        return Response(status, text, {"Content-Type": printable, f"X-{tokenish}": printable, "Server": printable})

    asked: list[Request] = []
    server = Server(respond)
    server.start()
    try:
        report = report_on(f"http://127.0.0.1:{server.port}/oauth2/token")
    finally:
        server.stop()
    text = json.dumps(report, ensure_ascii=False)
    assert len(asked) > 60
    for part in {name, *re.findall(r"[^\s/@.:_-]{3,}", name)} - {"com", "https", "token"}:
        assert not re.search(rf"(?<!\w){re.escape(part)}(?!\w)", text, re.IGNORECASE), part
    assert "4915112345678" not in text
    assert "AADSTS50020" in text
    assert text.isprintable()


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("Timeout waiting for token from portal. Audience: https://vault.azure.net", None),
        ("Audience https://azconfig.io/ is not a supported MSI token audience.", None),
        (
            "Audience https://contoso.example/ is not a supported MSI token audience.",
            "Audience <24> is not a supported ",
        ),
        ("AADSTS50076: Due to contoso", "AADSTS50076: <3> to <7>"),
        ("Ask ada at token-contoso.example", "<32>"),
        ("https://vault.azure.net.evil.example", "<36>"),
        ("tokens", "<6>"),
        ("", ""),
        (7, None),
        (12345678901, "<11>"),
    ],
)
def test_only_known_words_are_shown(said: str | int, shown: str | None) -> None:
    result = allowed(said)
    assert result == said if shown is None else str(result).startswith(shown)
