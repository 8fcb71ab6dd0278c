"""Write what is made from the code: ``make generated``.

- the options in docs/command-line.md, from the parser
- docs/services.md, from the table in ``emulator/_observed.py``
- the completions for bash, zsh and fish, with shtab
- tests/public_api.txt: every public name with its parameters
- .ci/release/sbom.cdx.json, from pyproject.toml

``python docs/generate.py merge REPORT … --host HOST --source URL`` first adds to the table what reports of
``azure-cloudshell doctor --report`` say. A test compares the files with what this would write.
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import sys
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import shtab

from azure_cloudshell_credential._cli._parser import Parser, add_command_arguments, make_parser
from azure_cloudshell_credential._cli.completion import SHELLS
from azure_cloudshell_credential._endpoint import audiences
from azure_cloudshell_credential.emulator import _services as services
from azure_cloudshell_credential.emulator._services import Observation

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / ".ci"))

from release import sbom  # noqa: E402 (found only now)

PACKAGE = ROOT / "azure_cloudshell_credential"
TABLE = PACKAGE / "emulator" / "_observed.py"
PUBLIC_MODULES = (
    "azure_cloudshell_credential",
    "azure_cloudshell_credential.aio",
    "azure_cloudshell_credential.broker",
    "azure_cloudshell_credential.emulator",
    "azure_cloudshell_credential.emulator.faults",
)
COMMANDS = {"bash": "_azure_cloudshell_commands", "zsh": "_normal", "fish": "(__fish_complete_command)"}
PREAMBLE = {"bash": '_azure_cloudshell_commands() { compgen -A command -A file -- "$1"; }'}
_FEW = 3
CLOUDS = {"PROD": "Public cloud", "Fairfax": "Azure Government", "Mooncake": "Azure in China"}

COMMAND_LINE = ROOT / "docs" / "command-line.md"
OPTIONS = re.compile(r"(?<=<!-- made from the program's own help -->\n\n).*(?=<!-- end -->)", re.DOTALL)

SERVICES = """# Which services

Cloud Shell has a list of services, which it stopped printing in August 2024
([Azure/CloudShell#477](https://github.com/Azure/CloudShell/issues/477)). Below is what people have reported. The list
may differ by cloud and by what opened Cloud Shell. `azure-cloudshell doctor` asks where you are;
[a report](index.md#send-a-report) adds what you see.

## Workarounds

Run `az login`, and use `DefaultCloudShellCredential` or `azure-cloudshell run`. Other ways:
"""


def command_line() -> str:
    """The page of the commands: the options are made anew, the rest is written by hand."""
    _, commands = full_parser()
    shown: dict[str, str] = {}
    options = "\n".join(_command(name, each, shown) for name, each in commands.items())
    return OPTIONS.sub(lambda _: f"{options}\n", COMMAND_LINE.read_text(encoding="utf-8"))


def full_parser() -> tuple[Parser, dict[str, Parser]]:
    """The parser of the whole command line, and that of each command."""
    parser, commands = make_parser()
    for name, each in commands.items():
        add_command_arguments(each, name)
    return parser, commands


def _command(name: str, parser: Parser, shown: dict[str, str]) -> str:
    """One command. Options that an earlier one has too are only named.

    :param shown: the lines so far, and the commands that they are from.
    """
    lines, again = [], []
    for action in parser._actions:
        if action.help == argparse.SUPPRESS or action.dest in ("help", "debug"):
            continue
        line = f"- {_spelling(action)}: {_help(parser, action)}"
        if shown.setdefault(line, name) == name:
            lines.append(line)
        else:
            again.append((_spelling(action), shown[line]))
    lines += [f"- {', '.join(spelling for spelling, _ in again)}: as for `{again[0][1]}`"] if again else []
    if name == "completion":
        lines += ["", "Its `--help` has the line that loads them."]
    return "\n".join([f"### {name}", "", parser.description or "", "", *lines, ""])


def _spelling(action: argparse.Action) -> str:
    value = str(action.metavar or "|".join(map(str, action.choices or ())) or action.dest.upper())
    names = sorted(action.option_strings, key=len)
    if action.nargs != 0:
        names = [*names[:-1], f"{names[-1]} {value}" if names else value]
    return ", ".join(f"`{name}`" for name in names)


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    return parser._get_formatter()._expand_help(action) if action.help else ""


def services_page() -> str:
    """The page of the services."""
    table = services.observations()
    workarounds = [
        f"- {audience.name}: {audience.workaround}.\n" for audience in audiences.KNOWN if audience.workaround
    ]
    pages = [f"{SERVICES}\n{''.join(workarounds)}"]
    for cloud in sorted({row.cloud for row in table}, key=lambda name: (name != services.PUBLIC_CLOUD, name)):
        for host in sorted({row.host or "" for row in table if row.cloud == cloud}):
            rows = [row for row in table if row.cloud == cloud and (row.host or "") == host]
            opened = f"opened from {host}" if host else "host not reported"
            pages.append("\n".join([f"## {CLOUDS.get(cloud, cloud)}, {opened}", "", *_lists(rows)]))
    return "\n".join(pages)


def _lists(rows: list[Observation]) -> Iterator[str]:
    """What each source has reported; a source of many resources stands above them, one of few after them."""
    reports: dict[tuple[bool, str], dict[str, list[str]]] = {}
    for row in rows:
        audience = audiences.lookup(row.resource)
        report = reports.setdefault((row.supported, _link(row)), {})
        report.setdefault(f"{audience.name}: " if audience else "", []).append(f"`{row.resource}`")
    for supported in (True, False):
        few = {link: each for (answer, link), each in reports.items() if answer == supported and len(each) <= _FEW}
        yield from ("### Tokens" if supported else "### Refused", "")
        for (answer, link), report in reports.items():
            if answer == supported and link not in few:
                yield from (f"{link}:", "")
                yield from (f"- {name}{', '.join(resources)}" for name, resources in report.items())
                yield ""
        yield from ("Others:", "") if len(few) < len([answer for answer, _ in reports if answer == supported]) else ()
        for link, report in few.items():
            yield from (f"- {name}{', '.join(resources)} ({link})" for name, resources in report.items())
        yield ""
    if (rows[0].cloud, rows[0].host) == (services.PUBLIC_CLOUD, None):
        seen = {audiences.lookup(row.resource) for row in rows}
        yield from ("### Not reported", "")
        yield from (f"- {each.name}: `{each.resource}`" for each in audiences.KNOWN if each not in seen)
        yield ""


def _link(row: Observation) -> str:
    repository, mark, number = row.source.partition("#")
    is_thread = bool(mark) and number.isdigit() and repository.count("/") == 1
    link = f"[{row.source}](https://github.com/{repository}/issues/{number})" if is_thread else row.source
    return f"{link}, {row.date}" if row.date else link


def completion(shell: str) -> str:
    """The completions for one shell."""
    parser, commands = full_parser()
    for each in commands.values():
        for action in each._actions:
            if action.dest == "resource":
                # For the completion only: it takes any URI.
                action.choices = [audience.name for audience in audiences.KNOWN]
            elif action.dest == "report":
                action.complete = shtab.FILE  # type: ignore[attr-defined]
            elif action.dest == "words":
                # So that the words of the program are not completed as ours.
                action.nargs = argparse.REMAINDER
                action.complete = COMMANDS  # type: ignore[attr-defined]
    text: str = shtab.complete(parser, shell=shell, preamble=PREAMBLE)  # type: ignore[arg-type] # one for each shell
    if shell == "zsh":
        # What follows "--" is another command with arguments of its own.
        text = text.replace("_arguments -C -s ", "_arguments -C -S -s ")
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def merge(table: Iterable[Observation], report: dict[str, Any], host: str, source: str) -> list[Observation]:
    """The table with what a report says. For each resource, cloud and host, the latest stays."""
    rows = {(row.resource, row.cloud, row.host): row for row in table}
    for answer in report["answers"]:
        refused = "AudienceNotSupported" in answer.get("error", "")
        if answer["outcome"] != "token" and not refused:
            continue
        row = Observation(answer["resource"], not refused, report["cloud"] or "", host, report["month"], source)
        before = rows.get(key := (row.resource, row.cloud, row.host))
        if before is None or (before.date or "") <= (row.date or ""):
            rows[key] = row
    return list(rows.values())


def written(table: Iterable[Observation]) -> str:
    """The table as it is kept: a line for each row."""
    head, _, _ = TABLE.read_text(encoding="utf-8").partition(" = (\n")
    rows = (", ".join(json.dumps(value) if isinstance(value, str) else repr(value) for value in row) for row in table)
    return f"{head} = (\n" + "".join(f"    ({row}),\n" for row in rows) + ")\n"


def public_api() -> str:
    """Every public name, with parameters, one on a line."""
    lines = []
    for name in PUBLIC_MODULES:
        module = import_module(name)
        for each in sorted(public_names(module)):
            lines += _described(f"{name}.{each}", getattr(module, each))
    return "\n".join(lines) + "\n"


def public_names(module: Any) -> list[str]:
    """What a module offers: its ``__all__``, or what is defined in it without an underscore."""
    if hasattr(module, "__all__"):
        return [
            name for name in module.__all__ if not name.startswith("__") and not inspect.ismodule(getattr(module, name))
        ]
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]


def _described(name: str, value: Any) -> list[str]:
    if inspect.isclass(value):
        of_ours = [each for each in value.__mro__ if each.__module__.startswith("azure_cloudshell_credential")]
        members = {key: member for each in reversed(of_ours) for key, member in vars(each).items()}
        shown = [f"{name}{_signature(value)}"]
        for key, member in sorted(members.items()):
            if not key.startswith("_"):
                shown += _described(f"{name}.{key}", member)
        return shown
    if isinstance(value, property):
        return [f"{name}: property"]
    if callable(value) or isinstance(value, (classmethod, staticmethod)):
        return [f"{name}{_signature(getattr(value, '__func__', value))}"]
    return [f"{name}: {type(value).__name__}"]


def _signature(value: Any) -> str:
    parameters = [_shown(parameter) for parameter in inspect.signature(value).parameters.values()]
    return f"{inspect.Signature(parameters)}{' awaitable' if inspect.iscoroutinefunction(value) else ''}"


def _shown(parameter: inspect.Parameter) -> inspect.Parameter:
    parameter = parameter.replace(annotation=inspect.Parameter.empty)
    return parameter.replace(default=...) if isinstance(parameter.default, tuple) and parameter.default else parameter


def generated() -> dict[Path, str]:
    """What each file is to hold."""
    completions = {PACKAGE / "_cli" / f"completion.{shell}": completion(shell) for shell in SHELLS}
    return {
        COMMAND_LINE: command_line(),
        ROOT / "docs" / "services.md": services_page(),
        ROOT / "tests" / "public_api.txt": public_api(),
        sbom.FILE: sbom.sbom(),
        **completions,
    }


def main() -> None:
    """Merge, if asked to, and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    actions = parser.add_subparsers(dest="action")
    merging = actions.add_parser("merge", help="add reports of doctor --report to the table of services first")
    merging.add_argument("reports", nargs="+", type=Path)
    merging.add_argument("--host", required=True, help="what had opened Cloud Shell, such as portal")
    merging.add_argument("--source", required=True, help="where the report was published")
    arguments = parser.parse_args()
    if arguments.action == "merge":
        table = services.observations()
        for report in arguments.reports:
            try:
                content = json.loads(report.read_text(encoding="utf-8"))
                table = merge(table, content, arguments.host, arguments.source)
            except (OSError, ValueError, KeyError, TypeError) as error:
                parser.error(f"{report} is not what doctor --report writes: {type(error).__name__}: {error}")
        TABLE.write_text(written(table), encoding="utf-8")
    for file, text in generated().items():
        file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
