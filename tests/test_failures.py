"""The table of failures: what the code says of each fits its sentences, and each is used."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import pytest

import azure_cloudshell_credential
from azure_cloudshell_credential._endpoint import failures
from azure_cloudshell_credential._endpoint.failures import duration, failure

TABLE = failures._TABLE["failures"]
PHRASES = failures._TABLE["phrases"]
NOT_WORDS = {"name", "resource", "code", "retry_after", *PHRASES}


def words_of(name: str) -> set[str]:
    """What the sentences of a failure leave open."""
    fields = Formatter().parse(TABLE[name]["what"] + TABLE[name]["advice"])
    return {field for _, field, _, _ in fields if field} - NOT_WORDS


def names_in(node: ast.expr, function: ast.AST) -> set[str]:
    """The names that an argument may be: a string, one of two, or a variable that was set so."""
    if isinstance(node, ast.Constant):
        return {str(node.value)}
    if isinstance(node, ast.IfExp):
        return names_in(node.body, function) | names_in(node.orelse, function)
    if isinstance(node, ast.Name):
        values = [each.value for each in ast.walk(function) if isinstance(each, ast.Assign)]
        return set().union(*(names_in(value, function) for value in values if isinstance(value, ast.IfExp)))
    # A reply that never came names its failure.
    assert ast.unparse(node) == "answer.failure"
    return {"unreachable", "no_answer", "busy"}


def calls() -> Iterator[tuple[str, set[str]]]:
    """Each call of ``failure`` in the package: the name of the failure, and the words that are said."""
    for path in Path(azure_cloudshell_credential.__file__).parent.rglob("*.py"):
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(function, ast.FunctionDef):
                continue
            for node in ast.walk(function):
                if isinstance(node, ast.Call) and ast.unparse(node.func) in ("failure", "failures.failure"):
                    words = {keyword.arg or "**" for keyword in node.keywords} - NOT_WORDS
                    yield from ((name, words) for name in names_in(node.args[0], function))


CALLS = list(calls())


@pytest.mark.parametrize("name", sorted(TABLE))
def test_the_code_says_each_failure_with_the_words_it_needs(name: str) -> None:
    said = [words for used, words in CALLS if used == name]
    assert said
    assert all(words >= words_of(name) for words in said)


def test_the_code_says_no_failure_that_is_not_in_the_table_and_no_word_in_vain() -> None:
    assert {name for name, _ in CALLS} == set(TABLE)
    for words in {frozenset(words) for _, words in CALLS}:
        assert words <= set().union(*(words_of(name) for name, said in CALLS if said == words))


@pytest.mark.parametrize("name", sorted(TABLE))
def test_each_failure_is_one_sentence_and_one_advice(name: str) -> None:
    entry = TABLE[name]
    assert set(entry) == {"kind", "what", "advice"}
    assert entry["what"].endswith((".", "{said}", "{reason}"))
    assert entry["advice"] == "" or entry["advice"].endswith((".", "}"))


def test_what_is_said_is_not_read_as_a_form() -> None:
    said = failure("unreachable", "{reason}", reason="{resource} {0} {")
    assert said.what == "The token request for {reason} failed: {resource} {0} {."


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (1, "1 second"),
        (0.1, "0.1 seconds"),
        (30, "30 seconds"),
        (299, "299 seconds"),
        (300, "5 minutes"),
        (600, "10 minutes"),
        (400, "6.7 minutes"),
        (3899, "65 minutes"),
        (7199, "120 minutes"),
        (7200, "2 hours"),
        (11_100, "3.1 hours"),
        (360_000, "100 hours"),
    ],
)
def test_a_number_is_a_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
    assert f" {text} " in failure("no_answer", "r", budget=seconds).what
