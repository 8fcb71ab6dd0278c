"""How the words of a command line are read, above all those of another program: as ``env`` reads them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from azure_cloudshell_credential._cli._errors import CommandError
from azure_cloudshell_credential._cli._parser import COMMANDS, Parser, add_command_arguments, make_parser, parse

from .command import run, without_coverage


@pytest.mark.parametrize(
    ("words", "program"),
    [
        ("kubectl exec pod -- rm -rf x", "kubectl exec pod -- rm -rf x"),
        ("npm test -- --watch", "npm test -- --watch"),
        ("-- npm test -- --watch", "npm test -- --watch"),
        ("-v -- -- x", "-- x"),
        ("-v az --verbose", "az --verbose"),
        ("--credential default python -v", "python -v"),
        ("--credential=default -v python --version", "python --version"),
        ("--credential default -- --help", "--help"),
        ("-v - x", "- x"),
        ("token help", "token help"),
        ("", ""),
    ],
)
def test_the_first_word_that_is_no_option_begins_the_program(words: str, program: str) -> None:
    assert parse(["run", *words.split()]).words == program.split()


@pytest.mark.parametrize("before", ["", "--port 0", "--with-azure --user x"])
@pytest.mark.parametrize("mark", ["--", "--exec", ""])
def test_emulate_takes_its_command_after_a_mark_or_without_one(before: str, mark: str) -> None:
    words = [*before.split(), *mark.split(), "python", "--port", "1", "--", "--exec"]
    arguments = parse(["emulate", *words])
    assert arguments.words == ["python", "--port", "1", "--", "--exec"]
    assert arguments.port == (0 if "--port" in before else 50342)


@pytest.mark.parametrize(
    "words", ["--nonsense x", "-x y", "--credential", "--credential --", "--credential -- x", "--allow=-- x", "-vq"]
)
def test_what_is_no_option_of_ours_runs_nothing(words: str) -> None:
    with pytest.raises(CommandError):
        parse(["run", *words.split()])


ANY = st.text(alphabet="-=ab/ v", max_size=4)
AS_ENV_HAS_IT = {"-v": "-v", "--credential": "-u", "--verbose": "--debug"}
"""Our options, and the option of env that takes as many values."""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A program that prints its words, each followed by a null byte; it starts in a millisecond."""
    file = tmp_path_factory.mktemp("bin") / "words"
    file.write_text('#!/bin/sh\nprintf \'%s\\0\' "$0" "$@"\n')
    file.chmod(0o755)
    return str(file)


@settings(max_examples=50)
@given(
    st.lists(st.sampled_from(["-v", "--verbose", "--credential x", "--credential -v"]), max_size=3),
    st.sampled_from([[], ["--"]]),
    st.lists(ANY | st.sampled_from(["--", "--help", "-v", "--credential", "run"]), max_size=5),
)
def test_what_would_be_run_is_what_env_would_run(
    program: str, options: list[str], mark: list[str], words: list[str]
) -> None:
    ours = " ".join(options).split()
    done = subprocess.run(
        ["env", *(AS_ENV_HAS_IT.get(word, word) for word in ours), *mark, program, *words],
        env=without_coverage(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert parse(["run", *ours, *mark, program, *words]).words == done.stdout.split("\0")[:-1]


@given(st.lists(ANY | st.sampled_from(["--", "--credential", "--verbose", "-h"]), max_size=6))
def test_any_words_end_in_a_program_or_in_an_error(words: list[str]) -> None:
    try:
        program = parse(["run", *words]).words
    except (CommandError, SystemExit):
        return
    # Its own words are the end of the line, untouched.
    assert program == words[len(words) - len(program) :]
    if program and "--" not in words[: len(words) - len(program)]:
        assert not program[0].startswith("-") or program[0] == "-"


@pytest.mark.parametrize("command", COMMANDS)
def test_no_option_takes_an_empty_value(command: str) -> None:
    parser = Parser(prog="x")
    add_command_arguments(parser, command)
    taking = [name for name, takes_value in parser.takes_value.items() if takes_value]
    for name in taking:
        for value in ("", " ", "\n"):
            with pytest.raises(CommandError, match=f"{name}"):
                parse([command, f"{name}={value}"])


def test_no_option_may_be_abbreviated() -> None:
    # An option that is added later would change what a script means.
    with pytest.raises(CommandError, match="unknown option --verb"):
        parse(["run", "--verb", "x"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("tokn", "'tokn' is not a command. Did you mean 'token'?\nTry 'azure-cloudshell --help'."),
        ("help tokn", "'tokn' is not a command. Did you mean 'token'?\nTry 'azure-cloudshell --help'."),
        ("help help", "'help' is not a command.\nTry 'azure-cloudshell --help'."),
        ("xyz", "'xyz' is not a command.\nTry 'azure-cloudshell --help'."),
        ("--verson", "unknown option --verson. Did you mean '--version'?\nTry 'azure-cloudshell --help'."),
        ("token a b", "unknown argument b.\nTry 'azure-cloudshell token --help'."),
        ("run --verbos x", "unknown option --verbos. Did you mean '--verbose'?\nTry 'azure-cloudshell run --help'."),
        # The help is named in the next line anyway.
        ("run --shell zsh", "unknown option --shell.\nTry 'azure-cloudshell run --help'."),
    ],
)
def test_a_typo_gets_a_suggestion(words: str, said: str) -> None:
    with pytest.raises(CommandError) as raised:
        parse(words.split())
    assert (str(raised.value), raised.value.status) == (said, 2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("token -o jsn", "Did you mean 'json'?"),
        ("token --output=TOKEN", "Did you mean 'token'?"),
        ("token -o yaml", "git-credential."),
        ("token --shell zsh", "'zsh' is not one of bash, pwsh, fish. For zsh, use bash."),
        ("serve --shell zsh", "'zsh' is not one of bash, pwsh, fish. For zsh, use bash."),
        ("emulate --shell PowerShell", "'PowerShell' is not one of bash, pwsh, fish. For PowerShell, use pwsh."),
        ("serve -o envfile", "argument --output/-o: 'envfile' is not one of shell, env-file. Did you mean 'env-file'?"),
        ("completion zhs", "argument SHELL: 'zhs' is not one of bash, zsh, fish. Did you mean 'zsh'?"),
        ("completion powershell", "'powershell' is not one of bash, zsh, fish."),
    ],
)
def test_a_mistyped_choice_gets_the_choices_and_a_suggestion(words: str, said: str) -> None:
    with pytest.raises(CommandError) as raised:
        parse(words.split())
    assert str(raised.value).partition("\n")[0].endswith(said)
    assert raised.value.status == 2


@pytest.mark.parametrize(
    "words",
    [
        "token",
        "token --resource",
        "token --scope",
        "run --allow",
        "serve --allow vault,",
        "emulate --audience",
        "emulate --only-audience",
        "emulate --deny",
    ],
)
@pytest.mark.parametrize("host", ["management.azure.com", "vault.azure.net/.default"])
def test_a_host_is_told_apart_from_its_uri(words: str, host: str) -> None:
    separator = "" if words.endswith(",") else " "
    with pytest.raises(CommandError) as raised:
        parse(f"{words}{separator}{host}".split())
    assert f"'{host}' is a host. The URI is https://{host}\n" in str(raised.value)
    assert raised.value.status == 2


def test_a_host_below_a_services_means_the_service() -> None:
    with pytest.raises(CommandError, match=r"'v\.vault\.azure\.cn' is a host\. The URI is https://vault\.azure\.cn\n"):
        parse(["token", "v.vault.azure.cn"])


def test_a_mistyped_resource_gets_a_suggestion() -> None:
    done = run("token", "vualt")
    assert done.returncode == 2
    assert "'vualt' is not a known resource. Did you mean 'vault'?" in done.stderr


def test_a_token_given_by_mistake_is_not_repeated() -> None:
    with pytest.raises(CommandError) as raised:
        parse(["eyJhbGciOiJub25lIn0.eyJhdWQiOiJ4In0.c2ln"])
    assert "eyJ" not in str(raised.value)


@pytest.mark.parametrize("words", [["help"], ["--help"], ["-h"]])
def test_help_is_a_command_too(words: list[str]) -> None:
    done = run(*words)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(f"    {name}" in done.stdout for name in COMMANDS)
    assert "--debug" in done.stdout


def test_help_and_a_command_is_the_help_of_that_command() -> None:
    assert run("help", "token").stdout == run("token", "--help").stdout


def test_version_is_a_command_too() -> None:
    assert run("version").stdout == run("--version").stdout


def test_the_help_of_all_imports_no_command() -> None:
    program = (
        "import sys; from azure_cloudshell_credential._cli import main\n"
        "try: main(['--help'])\n"
        "finally: print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=without_coverage(), capture_output=True, text=True, timeout=60, check=True
    )
    assert not {f"azure_cloudshell_credential._cli.{name}" for name in COMMANDS} & set(done.stderr.split())


def test_help_fits_a_narrow_terminal() -> None:
    for words in (["--help"], ["token", "--help"]):
        head = run(*words, COLUMNS="60").stdout.partition("examples:")[0]
        assert max(map(len, head.splitlines())) <= 60


def test_each_parser_is_ours() -> None:
    parser, commands = make_parser()
    assert {type(each) for each in (parser, *commands.values())} == {Parser}
    assert sorted(commands) == sorted(COMMANDS)
    folder = Path(sys.modules[Parser.__module__].__file__ or "").parent
    assert all((folder / f"{name}.py").exists() for name in commands)
