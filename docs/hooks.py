"""For mkdocs: what stands beside docs/ is shown or led to."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

REPOSITORY = "https://github.com/azure-cloudshell-credential/azure-cloudshell-credential/blob/main"
CHART = "benchmarks/chart.svg"


def on_files(files: Any, config: Any, **_: object) -> Any:
    """Add the chart to the site."""
    chart = Path(config.config_file_path).parent / CHART
    files.append(File.generated(config, CHART, abs_src_path=str(chart)))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """The page, with links that work away from the repository too."""
    return re.sub(r"\]\(\.\./", f"]({REPOSITORY}/", markdown.replace(f"](../{CHART})", f"]({CHART})"))
