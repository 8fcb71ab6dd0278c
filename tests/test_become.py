"""``run`` becomes its command: the command has and gets what ``env`` would give it, and nothing is left behind."""

from __future__ import annotations

import json
import os
import pty
import re
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from azure_cloudshell_credential._cli import main
from azure_cloudshell_credential._cli import run as run_command

from .command import COMMAND, eventually, run, without_coverage

RUN = [*COMMAND, "run", "--"]
# With its path, as RUN has: Python then starts it with posix_spawn, which ignores signals of the C library's own.
ENV = [shutil.which("env") or "env", "--"]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no exec")
needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks into /proc")


def execute(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, capture_output=True, text=True, timeout=60, check=False, env=without_coverage(), **options
    )


def listener_of(port: int) -> int | None:
    """The process that listens on a port of 127.0.0.1."""
    found = re.findall(rf"0100007F:{port:04X} 00000000:0000 0A (?:\S+ ){{5}}\s*(\d+)", _tcp())
    if not found:
        return None
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if any(str(link.readlink()) == f"socket:[{found[0]}]" for link in (process / "fd").iterdir()):
                return int(process.name)
    return None


def _tcp() -> str:
    return re.sub(r" +", " ", Path("/proc/net/tcp").read_text())


def is_open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except OSError:
        return False
    return True


def status_of(process: int) -> dict[str, str]:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


class Running:
    """``run`` with a command in Python that prints its port, and then does as it is told."""

    def __init__(self, program: str = "sys.stdin.read()", *options: str, **settings: Any) -> None:
        head = "import os, signal, sys, time\nfrom urllib.parse import urlsplit\n"
        head += "print(urlsplit(os.environ['MSI_ENDPOINT']).port, flush=True)\n"
        settings = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "env": without_coverage(), **settings}
        self.process = subprocess.Popen(
            [*COMMAND, "run", *options, "--", sys.executable, "-IS", "-c", head + program], text=True, **settings
        )
        self.port = int(self.line())

    def line(self) -> str:
        assert self.process.stdout is not None
        line: str = self.process.stdout.readline()
        return line.strip()

    @property
    def server(self) -> int:
        found = eventually(lambda: listener_of(self.port))
        assert found
        return int(found)

    def end(self) -> int:
        self.process.communicate(timeout=30)
        return self.process.returncode


@contextmanager
def running(*arguments: str, **settings: Any) -> Iterator[Running]:
    found = Running(*arguments, **settings)
    try:
        yield found
    finally:
        found.process.kill()
        found.process.communicate()
        eventually(lambda: not is_open(found.port))


@contextmanager
def not_served(module: str, settings: Any, listeners: list[socket.socket], **options: Any) -> Iterator[dict[str, str]]:
    """In place of the process that serves."""
    for listener in listeners:
        listener.close()
    yield {}


class TestGrammar:
    """That of env and nohup: options end at the first word that is not one of ours."""

    OURS = st.sampled_from(
        [[], ["--"], ["--verbose"], ["-v", "--"], ["--credential", "default"], ["--allow=arm", "--"]]
    )
    WORDS = st.lists(
        st.sampled_from(["--", "-", "-v", "--verbose", "--help", "--allow", "run", "--debug", "", "a b", "--x=y"])
        | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6),
        max_size=6,
    )

    @given(OURS, st.sampled_from(["kubectl", "npm", "./x", "/bin/x", "x y"]), WORDS)
    @settings(max_examples=300)
    def test_what_is_executed_is_what_env_would_execute(self, ours: list[str], name: str, words: list[str]) -> None:
        executed: list[list[str]] = []

        def become(command: list[str], environment: Any) -> int:
            executed.append(command)
            return 0

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(run_command, "become", become)
            patch.setattr(run_command, "served_apart", not_served)
            assert main(["run", *ours, name, *words]) == 0
        assert executed == [[name, *words]]

    @pytest.mark.parametrize(
        "words",
        [
            ["exec", "pod", "--", "rm", "-rf", "x"],
            ["test", "--", "--watch"],
            ["--", "--"],
            ["--help"],
            ["--verbose", "--credential", "az"],
            ["", " ", "a\nb", "é", "$HOME", "*"],
            [],
        ],
    )
    @pytest.mark.parametrize("dashes", [[], ["--"]], ids=["", "--"])
    def test_so_it_is_in_truth(self, tmp_path: Path, words: list[str], dashes: list[str]) -> None:
        program = tmp_path / "show"
        program.write_text(f"#!{sys.executable} -IS\nimport sys; print(sys.argv)\n")
        program.chmod(0o755)
        ours = execute(*COMMAND, "run", *dashes, str(program), *words)
        assert (ours.stdout, ours.stderr) == (execute("env", str(program), *words).stdout, "")


class TestExecution:
    """As execvp does it, and with the statuses of shells."""

    @pytest.fixture
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A folder with programs of every kind, on PATH behind one with a program of the same name that is closed."""
        first, second = tmp_path / "first", tmp_path / "second"
        for place in (first, second):
            place.mkdir()
        (first / "both").write_text("#!/bin/sh\necho first\n")
        (second / "both").write_text("#!/bin/sh\necho second\n")
        (second / "plain").write_text('echo "plain $1"\n')
        (second / "bad").write_text("#!/no/such/interpreter\n")
        (second / "empty").write_text("")
        for name in ("both", "plain", "bad", "empty"):
            (second / name).chmod(0o755)
        (second / "folder").mkdir()
        (second / "closed").write_text("#!/bin/sh\n")
        monkeypatch.setenv("PATH", f"{first}:{tmp_path}/absent:/dev/null:{second}", prepend=os.pathsep)
        return second

    @pytest.mark.parametrize(
        "words",
        [
            ["both"], ["plain", "a"], ["empty"], ["bad"], ["folder"], ["closed"], ["absent"], ["./plain", "b"],
            ["./absent"], ["./closed"], ["./folder"], ["/etc"], [""], ["/"], ["plain/x"], ["."],
        ],
    )  # fmt: skip
    def test_status_and_output_are_those_of_env(self, folder: Path, words: list[str]) -> None:
        ours, envs = execute(*RUN, *words, cwd=folder), execute(*ENV, *words, cwd=folder)
        assert (ours.returncode, ours.stdout) == (envs.returncode, envs.stdout)
        assert bool(ours.stderr) == bool(envs.stderr)

    @pytest.mark.parametrize(
        ("words", "status", "said"),
        [
            (["no-such-command"], 127, "azure-cloudshell: no-such-command: command not found\n"),
            (["./no/such"], 127, "azure-cloudshell: ./no/such: No such file or directory\n"),
            (["/etc"], 126, "azure-cloudshell: /etc: Permission denied\n"),
        ],
    )
    def test_what_cannot_be_executed_is_said_in_one_line(self, words: list[str], status: int, said: str) -> None:
        done = run("run", *words)
        assert (done.returncode, done.stderr) == (status, said)

    def test_what_is_too_long_is_said_too(self) -> None:
        program = "from azure_cloudshell_credential._cli import main; exit(main(['run', 'true', 'x' * 131_072]))"
        done = execute(sys.executable, "-c", program)
        assert done.returncode == 126
        assert "Argument list too long" in done.stderr

    def test_an_empty_path_and_none_are_read_as_env_does(self, folder: Path) -> None:
        for path in ("", ":/bin", "/bin:"):
            assert execute("env", f"PATH={path}", *RUN, "plain", "x", cwd=folder).stdout == "plain x\n"

    def test_without_a_command_it_starts_the_shell_and_says_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SHELL", "/bin/bash")
        done = subprocess.run(
            [*COMMAND, "run"],
            input="echo $0 ${MSI_ENDPOINT:+set}",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stdout) == (0, "/bin/bash set\n")
        assert done.stderr.count("\n") == 1
        assert "starting /bin/bash, in which every program asks the broker" in done.stderr


INHERITED = """
import json, os, resource
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines() if ":" in line)
print(json.dumps({
    "status": {name: status[name].strip() for name in ("Umask", "SigBlk", "SigIgn", "SigCgt", "Threads")},
    "descriptors": sorted((int(each), os.get_inheritable(int(each))) for each in os.listdir("/proc/self/fd")
                          if os.path.exists(f"/proc/self/fd/{each}")),
    "limits": [resource.getrlimit(number) for number in range(16)],
    "places": [os.getcwd(), os.getppid() == int(os.environ["PARENT"]), os.getpgrp() == os.getpid(), os.getsid(0)],
    "priority": os.getpriority(os.PRIO_PROCESS, 0),
}))
"""


@needs_proc
class TestInheritance:
    """The command gets from its caller what it would get without us, and nothing of ours."""

    def shown(self, *before: str, command: list[str] = RUN, **options: Any) -> Any:
        options.setdefault("stdin", subprocess.DEVNULL)
        environment = {**without_coverage(), "PARENT": str(os.getpid())}
        done = subprocess.run(
            [*before, *command, sys.executable, "-IS", "-c", INHERITED],
            stdout=subprocess.PIPE, timeout=60, check=True, env=environment, **options,
        )  # fmt: skip
        return json.loads(done.stdout)

    def test_signals_descriptors_limits_and_places_are_those_of_env(self) -> None:
        assert self.shown() == self.shown(command=ENV)

    def test_what_the_caller_ignores_blocks_and_limits_stays(self) -> None:
        before = ("bash", "-c", "trap '' HUP INT USR1; umask 027; ulimit -c 0 -n 200; cd /; exec nice -n 3 \"$@\"", "x")
        assert self.shown(*before) == self.shown(*before, command=ENV)

    @pytest.mark.parametrize("given", [[], ["LANG=C"], ["LC_CTYPE=C.UTF-8"], ["LC_CTYPE=C"], ["LC_ALL=C"]])
    def test_the_locale_is_the_callers_and_not_pythons(self, given: list[str]) -> None:
        done = execute("env", "-i", *given, *RUN, shutil.which("env") or "")
        assert [line for line in done.stdout.splitlines() if line.startswith("L")] == given

    def test_a_process_group_of_its_own_stays(self) -> None:
        ours = self.shown(process_group=0) if sys.version_info >= (3, 11) else self.shown(start_new_session=True)
        assert ours["places"][2]

    def test_further_descriptors_reach_the_command(self) -> None:
        out, into = os.pipe()
        with os.fdopen(into, "w") as file:
            file.write("through a pipe")
        done = execute(*RUN, "cat", f"/dev/fd/{out}", pass_fds=[out])
        os.close(out)
        assert done.stdout == "through a pipe"
        assert execute("bash", "-c", '"$@" cat <(echo hi)', "x", *RUN).stdout == "hi\n"

    @pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
    def test_what_is_closed_stays_closed(self, closed: str, tmp_path: Path) -> None:
        program = f"""
import os
def is_open(number):
    try: os.fstat(number)
    except OSError: return False
    return True
found = repr([number for number in (0, 1, 2) if is_open(number)])
with open({str(tmp_path / "open")!r}, "w") as file: file.write(found)
"""
        found = []
        for command in (RUN, ENV):
            done = execute("bash", "-c", f'exec "$@" {closed}', "x", *command, sys.executable, "-IS", "-c", program)
            found.append((done.returncode, (tmp_path / "open").read_text()))
        assert found[0] == found[1]
        assert found[0][0] == 0

    def test_status_output_and_input_are_the_commands(self) -> None:
        done = subprocess.run(
            [*RUN, "bash", "-c", "cat; echo $0 \"$@\" >&2; exit 7", "a", "--", "-b c"],
            input="in", capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout, done.stderr) == (7, "in", "a -- -b c\n")


class TestSignals:
    """Nothing passes them on: the command is the process that they are sent to."""

    def test_the_command_is_the_process_itself(self) -> None:
        with running("print(os.getpid(), flush=True); sys.stdin.read()") as found:
            assert int(found.line()) == found.process.pid

    @pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT", "SIGKILL", "SIGUSR1", "SIGQUIT", "SIGSEGV"])
    def test_a_command_that_a_signal_ends_has_the_status_of_that_signal(self, name: str) -> None:
        number = getattr(signal, name)
        with running("signal.signal(signal.SIGINT, signal.SIG_DFL); print(flush=True); time.sleep(60)") as found:
            found.line()
            found.process.send_signal(number)
            assert found.process.wait(20) == -number
            assert eventually(lambda: not is_open(found.port))

    @pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
    def test_a_signal_to_the_process_group_arrives_once(self, name: str) -> None:
        program = f"""
seen = []
signal.signal(signal.{name}, lambda *_: seen.append(1))
print(flush=True)
sys.stdin.readline()
print(len(seen), flush=True)
"""
        with running(program, start_new_session=True) as found:
            found.line()
            os.killpg(found.process.pid, getattr(signal, name))
            time.sleep(0.3)
            assert found.process.stdin is not None
            found.process.stdin.write("\n")
            found.process.stdin.flush()
            assert found.line() == "1"

    def test_timeout_sends_one_signal(self) -> None:
        script = "n=0; trap 'n=$((n+1))' TERM; echo up; for i in {1..10}; do sleep 0.1; done; echo $n"
        # It passes on what it is sent, as it sends its own. Without the option, that goes to its process group besides.
        command = ["timeout", "--foreground", "60", *RUN, "bash", "-c", script]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=without_coverage()) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            process.send_signal(signal.SIGTERM)
            assert process.stdout.read() == "1\n"

    def test_nohup_holds(self) -> None:
        done = execute("nohup", *RUN, "bash", "-c", "kill -HUP $$; echo alive")
        assert (done.returncode, done.stdout) == (0, "alive\n")

    def test_a_pipeline_ends_when_its_reader_has_gone(self) -> None:
        assert execute(*RUN, "bash", "-c", "yes | head -1; echo ${PIPESTATUS[0]}").stdout == "y\n141\n"


class Terminal:
    """bash on a terminal of its own, as a person sits before it."""

    def __init__(self) -> None:
        self.process, self.master = pty.fork()
        if self.process == 0:
            os.environ.update({"PS1": "ready> ", "TERM": "dumb", "HISTFILE": ""})
            os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
        self.seen = ""
        self.read_until("ready> ")

    def send(self, text: str) -> None:
        os.write(self.master, text.encode())

    def read_until(self, text: str, seconds: float = 30) -> str:
        """What is shown up to a text, which is taken off."""
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < deadline, self.seen
            if select.select([self.master], [], [], 0.1)[0]:
                self.seen += os.read(self.master, 65536).decode()
        before, _, self.seen = self.seen.partition(text)
        return before

    def line(self, text: str) -> str:
        """What a line brings, up to the next prompt."""
        self.send(text + "\n")
        self.read_until("\n")
        return self.read_until("ready> ").replace("\r", "")

    def close(self) -> None:
        os.kill(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)
        os.close(self.master)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    found = Terminal()
    yield found
    found.close()


class TestTerminals:
    LINE = " ".join(RUN)

    def test_ctrl_c_reaches_the_command_once(self, terminal: Terminal) -> None:
        trap = (
            "n=0; trap 'n=$((n+1)); echo caught-$n' INT; echo up; for i in 1 2 3 4 5 6; do sleep 0.2; done; echo end-$n"
        )
        terminal.send(f'{self.LINE} bash -c "{trap.replace("$", chr(92) + "$")}"\n')
        terminal.read_until("up\r")
        time.sleep(0.3)
        terminal.send("\x03")
        terminal.read_until("caught-1")
        terminal.read_until("end-1")
        terminal.read_until("ready> ")
        assert terminal.line("echo status=$?").startswith("status=0")

    def test_ctrl_c_ends_a_command_that_does_not_mind(self, terminal: Terminal) -> None:
        terminal.send(f"{self.LINE} sh -c 'echo up; exec sleep 30'\n")
        terminal.read_until("up\r")
        terminal.send("\x03")
        terminal.read_until("ready> ")
        assert terminal.line("echo status=$?").startswith("status=130")

    def test_ctrl_z_and_fg(self, terminal: Terminal) -> None:
        terminal.send(f"{self.LINE} sh -c 'echo up; read line; echo got-$line'\n")
        terminal.read_until("up\r")
        terminal.send("\x1a")
        terminal.read_until("Stopped")
        terminal.read_until("ready> ")
        assert "Stopped" in terminal.line("jobs")
        terminal.send("fg\n")
        time.sleep(0.3)
        terminal.send("hello\n")
        terminal.read_until("got-hello")
        terminal.read_until("ready> ")

    def test_in_the_background_it_is_a_job_like_others(self, terminal: Terminal) -> None:
        terminal.line(f"{self.LINE} sleep 0.5 &")
        assert terminal.line("wait %1; echo status=$?").find("status=0") >= 0

    def test_the_size_of_the_window_and_its_changes(self, terminal: Terminal) -> None:
        _resize(terminal, 31, 97)
        assert terminal.line(f"{self.LINE} stty size").startswith("31 97")
        script = "trap 'stty size; exit' WINCH; echo up; while :; do sleep 0.05; done"
        terminal.send(f'{self.LINE} bash -c "{script}"\n')
        terminal.read_until("up\r")
        _resize(terminal, 40, 120)
        terminal.read_until("40 120")

    def test_the_command_reads_the_terminal(self, terminal: Terminal) -> None:
        assert terminal.line(f"{self.LINE} sh -c 'test -t 0 && test -t 1 && echo yes'").startswith("yes")


def _resize(terminal: Terminal, lines: int, columns: int) -> None:
    import fcntl
    import struct

    fcntl.ioctl(terminal.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))


@needs_proc
class TestServingProcess:
    """It lives as long as the command, apart from it."""

    def test_it_is_no_child_of_the_command_and_in_a_session_of_its_own(self) -> None:
        with running() as found:
            status = status_of(found.server)
            assert int(status["PPid"]) not in (found.process.pid, os.getpid())
            assert os.getsid(found.server) not in (os.getsid(0), os.getsid(found.process.pid))
            children = Path(f"/proc/{found.process.pid}/task/{found.process.pid}/children")
            assert not children.exists() or children.read_text() == ""

    def test_a_command_that_waits_for_all_its_children_does_not_wait_for_it(self) -> None:
        program = "try: os.wait()\nexcept ChildProcessError: print('none', flush=True)"
        with running(program) as found:
            assert found.line() == "none"
            assert found.end() == 0

    @pytest.mark.parametrize("number", [None, signal.SIGKILL, signal.SIGTERM])
    def test_it_ends_with_the_command(self, number: int | None) -> None:
        with running() as found:
            server = found.server
            if number is not None:
                found.process.send_signal(number)
            found.end()
            assert eventually(lambda: not Path(f"/proc/{server}").exists(), 5)
            assert not is_open(found.port)

    def test_it_ends_though_a_child_of_the_command_goes_on(self) -> None:
        program = "if os.fork() == 0:\n    os.closerange(0, 3); time.sleep(5); os._exit(0)"
        with running(program, stdin=subprocess.DEVNULL) as found:
            assert eventually(lambda: not is_open(found.port))
            assert found.process.wait(10) == 0

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
    def test_once_it_is_killed_the_next_request_is_refused_at_once(self, number: int) -> None:
        with running() as found:
            os.kill(found.server, number)
            assert eventually(lambda: not is_open(found.port), 5)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", found.port), 5)
            assert found.process.poll() is None
            assert found.end() == 0

    def test_it_holds_none_of_the_callers_descriptors(self) -> None:
        out, into = os.pipe()
        with running("sys.stdin.read()", pass_fds=[into], stderr=subprocess.DEVNULL) as found:
            os.close(into)
            # The command does not wait for the process that serves it: until that has answered it may be starting.
            with socket.create_connection(("127.0.0.1", found.port), 20) as connection:
                connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                assert connection.recv(1)
            held = set()
            for link in Path(f"/proc/{found.server}/fd").iterdir():
                with suppress(FileNotFoundError):
                    held.add(str(link.readlink()))
            own = os.fstat(out)
            assert f"pipe:[{own.st_ino}]" not in held
            assert found.process.stdout is not None
            assert f"pipe:[{os.fstat(found.process.stdout.fileno()).st_ino}]" not in held
        os.close(out)

    def test_a_substitution_ends_with_the_command(self) -> None:
        start = time.monotonic()
        assert execute("bash", "-c", 'x=$("$@" echo hi); echo "[$x]"', "x", *RUN).stdout == "[hi]\n"
        assert time.monotonic() - start < 30

    def test_so_does_one_of_its_errors_too(self) -> None:
        script = "curl -s -H Metadata:true $MSI_ENDPOINT?resource=x >&2; echo hi"
        start = time.monotonic()
        done = execute("bash", "-c", 'x=$("$@" 2>&1); echo "[${x: -3}]"', "x", *RUN, "bash", "-c", script)
        assert done.stdout.endswith("hi]\n")
        assert time.monotonic() - start < 30

    def test_few_descriptors_are_enough(self) -> None:
        script = "curl -s -m 20 -H Metadata:true $MSI_ENDPOINT | cut -c1-9"
        done = execute("bash", "-c", 'ulimit -n 11; "$@"', "x", *RUN, "bash", "-c", f"ulimit -n 11; {script}")
        assert done.stdout == '{"error":\n', done.stderr

    @pytest.mark.parametrize("flags", [["-I"], ["-E"]])
    def test_it_is_isolated_as_its_caller_is(self, tmp_path: Path, flags: list[str]) -> None:
        for name in ("sitecustomize", "json", "azure"):
            (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write('{name} ')")
        script = "curl -s -m 20 -H Metadata:true $MSI_ENDPOINT | cut -c1-9"
        start = ["env", f"PYTHONPATH={tmp_path}", sys.executable, *flags, *COMMAND[1:]]
        done = execute(*start, "run", "bash", "-c", script, cwd="/")
        assert done.stdout == '{"error":\n', done.stderr
        assert not (tmp_path / "ran").exists()

    def test_its_arguments_and_environment_hold_no_secret(self) -> None:
        names = ("MSI_ENDPOINT", "IDENTITY_HEADER", "AZD_AUTH_KEY")
        with running(f"print(*(os.environ[name] for name in {names}), flush=True); sys.stdin.read()") as found:
            url, header, key = found.line().split()
            shown = (
                Path(f"/proc/{found.server}/cmdline").read_text() + Path(f"/proc/{found.server}/environ").read_text()
            )
            shown += Path(f"/proc/{found.process.pid}/cmdline").read_text()
            assert not [secret for secret in (url.split("/")[3], header, key) if secret in shown]

    @pytest.mark.usefixtures("in_cloud_shell")
    def test_modules_of_the_current_directory_are_not_run(self, tmp_path: Path) -> None:
        for name in ("azure", "json", "socket", "requests", "ssl", "hmac", "http"):
            (tmp_path / f"{name}.py").write_text(f"open('ran-{name}', 'w').close(); raise SystemExit(9)")
        script = "curl -s -H Metadata:true $MSI_ENDPOINT?resource=https://denied.example | cut -c1-9"
        command = shutil.which("azure-cloudshell", path=str(Path(sys.executable).parent)) or "azure-cloudshell"
        for start in ([command], [sys.executable, "-P", *COMMAND[1:]]) if sys.version_info >= (3, 11) else ([command],):
            done = execute(*start, "run", "--", "bash", "-c", script, cwd=tmp_path)
            assert (done.returncode, done.stdout) == (0, '{"error":\n')
            assert done.stderr.startswith("azure-cloudshell: https://denied.example: refused, ")
            assert done.stderr.count("\n") == 1
        # Under python -m the interpreter itself looks here first: then the look for azure-identity must not.
        for name in ("json", "socket", "requests", "ssl", "hmac", "http"):
            (tmp_path / f"{name}.py").unlink()
        done = execute(*RUN, "bash", "-c", script, cwd=tmp_path)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (0, '{"error":\n', 1)
        assert list(tmp_path.glob("ran-*")) == []

    def test_it_works_in_a_directory_that_is_gone(self, tmp_path: Path) -> None:
        line = f'mkdir {tmp_path}/x; cd {tmp_path}/x; rmdir {tmp_path}/x; exec "$@" echo hi'
        command = shutil.which("azure-cloudshell", path=str(Path(sys.executable).parent)) or "azure-cloudshell"
        assert execute("bash", "-c", line, "x", command, "run").stdout == "hi\n"

    def test_it_ends_with_a_command_that_was_given_more_than_1024_descriptors(self) -> None:
        line = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (4000, 4000)); "
        line += "[os.set_inheritable(os.dup(0), True) for _ in range(1100)]; os.execv(sys.argv[1], sys.argv[1:])"
        if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 4000:
            pytest.skip("needs leave to open 4,000 files")
        script = "curl -s -m 20 -H Metadata:true $MSI_ENDPOINT | cut -c1-9; echo $MSI_ENDPOINT"
        done = execute(sys.executable, "-c", line, *RUN, "bash", "-c", script)
        answer, url = done.stdout.splitlines()
        assert answer == '{"error":'
        assert eventually(lambda: not is_open(int(url.split(":")[2].split("/")[0])))
        assert done.stderr == ""

    def test_one_that_cannot_watch_its_command_ends_and_says_so(self) -> None:
        program = """
import sys
from azure_cloudshell_credential._cli import _apart, main
_apart._PROGRAM = _apart._PROGRAM.replace(
    "main(given", "from azure_cloudshell_credential._cli import _apart; _apart._wait_for_end = None; main(given"
)
sys.exit(main(["run", "--", "sh", "-c", 'echo "$MSI_ENDPOINT"; cat']))
"""
        with subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env=without_coverage(),
        ) as process:  # fmt: skip
            assert process.stdout is not None
            port = int(process.stdout.readline().split(":")[2].split("/")[0])
            assert eventually(lambda: not is_open(port))
            _, errors = process.communicate(timeout=30)
        assert errors == "azure-cloudshell: the broker stops, since it cannot watch its command: TypeError\n"

    def test_without_a_descriptor_for_the_process_it_looks_from_time_to_time(self) -> None:
        program = """
import os, sys
del os.pidfd_open
from azure_cloudshell_credential._cli import main
sys.exit(main(["run", "--", "sh", "-c", 'echo "$MSI_ENDPOINT"']))
"""
        done = execute(sys.executable, "-c", program)
        port = int(done.stdout.split(":")[2].split("/")[0])
        assert eventually(lambda: not is_open(port))

    def test_as_the_first_process_of_a_container(self) -> None:
        unshare = ["unshare", "--pid", "--fork", "--mount-proc"]
        if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
            pytest.skip("needs leave to make a process namespace")
        script = "echo $$; curl -s -m 20 -H Metadata:true $MSI_ENDPOINT | cut -c1-9; exit 3"
        done = execute(*unshare, *RUN, "bash", "-c", script)
        assert (done.returncode, done.stdout) == (3, '1\n{"error":\n'), done.stderr
        # The system makes it a child of process 1, which is why the docs ask for an init.
        wait = "try: os.wait()\nexcept ChildProcessError: print('none')"
        script = f"import os, signal, threading\nthreading.Timer(2, os._exit, [5]).start()\n{wait}\nos._exit(0)"
        done = execute(*unshare, *RUN, sys.executable, "-IS", "-c", script)
        assert (done.returncode, done.stdout) == (5, "")
        done = execute(*unshare, "sh", "-c", '"$@"; exit $?', "init", *RUN, sys.executable, "-IS", "-uc", script)
        assert (done.returncode, done.stdout) == (0, "none\n")

    @pytest.mark.slow
    def test_a_hundred_at_once(self) -> None:
        script = "curl -s -m 60 -H Metadata:true $MSI_ENDPOINT | cut -c1-9; echo $MSI_ENDPOINT"
        started = [
            subprocess.Popen([*RUN, "bash", "-c", script], stdout=subprocess.PIPE, text=True, env=without_coverage())
            for _ in range(100)
        ]
        outputs = [process.communicate(timeout=110)[0].splitlines() for process in started]
        assert all(process.returncode == 0 for process in started)
        assert {output[0] for output in outputs} == {'{"error":'}
        ports = {int(output[1].split(":")[2].split("/")[0]) for output in outputs}
        assert len({output[1] for output in outputs}) == 100
        assert eventually(lambda: not any(map(is_open, ports)), 30)


def test_where_there_is_no_exec_the_command_is_a_child(tmp_path: Path) -> None:
    program = """
import os, sys
del os.fork
from azure_cloudshell_credential._cli import main
sys.exit(main(sys.argv[1:]))
"""
    script = "curl -s -m 20 -H Metadata:true $MSI_ENDPOINT | cut -c1-9; exit 7"
    done = execute(sys.executable, "-c", program, "run", "--", "bash", "-c", script)
    assert (done.returncode, done.stdout, done.stderr) == (7, '{"error":\n', "")
    done = execute(sys.executable, "-c", program, "run", "no-such-command")
    assert (done.returncode, done.stderr) == (127, "azure-cloudshell: no-such-command: command not found\n")
