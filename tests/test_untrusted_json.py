"""JSON that others wrote is a value or None, whatever it holds and wherever it is."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from azure_cloudshell_credential._endpoint.untrusted_json import MAX_FILE, read_json, read_json_file

NESTED = "[" * 200_000


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": [1]}', {"a": [1]}),
        (b'{"a": [1]}', {"a": [1]}),
        ("\ufeff[1]", [1]),
        (b"\xef\xbb\xbf[1]", [1]),
        ("7", 7),
        ('"\\ud800"', "\ud800"),
        ("null", None),
        ("", None),
        (b"", None),
        ("{", None),
        (b"\xff\xfe[1]", None),
        ("[1]".encode("utf-16"), None),
        (NESTED, None),
        (NESTED.encode(), None),
        ('{"a":' * 100_000, None),
        ("1" * 5000, None),
    ],
)
def test_a_text_holds_a_value_or_nothing(text: str | bytes, value: object) -> None:
    assert read_json(text) == value


@given(st.text() | st.binary())
def test_no_text_raises(text: str | bytes) -> None:
    read_json(text)


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps({"subscriptions": []}).encode())
    assert read_json_file(str(path)) == {"subscriptions": []}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", NESTED.encode()], ids=["empty", "cut", "binary", "nested"])
def test_a_file_that_is_not_json_holds_nothing(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert read_json_file(str(path)) is None


def test_what_cannot_be_read_holds_nothing(tmp_path: Path) -> None:
    for path in (str(tmp_path), str(tmp_path / "missing"), "a\x00b", "", "/dev/zero", "/dev/null"):
        assert read_json_file(path) is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    start = time.monotonic()
    assert read_json_file(str(tmp_path / "pipe")) is None
    assert time.monotonic() - start < 5


def test_of_a_file_without_end_no_more_is_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(MAX_FILE + 1)
    assert read_json_file(str(path)) is None


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="this system has no file that fails to be read")
def test_a_file_that_fails_while_it_is_read_holds_nothing() -> None:
    assert read_json_file("/proc/self/mem") is None
