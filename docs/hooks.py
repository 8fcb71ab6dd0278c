"""For mkdocs: links to files beside docs/ lead to the repository."""

from __future__ import annotations

import re

REPOSITORY = "https://github.com/azure-cloudshell-credential/azure-cloudshell-credential/blob/main"


def on_page_markdown(markdown: str, **_: object) -> str:
    """The page, with links that work away from the repository too."""
    return re.sub(r"\]\(\.\./", f"]({REPOSITORY}/", markdown)
