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


def on_files(files: Any, config: Any, **_: object) -> Any:
    """Add the chart to the site."""
    chart = Path(config.config_file_path).parent / CHART
    files.append(File.generated(config, CHART, abs_src_path=str(chart)))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """The page, with links that work away from the repository too."""
    return re.sub(r"\]\(\.\./", f"]({REPOSITORY}/", markdown.replace(f"](../{CHART})", f"]({CHART})"))


def on_page_content(content: str, /, **_: object) -> str:
    """The page, whose console blocks are copied without prompts and output.

    The theme's copy button takes ``data-copy`` where it is set, and else the text as it is shown.
    """
    return CONSOLE.sub(
        lambda block: f'<div class="language-console highlight" data-copy="{commands(block[1])}">{block[1]}</div>',
        content,
    )


def commands(block: str) -> str:
    """What is typed in a console block, as the value of an attribute."""
    lines = html.unescape(TAG.sub("", block)).splitlines()
    return html.escape("\n".join(line.removeprefix("$ ") for line in lines if line.startswith("$ ")))


def without_requests(output: str, **_: object) -> str:
    """The page without the theme's request for the repository's stars, which would go to GitHub from every reader."""
    return output.replace(' data-md-component="source"', "")


on_post_page = on_post_template = without_requests
