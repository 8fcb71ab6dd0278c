"""Count what has to be read: ``python -m benchmarks.count``.

Lines of code without blank lines, comments and docstrings, for each wing of the package; words of the README and of
everything else that a user may read. With ``--check`` it fails where there are more words than the limits.
"""

from __future__ import annotations

import argparse
import ast
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "azure_cloudshell_credential"
WINGS = {
    "core (_endpoint, _tokens, _azure)": ("_endpoint", "_tokens", "_azure"),
    "aio": ("aio",),
    "command line, without completions": ("_cli",),
    "emulator": ("emulator", "pytest_plugin.py"),
    "broker": ("broker",),
    "_serving": ("_serving",),
    "top": ("__init__.py", "__main__.py", "_version.py"),
}
NOT_CODE = {
    tokenize.COMMENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
    tokenize.INDENT,
    tokenize.NEWLINE,
    tokenize.NL,
}
README = ROOT / "README.md"
README_WORDS, ALL_WORDS = 600, 6000


def lines_of_code(path: Path) -> int:
    """The lines of a file that hold code."""
    docstrings = {
        line
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    with path.open("rb") as file:
        code = {
            line
            for token in tokenize.tokenize(file.readline)
            if token.type not in NOT_CODE
            for line in range(token.start[0], token.end[0] + 1)
        }
    return len(code - docstrings)


def python_files(names: tuple[str, ...]) -> Iterator[Path]:
    """The files of a wing, named by folders and files of the package."""
    for name in names:
        path = PACKAGE / name
        yield from sorted(path.rglob("*.py")) if path.is_dir() else [path]


def pages() -> list[Path]:
    """Everything that a user may read, the README first. How to contribute and what changed is for others."""
    return [README, ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]


def words(page: Path) -> int:
    """The words of a page, as ``wc -w`` counts them."""
    return len(page.read_text(encoding="utf-8").split())


def main() -> int:
    """Print both tables.

    :return: 1 if the words are to be checked and are too many, else 0.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="fail where there are more words than the limits")
    parser.add_argument("--files", action="store_true", help="also print the lines of code of each file")
    arguments = parser.parse_args()
    print("lines of code")
    for wing, names in WINGS.items():
        counts = {path: lines_of_code(path) for path in python_files(names)}
        print(f"{sum(counts.values()):>7,}  {wing}")
        if arguments.files:
            for path, count in counts.items():
                print(f"{count:>15,}  {path.relative_to(PACKAGE)}")
    total = sum(lines_of_code(path) for path in PACKAGE.rglob("*.py"))
    print(f"{total:>7,}  in all\n\nwords")
    for page in pages():
        print(f"{words(page):>7,}  {page.relative_to(ROOT)}")
    everything = sum(map(words, pages()))
    print(f"{everything:>7,}  in all")
    too_many = [
        f"{what} has {count:,} words, more than {limit:,}"
        for what, count, limit in (
            ("README.md", words(README), README_WORDS),
            ("all of it", everything, ALL_WORDS),
        )
        if count > limit
    ]
    print("\n".join(["", *too_many]) if too_many else "")
    return 1 if arguments.check and too_many else 0


if __name__ == "__main__":
    sys.exit(main())
