"""Count what has to be read: ``python -m benchmarks.count``.

Lines of code without blank lines, comments and docstrings, and lines of data, for each wing of the package; the ways of
a scope, by calls, files and changes of file; words of the README and of everything else that a user may read. It only
prints. With ``--check`` it fails where there are more words than the limits.
"""

from __future__ import annotations

import argparse
import ast
import sys
import tokenize
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from .walk import walks

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "azure_cloudshell_credential"
WINGS = {
    "core (_endpoint, _tokens, _azure)": ("_endpoint", "_tokens", "_azure"),
    "aio": ("aio",),
    "command line": ("_cli",),
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


def lines_of_data(path: Path) -> int:
    """The lines of a file that is not Python's."""
    return sum(1 for line in path.read_text(encoding="utf-8").splitlines() if line.strip())


def files(names: tuple[str, ...]) -> Iterator[Path]:
    """The files of a wing, named by folders and files of the package."""
    for name in names:
        path = PACKAGE / name
        found = sorted(path.rglob("*")) if path.is_dir() else [path]
        yield from (each for each in found if each.is_file() and "__pycache__" not in each.parts)


def pages() -> list[Path]:
    """Everything that a user may read, the README first. How to contribute and what changed is for others."""
    return [README, ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]


def words(page: Path) -> int:
    """The words of a page, as ``wc -w`` counts them."""
    return len(page.read_text(encoding="utf-8").split())


def _print_lines(*, with_files: bool) -> None:
    print("lines: code, data")
    all_code = all_data = 0
    for wing, names in WINGS.items():
        code = {path: lines_of_code(path) for path in files(names) if path.suffix == ".py"}
        data = {path: lines_of_data(path) for path in files(names) if path.suffix != ".py"}
        all_code, all_data = all_code + sum(code.values()), all_data + sum(data.values())
        print(f"{sum(code.values()):>7,}{sum(data.values()):>7,}  {wing}")
        for path, count in {**code, **data}.items() if with_files else ():
            print(f"{count:>22,}  {path.relative_to(PACKAGE)}")
    print(f"{all_code:>7,}{all_data:>7,}  in all")


def _print_walks(*, with_calls: bool) -> None:
    print("\nthe ways of a scope: calls, files, changes of file")
    for way in walks():
        print(f"{len(way.calls):>7,}{way.files:>7,}{way.changes:>7,}  {way.what}")
        for file, calls in groupby(way.calls, key=lambda call: call.file) if with_calls else ():
            print(f"{'':>23}{file}: {', '.join(call.function for call in calls)}")


def main() -> int:
    """Print both tables.

    :return: 1 if the words are to be checked and are too many, else 0.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="fail where there are more words than the limits")
    parser.add_argument("--files", action="store_true", help="also print the lines of each file")
    parser.add_argument("--calls", action="store_true", help="also print each call of the ways of a scope")
    arguments = parser.parse_args()
    _print_lines(with_files=arguments.files)
    _print_walks(with_calls=arguments.calls)
    print("\nwords")
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
