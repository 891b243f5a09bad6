"""AWS's own emulator of Lambda, the Runtime Interface Emulator, with a function in it.

    with Emulator(root, BOOTSTRAP, "function.handler") as emulator:
        status, body = emulator.invoke({"k": 1})
"""

import base64
import contextlib
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from root_fs import enter

REPO = pathlib.Path(__file__).resolve().parents[2]
BOOTSTRAP = REPO / "bootstrap"
BUILD = REPO / "build" / "conformance"

# A root file system in which Managed Instances mode finds what it wants: the runtime in /opt, the function in
# /var/task, and an interpreter that the user which it starts bootstrap as may read. All of it ends with the process.
NAMESPACE = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-ec"]
MOUNT = """
    mount -t tmpfs none /opt
    cp "$1/bootstrap" "$1/runtime.py" /opt
    mount -t tmpfs none /var
    mkdir /var/task /var/lang
    mount --bind "$2" /var/task
    mount --bind "$3" /var/lang
    shift 3
    exec "$@"
"""


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Program:
    """A server that a test starts, and all that it starts in turn; a context manager that ends them."""

    def __init__(self, command, cwd, environment):
        self.output = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=self.output, stderr=self.output,
            start_new_session=True,
        )

    @property
    def log(self):
        size = os.fstat(self.output.fileno()).st_size
        return os.pread(self.output.fileno(), size, 0).decode("utf-8", "backslashreplace")

    def wait_for(self, predicate, what, timeout=30):
        """Wait for what another program does: nothing tells us of it, so ask every few milliseconds."""
        end = time.monotonic() + timeout
        while not predicate():
            if time.monotonic() > end or self.process.poll() is not None:
                raise AssertionError(f"{what} within {timeout} s\n-- log:\n{self.log[-8000:]}")
            time.sleep(0.005)

    def wait_for_port(self, port):
        def listens():
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return True

        self.wait_for(listens, f"nobody listens on port {port}")

    def close(self):
        if self.process.poll() is None:
            # `unshare` lets SIGTERM pass to the program in it.
            os.killpg(self.process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.output.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()


class Emulator(Program):
    """command: what the emulator starts, and the handler. environment: over what a container has.

    slots: Managed Instances mode, with AWS_LAMBDA_MAX_CONCURRENCY=slots. root_fs: the root file system that the emulator
    and the function, in its /var/task, see.
    """

    def __init__(self, root, *command, environment=None, slots=None, root_fs=None):
        self.port = free_port()
        variables = {"PATH": f"{os.path.dirname(sys.executable)}:/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
        variables.update(environment or {})
        emulator = [
            BUILD / "aws-lambda-rie",
            f"--runtime-interface-emulator-address=127.0.0.1:{self.port}",
            f"--runtime-api-address=127.0.0.1:{free_port()}",
            *command,
        ]
        if slots:
            variables["AWS_LAMBDA_MAX_CONCURRENCY"] = str(slots)
            os.chmod(root, 0o755)
            emulator = [*NAMESPACE, MOUNT, "sh", REPO, root, sys.base_prefix, *emulator]
        if root_fs:
            shutil.copy(emulator[0], root_fs / "usr/local/bin")
            emulator = enter(root_fs, "/usr/local/bin/aws-lambda-rie", *emulator[1:])
        super().__init__(emulator, root, variables)
        try:
            self.wait_for_port(self.port)
        except BaseException:
            self.close()
            raise

    def invoke(self, event=None, *, body=None, client_context=None, timeout=30, **headers):
        """Status and body of the answer; its header fields are in `headers`."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        if client_context is not None:
            fields["X-Amz-Client-Context"] = base64.b64encode(json.dumps(client_context).encode()).decode()
        with contextlib.closing(connection):
            connection.request(
                "POST", "/2015-03-31/functions/function/invocations", json.dumps(event) if body is None else body, fields
            )
            response = connection.getresponse()
            self.headers = response.headers
            return response.status, response.read()


def can_unshare():
    """Whether Managed Instances mode can be had: the emulator starts bootstrap as another user."""
    return os.geteuid() == 0 and shutil.which("unshare") is not None
