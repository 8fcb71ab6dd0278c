"""Public docstrings have the fields of azure-sdk's: every parameter, keyword and returned type."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest

from .test_generated import load

GENERATE = load("docs/generate.py")
AS_AZURE_SDK = ("azure_cloudshell_credential", "azure_cloudshell_credential.aio", "azure_cloudshell_credential.broker")
"""Where ``:rtype:`` is given too, as azure-identity does. In the emulator the annotation is enough."""

MODULES = (*AS_AZURE_SDK, "azure_cloudshell_credential.emulator", "azure_cloudshell_credential.emulator.faults")


def public(module: str) -> Iterator[tuple[str, Any]]:
    """Every public class, function and method of a module, with its name."""
    for name in GENERATE.public_names(import_module(module)):
        value = getattr(import_module(module), name)
        if not callable(value):
            continue
        yield name, value
        of_ours = [each for each in getattr(value, "__mro__", ()) if each.__module__.startswith(MODULES[0])]
        members = {key: member for each in reversed(of_ours) for key, member in vars(each).items()}
        for key, member in members.items():
            if not key.startswith("_") and (
                inspect.isfunction(member) or isinstance(member, (classmethod, staticmethod))
            ):
                yield f"{name}.{key}", getattr(member, "__func__", member)


def missing(value: Any, needs_returned_type: bool) -> list[str]:
    """The fields that a docstring lacks."""
    documented = inspect.getdoc(value) or ""
    signature = inspect.signature(value)
    fields = []
    for parameter in signature.parameters.values():
        if parameter.name in ("self", "cls") or parameter.kind is parameter.VAR_KEYWORD:
            continue
        kind = "keyword" if parameter.kind is parameter.KEYWORD_ONLY else "param"
        if not re.search(rf":{kind} ([^:]+ )?{parameter.name}:", documented):
            fields.append(f":{kind} {parameter.name}:")
    returned = signature.return_annotation
    returns_nothing = inspect.isclass(value) or returned in (inspect.Signature.empty, "None", "ServedT")
    if needs_returned_type and not returns_nothing and ":rtype:" not in documented:
        fields.append(":rtype:")
    return fields


@pytest.mark.parametrize("module", MODULES)
def test_no_field_is_missing(module: str) -> None:
    found = {name: missing(value, module in AS_AZURE_SDK) for name, value in public(module)}
    assert found
    assert {name: fields for name, fields in found.items() if fields} == {}
