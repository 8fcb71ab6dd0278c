"""Every next step is true: what an error says to do is done, to the letter, and then there is a token.

A row is why there is no token, what is so with the Azure CLI, and who reads. Each way that the sentence names is done
by itself, in a world of its own with the fault still in it. What takes two errors, or another person, is in the row.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytest

from azure_cloudshell_credential._endpoint import advice, audiences, azure_cli
from azure_cloudshell_credential._endpoint.azure_cli import SIGNED_OUT, AzureCli
from azure_cloudshell_credential.emulator import CloudShellEmulator

from .carrying_out import CAUSES, VAULT, AnotherPerson, Operation, Told, World, follow, told, ways
from .command import run
from .test_failures import MAKERS, sample

TWO_ERRORS = "two errors"
"""The next error names what cures: this reader could not know of it, since nobody asks az for it."""
ANOTHER_PERSON = "another person"
"""Somebody else has to act, or nobody can: the sentence says so."""
AZ_SAYS = "az says"
"""In a chain of the user's own, where az has been asked: what az says stands behind it."""


class Row(NamedTuple):
    cause: str
    az: str
    reader: str
    ends: str = ""

    def __str__(self) -> str:
        return f"{self.cause}, az {self.az}, {self.reader}"


ASKS = ("default", "fallback", "program")
"""Readers whose az has been asked."""
IS_ASKED = {
    "absent": "",
    "signed out": "",
    "slow": "",
    "broken": "",
    "not executable": "",
    "expired": "",
    "expired-old-az": "",
    "mfa": "",
    "consent": ANOTHER_PERSON,
    "conditional-access": ANOTHER_PERSON,
    "not-in-tenant": ANOTHER_PERSON,
    "left out": "",
    "left out, signed out": "",
}
IS_NOT_ASKED = {
    "absent": "",
    "signed out": "",
    "signed in": "",
    "left out": "",
    "left out, signed out": "",
    "mfa": TWO_ERRORS,
    "slow": TWO_ERRORS,
}


def of_services() -> Iterator[Row]:
    """Cloud Shell is not there, or has no token for the service and never will."""
    for cause in ("not Cloud Shell", "audience"):
        own = {"own": ""} if cause == "audience" else {}
        for reader in ASKS:
            for az, ends in {**IS_ASKED, **own}.items():
                if not (reader == "program" and az.startswith("left out")):
                    yield Row(cause, az, reader, ends)
        for reader in ("credential", "token", "chain without az"):
            yield from (Row(cause, az, reader, ends) for az, ends in {**IS_NOT_ASKED, **own}.items())
        yield from (Row(cause, az, "chain") for az in ("absent", "signed out", *own))
        yield from (Row(cause, az, "chain", AZ_SAYS) for az in ("expired", "mfa", "consent"))


def of_faults() -> Iterator[Row]:
    """Cloud Shell has no token this time."""
    for cause in ("portal", "no answer", "unreachable", "entra", "server error", "garbage"):
        for reader in ASKS:
            yield from (Row(cause, az, reader) for az in ("signed out", "own", "mfa", "absent"))
        for reader in ("credential", "token"):
            yield from (Row(cause, az, reader) for az in ("signed out", "own", "signed in", "absent"))
        yield from (Row(cause, "signed out", f"led to {reader}") for reader in ("credential", "default", "token"))
    yield from (Row("portal", az, "default") for az in ("consent", "slow", "left out"))
    yield from (Row(cause, "excluded", "default") for cause in ("not Cloud Shell", "audience"))


def of_requests() -> Iterator[Row]:
    """It is what was asked for, or where."""
    for reader in ("credential", "default", "token", "fallback"):
        yield from (Row("other tenant", az, reader) for az in ("signed out", "own"))
        yield Row("unusable endpoint", "signed out", reader)
        yield Row("unusable endpoint elsewhere", "signed out", reader)
    yield from (Row("another service", "signed out", reader) for reader in ("credential", "token"))
    for reader in ("credential", "default", "token", "fallback", "program"):
        yield Row("wrong scope", "signed in", reader)
        yield Row("wrong scope (path)", "signed in", reader)
    yield from (Row("wrong scope elsewhere", "signed in", reader) for reader in ASKS)
    yield from (Row("unknown resource", "signed in", reader, ANOTHER_PERSON) for reader in ASKS)
    yield from (Row("cleared", "signed out", reader) for reader in ("credential", "token"))
    for az in ("signed out", "own", "signed in", "absent"):
        yield from (Row("claims", az, reader) for reader in ("credential", "default"))
    yield Row("claims elsewhere", "signed in", "default")
    yield Row("claims", "signed out", "led to default", ANOTHER_PERSON)
    yield Row("service principal", "signed out", "default")
    yield from (Row("clock", "signed out", reader) for reader in ("credential", "default", "token"))
    yield from (Row("mixed up", "signed out", reader) for reader in ("credential", "default"))
    yield from (Row("after a first token", az, "default") for az in ("expired", "mfa", "expired-old-az"))
    yield Row("after a first token", "consent", "default", ANOTHER_PERSON)
    yield Row("another identity", "signed in as grace", "default")


def of_brokers() -> Iterator[Row]:
    yield Row("audience", "signed out", "led to credential")
    yield from (Row("audience", az, "led to default") for az in ("own", "mfa"))
    yield Row("audience", "signed out", "led to token")
    for cause in ("broker gone", "another secret", "other tenant"):
        yield from (Row(cause, "signed out", f"led to {reader}") for reader in ("credential", "default", "token"))


ROWS = [*of_services(), *of_faults(), *of_requests(), *of_brokers()]
_NOT_ASYNC = ("token", "fallback", "program", "chain", "chain without az", "led to token")
FORMS = [(row, False) for row in ROWS] + [(row, True) for row in ROWS if row.reader not in _NOT_ASYNC]


def is_in_the_fast_suite(row: Row, is_async: bool) -> bool:
    """One of each kind: every state of az for one cause, and every cause for one state, for who asks az."""
    if is_async or row.az in ("slow", "not executable") or row.cause in ("no answer", "unreachable", "garbage"):
        return False
    if row.reader in ("default", "fallback"):
        return row.cause == "audience" or row.az == "signed out"
    return row.az == "signed out" and row.cause in ("audience", "portal", "claims", "not Cloud Shell")


@pytest.fixture(scope="module")
def emulator() -> Iterator[CloudShellEmulator]:
    with CloudShellEmulator() as shell:
        yield shell


def carry_out(emulator: CloudShellEmulator, row: Row, *, is_async: bool) -> None:
    """Provoke, read, do, repeat: for each way that the sentence names."""
    number, count = 0, 1
    while number < count:
        with World(emulator, row.az, row.cause) as world:
            operation = Operation(world, row.reader, is_async=is_async)
            sentence = told(operation)
            assert sentence, f"no advice, or no error: {sentence!r}"
            found = ways(sentence)
            count = len(found)
            assert count <= 2, sentence
            ending = ended(operation, found[number], sentence)
            assert ending == row.ends, f"{ending or 'cured'}, not {row.ends or 'cured'}: {sentence}"
        number += 1


def ended(operation: Operation, steps: Any, sentence: str) -> str:
    """How it ends for who does these steps."""
    try:
        follow(operation, steps)
        after = told(operation)
        if after is None:
            return ""
        if after == sentence and operation.reader == "chain":
            with pytest.raises(Told, match="AzureCliCredential: ERROR: AADSTS"):
                operation()
            return AZ_SAYS
        if after == sentence:
            return "the same again"
        follow(operation, ways(after)[-1])
        return "never" if told(operation) else TWO_ERRORS
    except AnotherPerson:
        return ANOTHER_PERSON


@pytest.mark.parametrize(
    ("row", "is_async"),
    [pytest.param(*form, marks=[] if is_in_the_fast_suite(*form) else pytest.mark.slow) for form in FORMS],
    ids=lambda value: str(value) if isinstance(value, Row) else "async" if value else "sync",
)
def test_what_an_error_says_cures(emulator: CloudShellEmulator, row: Row, is_async: bool) -> None:
    carry_out(emulator, row, is_async=is_async)


# The doctor has not been told what will ask: it names the ways to use a sign-in, and each of them is tried.

OF_DOCTOR = [
    (cause, az)
    for cause in ("not Cloud Shell", "audience")
    for az in ("absent", "signed out", "signed in", "left out", "left out, signed out")
] + [("audience", "own"), ("portal", "signed in"), ("portal", "signed out"), ("unreachable", "absent")]


@pytest.mark.parametrize(("cause", "az"), OF_DOCTOR)
def test_what_doctor_says_cures(emulator: CloudShellEmulator, cause: str, az: str) -> None:
    with World(emulator, az, cause) as world:
        done = world.doctor("--timeout", "5" if az != "slow" else "1")
        (line,) = [line for line in done if advice._USERS in line]
        step = line.partition(f": {advice._USERS}")[0].rpartition(". ")[2]
        if not step.startswith("The Azure CLI is signed in"):
            way = ways(step.partition("are refused. ")[2] or step)[-1]
            follow(Operation(world, "default", is_async=False), way)
        for reader in ("default", "fallback", "program"):
            assert told(Operation(world, reader, is_async=False)) is None, line


# Programs in processes of their own, as they are started.

DEFAULT_AZURE = f"""
from azure.identity import DefaultAzureCredential
try:
    print(DefaultAzureCredential().get_token("{VAULT}/.default").token)
except Exception as error:
    print(getattr(error, "message", error))
"""
OURS = DEFAULT_AZURE.replace("from azure.identity", "from azure_cloudshell_credential").replace(
    "DefaultAzureCredential", "DefaultCloudShellCredential"
)
PROGRAMS = {
    "run": ("run", "--", sys.executable, "-c", DEFAULT_AZURE),
    "run, with our credential": ("run", "--", sys.executable, "-c", OURS),
    "run token": ("run", "--", sys.executable, "-m", "azure_cloudshell_credential", "token", "vault"),
    "token": ("token", "vault", "--fallback"),
}


@pytest.mark.slow
@pytest.mark.parametrize("cause", ["not Cloud Shell", "audience"])
@pytest.mark.parametrize("az", ["signed out", "mfa", "expired-old-az"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_what_a_program_is_told_cures(emulator: CloudShellEmulator, cause: str, az: str, program: str) -> None:
    with World(emulator, az, cause) as world:

        def start() -> str:
            done = run(*PROGRAMS[program])
            return done.stdout or done.stderr

        said = start()
        (sentence,) = re.findall(r"Run 'az login[^']*'(?: where azure-cloudshell was started)?", said)
        assert ("where azure-cloudshell" in sentence) == program.startswith("run")
        (way,) = ways(sentence)
        follow(Operation(world, "default", is_async=False), way)
        assert start().count(".") == 2


# What stands in the documentation.

PAGE = Path(__file__).parent.parent / "docs" / "troubleshooting.md"
OF_PAGE = {
    "This is not Azure Cloud Shell": ["not Cloud Shell"],
    "but its variables are missing": ["cleared_environment"],
    "MSI_ENDPOINT is not Cloud Shell's": ["unusable endpoint"],
    "The token request for … failed": ["unreachable"],
    "did not answer within …": ["no answer"],
    "from the Azure portal in your browser": ["portal"],
    "Cloud Shell does not issue tokens for … (AudienceNotSupported)": ["audience", "wrong scope"],
    "Microsoft Entra ID did not issue a token": ["entra"],
    "endpoint answered …": ["server error", "redirected"],
    "returned an unusable response": ["garbage", "clock"],
    "with a token for …": ["mixed up"],
    "was not sent": ["busy", "not_run"],
    "from inside another token request": ["nested"],
    "was broken off": ["broken_off"],
    "claims challenge": ["claims"],
    "scopes of several resources": ["several_resources"],
    "proof-of-possession token": ["pop_not_supported"],
    "in tenant … was requested": ["other tenant"],
    "Another credential has a token for …, but as …": ["another identity"],
    "Cloud Shell's token does not tell whether that name is one of its tenant's": ["tenant_by_name"],
}
"""For each section the causes of its sentences, in order. A function in ``failures`` is one that is not provoked."""


def sentences_of_page() -> dict[str, list[str]]:
    sections = re.split(r"^### ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    quoted = re.compile(r"(?:^> .+\n?)+", re.MULTILINE)
    found = {
        section.partition("\n")[0]: [
            " ".join(line.removeprefix("> ") for line in quote.strip().splitlines())
            for quote in quoted.findall(section)
        ]
        for section in sections
    }
    return {heading: sentences for heading, sentences in found.items() if sentences}


def test_each_section_of_troubleshooting_has_its_sentence() -> None:
    assert {heading: len(found) for heading, found in sentences_of_page().items()} == {
        heading: len(causes) for heading, causes in OF_PAGE.items()
    }


@pytest.mark.parametrize(
    ("heading", "number"), [(each, n) for each, causes in OF_PAGE.items() for n in range(len(causes))]
)
def test_troubleshooting_says_what_the_error_says(emulator: CloudShellEmulator, heading: str, number: int) -> None:
    """The sentence is that of a row, which does it."""
    cause, said = OF_PAGE[heading][number], sentences_of_page()[heading][number]
    if cause in CAUSES:
        az = {"another identity": "signed in as grace", "wrong scope": "signed in"}.get(cause, "signed out")
        assert Row(cause, az, "default") in ROWS
        with World(emulator, az, cause) as world:
            sentence = told(Operation(world, "default", is_async=False)) or ""
    else:
        failure = sample(MAKERS[cause])
        sentence = advice.sentence_for(failure.cure, advice.DEFAULT, AzureCli(SIGNED_OUT), failure.details)
    assert re.fullmatch(re.escape(said).replace("…", r"[\w=-]+"), sentence), sentence


# The test itself.


def mutants() -> dict[str, tuple[Row, Any]]:
    """Wrong sentences, each with a row that it is found in."""

    def put(table: Any, key: str, value: object) -> Any:
        return lambda: mock.patch.dict(table, {key: value})

    def name(target: Any, attribute: str, value: object) -> Any:
        return lambda: mock.patch.object(target, attribute, value)

    signed_out = AzureCli(SIGNED_OUT)
    credential = Row("audience", "signed out", "credential")
    return {
        "sign in, to a class that never asks az": (credential, put(advice._REACH, advice.CREDENTIAL, "")),
        "restart, where the tab sleeps": (
            Row("portal", "signed out", "default"),
            put(advice._FIRST, "tab", "restart Cloud Shell"),
        ),
        "any sign-in, for multi-factor authentication": (
            Row("not Cloud Shell", "mfa", "default"),
            name(azure_cli, "az_that_said", lambda text: signed_out),
        ),
        "sign in, without consent": (Row("not Cloud Shell", "consent", "default", ANOTHER_PERSON), put_none()),
        "an administrator, where a sign-in does": (
            Row("not Cloud Shell", "mfa", "default"),
            put(advice._REMEDIES, "50076", "ask an administrator of the tenant"),
        ),
        "run az, which is not there": (
            Row("audience", "absent", "token"),
            name(azure_cli, "_az_in_profile", lambda environ: signed_out),
        ),
        "the challenged token again": (
            Row("claims", "signed out", "default"),
            name(advice, "_WITHOUT_CLOUD_SHELL", "DefaultCloudShellCredential"),
        ),
        "a keyword of another class": (
            Row("audience", "signed out", "token"),
            put(advice._REACH, advice.TOKEN, "pass process_timeout=120"),
        ),
        "three ways": (
            Row("portal", "signed out", "default"),
            put(advice._FIRST, "tab", "try again, or restart Cloud Shell"),
        ),
        "one way that does not cure": (
            Row("server error", "signed out", "default"),
            put(advice._FIRST, "again", "restart Cloud Shell"),
        ),
        "nothing to do": (Row("clock", "signed out", "default"), put(advice._FROM_DETAILS, "clock", "")),
        "words that nobody can do": (
            Row("clock", "signed out", "default"),
            put(advice._FROM_DETAILS, "clock", "see the documentation"),
        ),
        "sign in, for a wrong scope": (
            Row("wrong scope", "signed in", "default"),
            name(audiences, "meant_by", lambda resource, **_: None),
        ),
        "restart Cloud Shell, where the broker is gone": (
            Row("broker gone", "signed out", "led to default"),
            put(advice._LED, "restart", "restart Cloud Shell"),
        ),
    }


def put_none() -> Any:
    return lambda: mock.patch.object(advice, "_REMEDIES", {})


@pytest.mark.parametrize("name", mutants())
def test_a_wrong_sentence_is_found(emulator: CloudShellEmulator, name: str) -> None:
    row, change = mutants()[name]
    assert row in ROWS
    with change(), pytest.raises(AssertionError):
        carry_out(emulator, row, is_async=False)


# Nowhere else.

PACKAGE = Path(advice.__file__).parent.parent
ADVICE = re.compile(r"az login|[Tt]ry again|[Rr]estart Cloud Shell|[Kk]eep the browser tab|[Ss]ign in (?:again|with)")
ALLOWED = {
    "_endpoint/advice.py": "the place",
    "_endpoint/azure_cli.py": "what azure-identity and az say",
    "_azure/explanation.py": "the same",
    "emulator/_az_words.py": "what az says",
    "_cli/_doctor_tools.py": "how az gets its tokens",
    "_cli/_parser.py": "the help of run",
    "_cli/token.py": "the help of --fallback",
}


def texts_of(path: Path) -> Iterator[str]:
    """The texts in a module, without its docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    statements = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in statements:
            yield node.value


def test_no_sentence_of_advice_is_written_elsewhere() -> None:
    modules = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
    found = {name for name, path in modules.items() if any(ADVICE.search(text) for text in texts_of(path))}
    assert found == set(ALLOWED)


def test_each_cause_is_in_a_row() -> None:
    assert {row.cause for row in ROWS} == set(CAUSES)
