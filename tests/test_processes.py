"""Processes: credentials that are pickled, forked, and in an interpreter that exits."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import subprocess
import sys
import time
from typing import Any

import pytest
from azure.identity import CredentialUnavailableError

from azure_cloudshell_credential import CloudShellCredential
from azure_cloudshell_credential.emulator import CloudShellEmulator, faults

from .command import without_coverage
from .conftest import ARM, SECRET

pytestmark = pytest.mark.slow


def test_pickles_carry_the_configuration_and_no_token(kind: Any, in_cloud_shell: CloudShellEmulator) -> None:
    credential = kind(timeout=7, retry_total=1, user_agent="me").credential
    kind.get_token(mocked := type("Holder", (), {"credential": credential})(), ARM)
    assert mocked.credential is credential
    pickled = pickle.dumps(credential)
    assert not SECRET.search(pickled.decode("latin-1"))
    in_cloud_shell.reset()
    os.environ.pop("MSI_ENDPOINT")
    twin = pickle.loads(pickled)
    assert twin.endpoint == credential.endpoint
    assert (twin._policy.timeout, twin._policy.retry_total) == (7, 1)
    mocked.credential = twin
    assert kind.get_token(mocked, ARM).token
    assert "me azsdk-python" in in_cloud_shell.requests[0].headers["user-agent"]


def test_errors_can_be_pickled(kind: Any, shell: CloudShellEmulator) -> None:
    shell.audiences = ["https://vault.azure.net"]
    shell.list_audiences = True
    with pytest.raises(CredentialUnavailableError) as raised:
        kind(endpoint=shell.endpoint).get_token(ARM)
    twin = pickle.loads(pickle.dumps(raised.value))
    assert (type(twin), str(twin)) == (type(raised.value), str(raised.value))
    assert (twin.resource, twin.supported_audiences) == ("https://management.azure.com", ("https://vault.azure.net",))


@pytest.mark.parametrize("audiences", [["https://vault.azure.net"], None], ids=["AudienceNotSupported", "tenant"])
def test_errors_raised_while_another_is_handled_can_be_pickled(
    kind: Any, shell: CloudShellEmulator, audiences: list[str] | None
) -> None:
    """A traceback has no pickle, and azure-core's errors keep the one that is being handled."""
    shell.audiences = audiences or shell.audiences
    with pytest.raises(CredentialUnavailableError) as raised:
        try:
            raise KeyError("cached")
        except KeyError:
            kind(endpoint=shell.endpoint).get_token(ARM, tenant_id="another")
    for twin in (pickle.loads(pickle.dumps(raised.value)), copy.deepcopy(raised.value)):
        assert (type(twin), str(twin)) == (type(raised.value), str(raised.value))


def _token_in_a_child(credential: Any, queue: Any) -> None:
    queue.put(credential.get_token(ARM).expires_on)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_credential_travels_to_a_worker_process(shell: CloudShellEmulator, method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    queue = context.Queue()
    worker = context.Process(target=_token_in_a_child, args=(CloudShellCredential(endpoint=shell.endpoint), queue))
    worker.start()
    assert queue.get(timeout=30) > time.time()
    worker.join()
    queue.close()
    queue.join_thread()


FORK = """
import os, sys, threading, time, warnings
warnings.simplefilter("ignore")
from azure_cloudshell_credential import CloudShellCredential
credential = CloudShellCredential(timeout=10)
asking = threading.Thread(target=lambda: credential.get_token("https://management.azure.com/.default"))
asking.start()
time.sleep(0.3)  # its request is now at the endpoint
child = os.fork()
if child == 0:
    try:
        started = time.monotonic()
        ok = bool(credential.get_token("https://management.azure.com/.default").token)
        ok = ok and bool(credential.get_token("https://vault.azure.net/.default").token)
        os._exit(0 if ok and time.monotonic() - started < 5 else 3)
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        os._exit(4)
_, status = os.waitpid(child, 0)
asking.join()
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_fork_during_a_request_leaves_the_child_a_working_credential(shell: CloudShellEmulator) -> None:
    shell.latency = 0.7
    run = subprocess.run([sys.executable, "-c", FORK], env={**os.environ, **shell.environment}, timeout=60, check=False)
    assert run.returncode == 0


FIRST_CALL = """
import os, signal, sys, threading, time, warnings
warnings.simplefilter("ignore")
from azure_cloudshell_credential import CloudShellCredential
credential = CloudShellCredential(timeout=10)

def get():
    try:
        return bool(credential.get_token(sys.argv[1]).token)
    except Exception as error:
        return "AudienceNotSupported" in str(error)

threading.Thread(target=get).start()
children = []
for _ in range(10):
    child = os.fork()
    if child == 0:
        os._exit(0 if get() else 1)
    children.append(child)
    time.sleep(0.02)
deadline = time.monotonic() + 15
statuses = []
for child in children:
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.01)
    statuses.append(os.waitstatus_to_exitcode(ended[1]))
print(statuses)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.parametrize("scope", [ARM, "https://search.azure.com/.default"], ids=["served", "refused"])
def test_forks_during_the_first_call_of_a_process_leave_children_that_work(
    shell: CloudShellEmulator, scope: str
) -> None:
    run = subprocess.run(
        [sys.executable, "-c", FIRST_CALL, scope],
        env={**without_coverage(), **shell.environment},
        timeout=90,
        check=False,
        capture_output=True,
        text=True,
    )
    assert (run.returncode, run.stdout) == (0, "[0, 0, 0, 0, 0, 0, 0, 0, 0, 0]\n"), run.stderr


PATCHED_LATE = """
import threading, time, warnings
warnings.simplefilter("ignore")
from azure_cloudshell_credential import CloudShellCredential
credential = CloudShellCredential(timeout=20)
FIRST
PATCH
ticks, outcomes = [], []

def tick():
    while len(outcomes) < 6:
        ticks.append(None)
        time.sleep(0.01)

def get(scope):
    try:
        outcomes.append(bool(credential.get_token(scope).token))
    except Exception as error:
        outcomes.append("AudienceNotSupported" in str(error))

scopes = ["https://storage.azure.com/.default", "https://vault.azure.net/.default", "https://search.azure.com/.default"]
threads = [threading.Thread(target=get, args=[scope]) for scope in scopes * 2]
threads.append(threading.Thread(target=tick))
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(outcomes, len(ticks) > 20)
"""
FIRSTS = {"cold": "", "warm": "credential.get_token('https://management.azure.com/.default')"}
PATCHES = {
    "gevent": "from gevent import monkey; monkey.patch_all()",
    "eventlet": "import eventlet; eventlet.monkey_patch()",
}


@pytest.mark.parametrize("first", FIRSTS)
@pytest.mark.parametrize("patch", PATCHES)
def test_green_threads_that_are_patched_in_after_the_import_get_tokens_and_go_on_running(
    shell: CloudShellEmulator, patch: str, first: str
) -> None:
    shell.latency = 0.3
    program = PATCHED_LATE.replace("PATCH", PATCHES[patch]).replace("FIRST", FIRSTS[first])
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={**without_coverage(), **shell.environment},
        timeout=60,
        check=False,
        capture_output=True,
        text=True,
    )
    assert run.stdout == "[True, True, True, True, True, True] True\n", run.stderr


EXIT = """
import sys, threading
from azure_cloudshell_credential import CloudShellCredential
KIND
threading.Thread(target=get, daemon=True).start()
sys.stdin.readline()
"""
KINDS = {
    "sync": "get = lambda: CloudShellCredential().get_token('https://management.azure.com/.default')",
    "sync with a transport": "from azure.core.pipeline.transport import RequestsTransport\n"
    "get = lambda: CloudShellCredential(transport=RequestsTransport()).get_token('https://management.azure.com')",
    "async": "import asyncio; from azure_cloudshell_credential.aio import CloudShellCredential\n"
    "get = lambda: asyncio.run(CloudShellCredential().get_token('https://management.azure.com/.default'))",
    "trio": "import trio; from azure_cloudshell_credential.aio import CloudShellCredential\n"
    "get = lambda: trio.run(CloudShellCredential().get_token, 'https://management.azure.com/.default')",
}


@pytest.mark.parametrize("which", KINDS)
def test_the_interpreter_exits_promptly_with_a_request_in_flight(shell: CloudShellEmulator, which: str) -> None:
    shell.script(faults.hang())
    program = EXIT.replace("KIND", KINDS[which])
    with subprocess.Popen(
        [sys.executable, "-c", program], env={**os.environ, **shell.environment}, stdin=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        while not shell.requests:
            time.sleep(0.01)
        start = time.monotonic()
        process.stdin.write("leave\n")
        process.stdin.flush()
        assert process.wait(20) == 0
        assert time.monotonic() - start < 5
    assert len(shell.requests) == 1


TEARDOWN = """
import sys, threading, time
from azure_cloudshell_credential import CloudShellCredential
credential = CloudShellCredential()
credential.get_token("https://vault.azure.net/.default")
class Uploads:
    def upload(self, get=credential.get_token):
        print(len(get("https://management.azure.com/.default").token) > 9)
WHEN
"""
WHENS = {
    "at module teardown": "Uploads.__del__ = Uploads.upload; sys.modules['keeps it until the end'] = Uploads()",
    "atexit": "import atexit; atexit.register(Uploads().upload)",
    "with a request under way": "get = credential.get_token\n"
    "threading.Thread(target=lambda: get('https://management.azure.com/.default'), daemon=True).start()\n"
    "time.sleep(0.2); Uploads.__del__ = Uploads.upload; sys.modules['keeps it until the end'] = Uploads()",
}


@pytest.mark.parametrize("when", WHENS)
def test_a_token_is_to_be_had_while_the_interpreter_shuts_down(shell: CloudShellEmulator, when: str) -> None:
    shell.latency = 0.5
    program = TEARDOWN.replace("WHEN", WHENS[when])
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **shell.environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "True\n", done.stderr
    assert done.returncode == 0
    assert time.monotonic() - start < 10
