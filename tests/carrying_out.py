"""Carrying out what an error says to do next.

A ``World`` is a Cloud Shell or a laptop with a fault in it and an Azure CLI in some state. An ``Operation`` is what
somebody does in it: with a credential, a command, or a program behind a broker. ``ways`` reads a sentence of ``advice``
as steps, ``World.follow`` does them to the letter, and nothing of ours is called to do them: ``az login`` is a program.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import logging
import os
import re
import shlex
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from json import loads
from pathlib import Path
from typing import Any
from unittest import mock

import jwt
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import AzureCliCredential, ChainedTokenCredential

from azure_cloudshell_credential import CloudShellCredential, DefaultCloudShellCredential, aio
from azure_cloudshell_credential._cli import main
from azure_cloudshell_credential._cli import token as token_command
from azure_cloudshell_credential._endpoint import advice, clock, environment
from azure_cloudshell_credential._endpoint.acquisition import RetryPolicy
from azure_cloudshell_credential.broker import CloudShellBroker
from azure_cloudshell_credential.emulator import CloudShellEmulator, Identity, faults
from azure_cloudshell_credential.emulator._az_words import REFUSALS
from azure_cloudshell_credential.emulator._isolation import isolated

ADA = Identity()
GRACE = Identity(user="grace@contoso.example", name="Grace Example", object_id="55555555-eeee-4fff-8aaa-666666666666")
OTHER_TENANT = "99999999-9999-4999-8999-999999999999"
VAULT = "https://vault.azure.net"
ARM = "https://management.azure.com"
CLAIMS = '{"access_token":{"acrs":{"essential":true,"value":"c1"}}}'
CHALLENGE = base64.b64encode(CLAIMS.encode()).decode()
CLOSED = "http://localhost:9/oauth2/token"


class Told(Exception):
    """The operation has failed, with a message."""


class Unreadable(AssertionError):
    """A sentence that nobody can follow, or a step that cannot be done here."""


class World:
    """A place, a fault, and an Azure CLI.

    :param az: its state: see ``AZ``.
    :param cause: why there is no token: see ``CAUSES``.
    """

    def __init__(self, shell: CloudShellEmulator, az: str, cause: str) -> None:
        self.shell = shell
        self.az = az
        self.cause = cause
        self.programs = shell._programs
        self.heals: dict[str, Callable[[], object]] = {}
        """What ends the fault, by the words of the step that does."""
        self.options: dict[str, Any] = {}
        """Keywords of a DefaultCloudShellCredential."""
        self.has_satisfied = False
        self.stack = ExitStack()

    @property
    def folder(self) -> Path:
        return Path(os.environ["PATH"])

    def __enter__(self) -> World:
        self.stack.enter_context(mock.patch.dict(os.environ))
        self.stack.enter_context(isolated(self.shell, "az"))
        # No az of this machine.
        os.environ["PATH"] = os.environ["PATH"].partition(os.pathsep)[0]
        os.environ["AZURE_POD_IDENTITY_AUTHORITY_HOST"] = self.shell.no_imds_environment[
            "AZURE_POD_IDENTITY_AUTHORITY_HOST"
        ]
        self.installed = (self.folder / "az").read_text()
        AZ[self.az](self)
        CAUSES[self.cause](self)
        return self

    def __exit__(self, *exc: object) -> None:
        self.stack.close()

    def write_az(self, text: str) -> None:
        path = self.folder / "az"
        path.write_text(text)
        path.chmod(0o755)

    def in_a_shell(self, command: str) -> None:
        """Type a command."""
        done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unreadable(f"{command!r} cannot be done here: {done.stderr}")

    def doctor(self, *arguments: str) -> list[str]:
        """What doctor says to do."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            main(["doctor", "--json", *arguments])
        return list(loads(out.getvalue())["advice"])

    def leave_cloud_shell(self) -> None:
        for name in self.shell.environment:
            del os.environ[name]

    def fail(self, reply: faults.ScriptedReply, heals: str) -> None:
        """Let Cloud Shell answer like this until a step is done."""
        fault = self.stack.enter_context(ExitStack())
        fault.enter_context(self.shell.failing(reply))
        self.heals[heals] = fault.close


# What is so with the Azure CLI.


def _refused(world: World, name: str) -> None:
    world.programs.login(ADA)
    world.programs.refuse(REFUSALS[name]._replace(resource=VAULT))


def _slow(world: World) -> None:
    world.programs.login(ADA, seconds=2.5)
    world.heals["try again"] = partial(setattr, world.programs, "_seconds", 0.0)


def _broken(world: World) -> None:
    world.programs.login(ADA)
    world.write_az("#!/bin/sh\necho 'ERROR: No module named azure.cli' >&2\nexit 1\n")


def _not_executable(world: World) -> None:
    world.programs.login(ADA)
    world.write_az("#!/nowhere/python\n")


def _left_out(world: World, chosen: str = "prod") -> None:
    world.programs.login(ADA)
    os.environ["AZURE_TOKEN_CREDENTIALS"] = chosen


def _left_out_and_signed_out(world: World) -> None:
    os.environ["AZURE_TOKEN_CREDENTIALS"] = "prod"


def _excluded(world: World) -> None:
    world.programs.login(ADA)
    world.options = {"exclude_cli_credential": True}


AZ: dict[str, Callable[[World], object]] = {
    "absent": lambda world: (world.folder / "az").unlink(),
    "signed out": lambda world: None,
    "own": lambda world: world.programs.login_of_cloud_shell(ADA),
    "signed in": lambda world: world.programs.login(ADA),
    "signed in as grace": lambda world: world.programs.login(GRACE),
    "slow": _slow,
    "broken": _broken,
    "not executable": _not_executable,
    "left out": _left_out,
    "excluded": _excluded,
    "left out, signed out": _left_out_and_signed_out,
    **{name: partial(_refused, name=name) for name in REFUSALS},
}


# Why there is no token.


def _another_service(world: World) -> None:
    world.leave_cloud_shell()
    os.environ.update({**world.shell.app_service_environment, "MSI_ENDPOINT": "http://127.0.0.1:9/msi/token"})


def _unusable_endpoint(world: World) -> None:
    os.environ["MSI_ENDPOINT"] = "http://10.0.0.1/oauth2/token"
    world.stack.enter_context(mock.patch.object(environment, "DEFAULT_ENDPOINT", world.shell.endpoint))


def _unusable_endpoint_elsewhere(world: World) -> None:
    world.leave_cloud_shell()
    os.environ["MSI_ENDPOINT"] = "http://10.0.0.1/oauth2/token"


def _unreachable(world: World) -> None:
    os.environ["MSI_ENDPOINT"] = CLOSED
    world.heals["restart Cloud Shell"] = lambda: os.environ.update(world.shell.environment)


def _other_tenant(world: World) -> None:
    world.heals["switch the directory in the portal"] = lambda: world.shell.sign_in(tenant_id=OTHER_TENANT)


def _cleared(world: World) -> None:
    before = dict(world.shell.environment)
    world.leave_cloud_shell()
    world.stack.enter_context(mock.patch.object(environment, "IMAGE_FOLDER", str(world.folder)))
    world.heals["pass on MSI_ENDPOINT and ACC_CLOUD"] = lambda: os.environ.update(
        {name: before[name] for name in ("MSI_ENDPOINT", "ACC_CLOUD")}
    )


def _service_principal(world: World) -> None:
    wrong = {"AZURE_CLIENT_ID": "x", "AZURE_CLIENT_SECRET": "x", "AZURE_TENANT_ID": ADA.tenant_id}
    os.environ.update(wrong)
    # The sign-in host is a closed port on this machine.
    world.options = {"authority": "https://localhost:9", "disable_instance_discovery": True}
    world.heals["correct the configuration of EnvironmentCredential"] = lambda: [os.environ.pop(name) for name in wrong]


_PORTAL, _HANG, _ENTRA = (
    faults.portal_timeout(),
    faults.hang(),
    faults.error(400, "invalid_grant", "AADSTS50173: The provided grant has expired."),
)
_TAB = "keep the browser tab with Cloud Shell open and active"


def _past_its_life() -> faults.ScriptedReply:
    """A token that expired an hour ago by the clock here, and lives for an hour by the endpoint's."""
    return faults.ScriptedReply(
        body=f'{{"access_token":"e","expires_on":"{int(time.time()) - 3600}","expires_in":"3600"}}'
    )


CAUSES: dict[str, Callable[[World], object]] = {
    "not Cloud Shell": World.leave_cloud_shell,
    "another service": _another_service,
    "unusable endpoint": _unusable_endpoint,
    "unusable endpoint elsewhere": _unusable_endpoint_elsewhere,
    "audience": lambda world: world.shell.deny("vault"),
    "portal": lambda world: world.fail(_PORTAL, _TAB),
    "no answer": lambda world: world.fail(_HANG, _TAB),
    "unreachable": _unreachable,
    "entra": lambda world: world.fail(_ENTRA, "reload the portal"),
    "server error": lambda world: world.fail(faults.server_error(500), "try again"),
    "garbage": lambda world: world.fail(faults.garbage(), "try again"),
    "other tenant": _other_tenant,
    "wrong scope": lambda world: None,
    "wrong scope elsewhere": World.leave_cloud_shell,
    "wrong scope (path)": lambda world: world.shell.deny("vault"),
    "unknown resource": lambda world: None,
    "cleared": _cleared,
    "claims": lambda world: None,
    "claims elsewhere": World.leave_cloud_shell,
    "service principal": _service_principal,
    "mixed up": lambda world: world.fail(faults.wrong_resource(), "try again"),
    "clock": lambda world: world.fail(_past_its_life(), "set the clock of this machine, which may be 2 hours ahead"),
    "after a first token": World.leave_cloud_shell,
    "another identity": lambda world: None,
    "broker gone": lambda world: None,
    "another secret": lambda world: None,
}


_SCOPES = {
    "wrong scope": "https://myvault.vault.azure.net/.default",
    "wrong scope elsewhere": "https://myvault.vault.azure.net/.default",
    "unknown resource": "https://nobody.example/.default",
    "wrong scope (path)": f"{ARM}/subscriptions/.default",
}

_BEGIN_WELL = ("after a first token", "another identity")


class Operation:
    """What somebody does: it gives a token or raises ``Told``.

    :param reader: ``credential``, ``chain``, ``chain without az``, ``default``, ``token``, ``fallback`` or ``program``;
        ``led to …`` is one of them under a broker.
    """

    def __init__(self, world: World, reader: str, *, is_async: bool) -> None:
        self.world = world
        self.is_led = reader.startswith("led to ")
        self.reader = reader.removeprefix("led to ")
        self.is_async = is_async
        self.scope = _SCOPES.get(world.cause, f"{VAULT}/.default")
        self.tenant = OTHER_TENANT if world.cause == "other tenant" else None
        # Who was led to a broker waits for it longer than it takes.
        self.options: dict[str, Any] = {"timeout": 5 if self.is_led else 0.3, "retry_backoff_factor": 0}
        is_slow = world.az == "slow"
        self.arguments: list[str] = ["--timeout", "1"] if is_slow else []
        self.az_seconds = 1.0 if is_slow else 30.0
        self.broker_is_of_az = False
        self.has_its_variables = world.cause != "another secret"
        if self.reader == "fallback":
            self.arguments.append("--fallback")
        self.credential: Any = None
        self.broker: CloudShellBroker | None = None

    def __call__(self) -> str:
        """Do it once."""
        if self.is_led or self.reader == "program":
            return self._under_a_broker()
        return self._in_person()

    def _in_person(self) -> str:
        if self.reader in ("token", "fallback"):
            return self._command()
        if self.world.cause in ("claims", "claims elsewhere"):
            return self._challenged()
        if self.world.cause in _BEGIN_WELL and self.credential is None:
            self._begin_well()
        return self._token()

    def _command(self) -> str:
        out, err = io.StringIO(), io.StringIO()
        tenant = ["--tenant", self.tenant] if self.tenant else []
        # Cloud Shell is asked for a moment only, az for as long as it is given.
        budget = 5 if self.is_led else 0.3
        hasty = mock.patch.object(token_command, "RetryPolicy", lambda _, retries: RetryPolicy(budget, retries))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _logging_as_it_was(), hasty:
            status = main(["token", "--scope", self.scope, *self.arguments, *tenant])
        if status:
            raise Told(err.getvalue().strip())
        return out.getvalue().strip()

    def _make(self) -> Any:
        if self.reader == "default":
            exclusions = dict.fromkeys(("exclude_developer_cli_credential", "exclude_powershell_credential"), True)
            kind: Any = aio.DefaultCloudShellCredential if self.is_async else DefaultCloudShellCredential
            return kind(**{"process_timeout": self.az_seconds, **exclusions, **self.world.options, **self.options})
        if self.is_async:
            return aio.CloudShellCredential(**self.options)
        credential = CloudShellCredential(**self.options)
        if self.reader == "credential":
            return credential
        az = [AzureCliCredential(process_timeout=30)] if self.reader == "chain" else []
        return ChainedTokenCredential(credential, *az)

    def _token(self, claims: str | None = None) -> str:
        if self.credential is None:
            self.credential = self._make()
        try:
            got = self.credential.get_token(self.scope, tenant_id=self.tenant, claims=claims)
            return str((asyncio.run(got) if self.is_async else got).token)
        except ClientAuthenticationError as error:
            raise Told(error.message) from error

    def _begin_well(self) -> None:
        """What goes before the fault: a first token."""
        if self.world.cause == "another identity":
            self._token()
            self.world.shell.expire_tokens()
            self.world.fail(_PORTAL, _TAB)
            return
        world, scope = self.world, self.scope
        refused, world.programs._refused = world.programs._refused, None
        self.scope = f"{ARM}/.default"
        self._token()
        world.programs._refused, self.scope = refused, scope

    def _challenged(self) -> str:
        """A service's operation: it challenges what has not been signed in to for it."""
        token = self._token()
        is_cloud_shells = token == self.world.shell.issue(VAULT)[0]
        return token if self.world.has_satisfied and not is_cloud_shells else self._token(CLAIMS)

    def _under_a_broker(self) -> str:
        if self.broker is None:
            self.start_broker()
            if self.world.cause == "broker gone" and self.broker is not None:
                self.broker.stop()
        assert self.broker is not None
        if self.reader == "program":
            return self._ask_broker(self.broker.environment)
        with mock.patch.dict(os.environ, self.broker.child_environment(os.environ)):
            os.environ.setdefault("AZURE_TOKEN_CREDENTIALS", "prod")
            if not self.has_its_variables:
                for name in ("MSI_ENDPOINT", "ARM_MSI_ENDPOINT"):
                    os.environ[name] = re.sub("[0-9a-f]{64}", "0" * 64, os.environ[name])
            return self._in_person()

    def start_broker(self) -> None:
        """Start azure-cloudshell."""
        credential: Any = DefaultCloudShellCredential(
            timeout=0.3,
            process_timeout=self.az_seconds,
            retry_backoff_factor=0,
            exclude_cli_credential=False,
            **dict.fromkeys(("exclude_developer_cli_credential", "exclude_powershell_credential"), True),
        )
        if self.broker_is_of_az:
            credential = AzureCliCredential()
        self.broker = self.world.stack.enter_context(CloudShellBroker(credential))
        self.credential = None

    def _ask_broker(self, variables: dict[str, str]) -> str:
        url = f"{variables['IDENTITY_ENDPOINT']}?api-version=2019-08-01&resource={self.scope.removesuffix('/.default')}"
        request = urllib.request.Request(url, headers={"X-IDENTITY-HEADER": variables["IDENTITY_HEADER"]})
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20) as answer:
                return str(loads(answer.read())["access_token"])
        except urllib.error.HTTPError as error:
            raise Told(loads(error.read())["message"]) from error


@contextmanager
def _logging_as_it_was() -> Iterator[None]:
    """A command sets up logging for its process."""
    loggers = [logging.getLogger(name) for name in ("azure", "azure_cloudshell_credential")]
    before = [(logger.level, list(logger.handlers)) for logger in loggers]
    try:
        yield
    finally:
        for logger, (level, handlers) in zip(loggers, before, strict=True):
            logger.setLevel(level)
            logger.handlers[:] = handlers


# What a sentence says.


@contextmanager
def recorded() -> Iterator[list[str]]:
    """The sentences that ``advice`` makes."""
    make, sentences = advice.sentence_for, []

    def keep(*arguments: Any, **options: Any) -> str:
        sentences.append(make(*arguments, **options))
        return sentences[-1]

    with mock.patch.object(advice, "sentence_for", keep):
        yield sentences


def told(operation: Operation) -> str | None:
    """The sentence of advice in the message of an operation; None if it succeeds."""
    with recorded() as sentences:
        try:
            operation()
        except Told as error:
            message = str(error)
        else:
            return None
    if not sentences:
        raise Unreadable(f"no advice: {message}")
    sentence = sentences[0]
    assert sentence in message, (sentence, message)
    if not sentence and operation.is_led:
        # The broker's, in the same process, is the first one: what comes to the program ends in it.
        raise Unreadable(f"no advice: {message}")
    return sentence


def ways(sentence: str) -> list[list[tuple[str, re.Match[str]]]]:
    """The ways that a sentence names, each a list of steps."""
    text = sentence[:1].lower() + sentence[1:].removesuffix(".")
    return [_steps(way) for way in text.split(", or ")]


def _steps(way: str) -> list[tuple[str, re.Match[str]]]:
    steps: list[tuple[str, re.Match[str]]] = []
    position = 0
    while position < len(way):
        if separator := re.compile(r",? and |, |: .*").match(way, position):
            position = separator.end()
            continue
        found = next(((name, match) for name, step in _STEPS.items() if (match := step.match(way, position))), None)
        if found is None:
            raise Unreadable(f"nobody can do {way[position:]!r}")
        steps.append(found)
        position = found[1].end()
    if not steps:
        raise Unreadable(f"nothing to do in {way!r}")
    return steps


_WHERE = r"(?: where azure-cloudshell was started)?"
_STEPS = {
    name: re.compile(pattern)
    for name, pattern in {
        "install": r"install the Azure CLI",
        "run": rf"run '(?P<command>az [^']*)'(?: as (?P<user>\S+)(?: in tenant (?P<tenant>[\w-]+))?)?{_WHERE}"
        r"(?: \(the user that 'az account show' names is Cloud Shell's own sign-in\))?(?:, as the Azure CLI says)?",
        "unset": r"unset (?P<name>[A-Z_]+)(?:, which leaves out the Azure CLI)?",
        "drop": r"drop exclude_cli_credential=True, which leaves out the Azure CLI",
        "exclude": r"use DefaultCloudShellCredential\(exclude_cloud_shell_credential=True\)(?: to be .*)?",
        "class": r"use DefaultCloudShellCredential(?P<unless> unless AzureCliCredential is behind this credential)?",
        "option": r"add (?P<option>--[a-z]+)(?: (?P<value>\d+))?",
        "keyword": r"pass (?P<name>\w+)=(?P<value>\d+)",
        "scope": r"use the (?:scope|resource) (?P<scope>\S+)",
        "heal": rf"{_TAB}|try again(?: in (?P<after>\d+ seconds?))?|restart Cloud Shell|reload the portal"
        r"|switch the directory in the portal"
        r"|set the clock of this machine, which may be .* ahead|pass on MSI_ENDPOINT and ACC_CLOUD"
        r"|correct the configuration of \w+",
        "look": r"check the portal's directory",
        "repair": r"correct what the Azure CLI reports",
        "start again": r"start azure-cloudshell again in a new shell, and this program with the variables that it sets",
        "new variables": r"start this program with the variables that azure-cloudshell sets now",
        "start for az": r"start azure-cloudshell with --credential az(?: to be .*)?",
        "another person": r"ask an administrator of the tenant.*"
        r"|check the resource .*|no sign-in cures this .*",
    }.items()
}


class AnotherPerson(Exception):
    """A step that the reader cannot do alone, or that says there is none."""


def follow(operation: Operation, steps: list[tuple[str, re.Match[str]]]) -> None:
    """Do the steps, to the letter."""
    for name, match in steps:
        _DO[name](operation, match)


def _install(operation: Operation, _match: re.Match[str]) -> None:
    operation.world.write_az(operation.world.installed)


def _run(operation: Operation, match: re.Match[str]) -> None:
    world = operation.world
    if match["user"] and match["user"] != ADA.user:
        raise Unreadable(f"nobody knows {match['user']}")
    words = shlex.split(match["command"])
    world.in_a_shell(match["command"])
    world.has_satisfied |= "--claims-challenge" in words and CHALLENGE in words


def _class(operation: Operation, match: re.Match[str]) -> None:
    if operation.reader == "chain" and match["unless"]:
        return
    if operation.reader not in ("credential", "chain", "chain without az"):
        raise Unreadable("it is no credential that is used here")
    operation.reader, operation.credential = "default", None


def _exclude(operation: Operation, _match: re.Match[str]) -> None:
    if operation.reader not in ("credential", "default", "chain", "chain without az"):
        raise Unreadable("it is no credential that is used here")
    operation.options["exclude_cloud_shell_credential"] = True
    operation.reader, operation.credential = "default", None


def _option(operation: Operation, match: re.Match[str]) -> None:
    if operation.reader not in ("token", "fallback"):
        raise Unreadable("there is no command here")
    # A repeated option counts.
    operation.arguments += [match["option"], *([match["value"]] if match["value"] else [])]


def _keyword(operation: Operation, match: re.Match[str]) -> None:
    if operation.reader != "default":
        raise Unreadable(f"{match['name']} is no keyword here")
    operation.options[match["name"]] = float(match["value"])
    operation.credential = None


def _unset(operation: Operation, match: re.Match[str]) -> None:
    del os.environ[match["name"]]
    operation.credential = None


def _drop(operation: Operation, _match: re.Match[str]) -> None:
    if operation.reader != "default":
        raise Unreadable("there is no such keyword here")
    del operation.world.options["exclude_cli_credential"]
    operation.credential = None


def _scope(operation: Operation, match: re.Match[str]) -> None:
    operation.scope = match["scope"]


def _heal(operation: Operation, match: re.Match[str]) -> None:
    if heal := operation.world.heals.pop(match[0].partition(" in ")[0] if match["after"] else match[0], None):
        heal()
    if match["after"]:
        operation.world.stack.enter_context(mock.patch.object(clock, "current", Later(int(match["after"].split()[0]))))
    if match[0].startswith(("restart Cloud Shell", "correct", "pass on")):
        # Nothing survives that.
        operation.credential = operation.broker = None


class Later:
    """The clocks, so many seconds later."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def time(self) -> float:
        return time.time() + self.seconds

    def monotonic(self) -> float:
        return time.monotonic() + self.seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


def _start_again(operation: Operation, _match: re.Match[str]) -> None:
    operation.start_broker()


def _new_variables(operation: Operation, _match: re.Match[str]) -> None:
    operation.has_its_variables, operation.credential = True, None


def _start_for_az(operation: Operation, _match: re.Match[str]) -> None:
    operation.broker_is_of_az = True
    operation.start_broker()


def _another_person(_operation: Operation, match: re.Match[str]) -> None:
    raise AnotherPerson(match[0])


_DO: dict[str, Callable[[Operation, re.Match[str]], None]] = {
    "install": _install,
    "run": _run,
    "unset": _unset,
    "drop": _drop,
    "exclude": _exclude,
    "class": _class,
    "option": _option,
    "keyword": _keyword,
    "scope": _scope,
    "heal": _heal,
    "look": lambda _operation, _match: None,
    "repair": _install,
    "start again": _start_again,
    "new variables": _new_variables,
    "start for az": _start_for_az,
    "another person": _another_person,
}


def who(token: str) -> str:
    """Whose a token is."""
    return str(jwt.decode(token, options={"verify_signature": False}).get("upn"))
