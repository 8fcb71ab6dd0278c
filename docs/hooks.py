"""For mkdocs: what stands beside docs/ is shown or led to."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

REPOSITORY = "https://github.com/azure-cloudshell-credential/azure-cloudshell-credential/blob/main"
CHART = "benchmarks/chart.svg"
CONSOLE = re.compile(r'<div class="language-console highlight">(.*?)</div>', re.DOTALL)
TAG = re.compile(r"<[^>]+>")
INLINE = re.compile(r"(?<=<code>)[^<]+(?=</code>)")
OPTION = re.compile(r"(?<!\S)-\S+")
WORD = r'<span class="word">\g<0></span>'
PROMPT = "$ "


def on_files(files: Any, config: Any, **_: object) -> Any:
    """Add the chart to the site."""
    chart = Path(config.config_file_path).parent / CHART
    files.append(File.generated(config, CHART, abs_src_path=str(chart)))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """The page, with links that work away from the repository too."""
    return re.sub(r"\]\(\.\./", f"]({REPOSITORY}/", markdown.replace(f"](../{CHART})", f"]({CHART})"))


def on_page_content(content: str, /, **_: object) -> str:
    """The page, whose lines end between the words of a command and not within ``--option``.

    Console blocks are copied without prompts and output: the theme's button takes ``data-copy`` where it is set.
    """
    content = CONSOLE.sub(lambda block: console(html.unescape(TAG.sub("", block[1])).splitlines()), content)
    return INLINE.sub(lambda code: OPTION.sub(WORD, code[0]), content)


def console(lines: list[str]) -> str:
    """A console block."""
    commands = "\n".join(line.removeprefix(PROMPT) for line in lines if line.startswith(PROMPT))
    shown = "\n".join(
        f'<span class="gp">{PROMPT}</span>{words(line.removeprefix(PROMPT))}'
        if line.startswith(PROMPT)
        else words(line)
        for line in lines
    )
    attributes = f'class="language-console highlight" data-copy="{html.escape(commands)}"'
    return f"<div {attributes}><pre><code>{shown}</code></pre></div>"


def words(line: str) -> str:
    """A line, with an element around each word."""
    return re.sub(r"\S+", WORD, html.escape(line))


def without_requests(output: str, **_: object) -> str:
    """The page without the theme's request for the repository's stars, which would go to GitHub from every reader."""
    return output.replace(' data-md-component="source"', "")


on_post_page = on_post_template = without_requests
