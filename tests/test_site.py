"""The documentation's site, built as it is published: what its buttons copy, and whom a reader's browser asks."""

from __future__ import annotations

import os
import subprocess
import sys
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import pytest

from .test_documentation import BLOCK

ROOT = Path(__file__).parent.parent

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("mkdocs") is None, reason="needs the group docs"),
    pytest.mark.xdist_group("site"),
]


class Page(HTMLParser):
    """What a page loads, and what the buttons of its console blocks copy."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.copied: list[str | None] = []
        self.loaded: list[str] = []
        self.components: list[str] = []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if "language-console" in (attributes.get("class") or ""):
            self.copied.append(attributes.get("data-copy"))
        if tag in ("img", "script", "iframe") or (tag == "link" and attributes.get("rel") == "stylesheet"):
            self.loaded.append(attributes.get("src") or attributes.get("href") or "")
        self.components.append(attributes.get("data-md-component") or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, check=True, timeout=100)
    return folder


def test_a_console_block_is_copied_without_prompts_and_output(site: Path) -> None:
    blocks = 0
    for page in sorted((ROOT / "docs").glob("*.md")):
        texts = [match[2] for match in BLOCK.finditer(page.read_text(encoding="utf-8")) if match[1] == "console"]
        shown = site / ("" if page.stem == "index" else page.stem) / "index.html"
        commands = ["\n".join(line[2:] for line in text.splitlines() if line.startswith("$ ")) for text in texts]
        assert Page(shown).copied == commands
        blocks += len(commands)
    assert blocks > 10


def test_a_page_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 8
    for page in map(Page, pages):
        assert page.loaded
        assert [address for address in page.loaded if "//" in address] == []
        # The theme asks GitHub for the repository's stars where it finds this one.
        assert "source" not in page.components
        assert "container" in page.components
