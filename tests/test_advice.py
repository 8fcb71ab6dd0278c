"""Every next step is true: what an error says to do is done, to the letter, and then there is a token.

A row is why there is no token, what is so with the Azure CLI, and who reads. Each way that the sentence names is done
by itself, in a world of its own with the fault still in it. What takes two errors, or another person, is in the row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from azure_cloudshell_credential.emulator import CloudShellEmulator

from .carrying_out import AnotherPerson, Operation, World, follow, told, ways

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


def of_requests() -> Iterator[Row]:
    """It is what was asked for, or where."""
    for reader in ("credential", "default", "token", "fallback"):
        yield from (Row("other tenant", az, reader) for az in ("signed out", "own"))
        yield Row("unusable endpoint", "signed out", reader)
        yield Row("unusable endpoint elsewhere", "signed out", reader)
    yield from (Row("another service", "signed out", reader) for reader in ("credential", "token"))
    yield from (Row("permission", "signed out", reader) for reader in ("credential", "default"))
    for az in ("signed out", "own", "signed in"):
        yield from (Row("claims", az, reader) for reader in ("credential", "default"))
    yield Row("claims elsewhere", "signed in", "default")
    yield Row("claims", "signed out", "led to default", ANOTHER_PERSON)
    yield Row("service principal", "signed out", "default")


def of_brokers() -> Iterator[Row]:
    yield Row("audience", "signed out", "led to credential")
    yield from (Row("audience", az, "led to default") for az in ("own", "mfa"))
    yield Row("audience", "signed out", "led to token")


ROWS = [*of_services(), *of_faults(), *of_requests(), *of_brokers()]
_NOT_ASYNC = ("token", "fallback", "program", "chain", "chain without az", "led to token")
FORMS = [(row, False) for row in ROWS] + [(row, True) for row in ROWS if row.reader not in _NOT_ASYNC]


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
        if after == sentence:
            return AZ_SAYS if operation.reader == "chain" else "the same again"
        follow(operation, ways(after)[-1])
        return "never" if told(operation) else TWO_ERRORS
    except AnotherPerson:
        return ANOTHER_PERSON


@pytest.mark.parametrize(("row", "is_async"), FORMS, ids=lambda value: str(value).replace("True", "async"))
def test_what_an_error_says_cures(emulator: CloudShellEmulator, row: Row, is_async: bool) -> None:
    carry_out(emulator, row, is_async=is_async)
