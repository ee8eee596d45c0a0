"""Starts the project's scripts out of a Python that has imported their modules already: how the tests start them.

Most of what the start of a script takes are imports, of the same files each time, also of those that it imports only
where its settings ask for it; a run of all tests starts some thousands. Everything else is as in a process of its own,
which it is: the script's own text is executed, with arguments, environment, directory, files and session of its own,
and its end is Python's own, but for what the server imported. A test's own sitecustomize (CUSTOMS) is executed before
it; where Python would execute the first of several, all are. What looks at that start itself (another directory in
PYTHONPATH, switches of Python, a launcher before it) is started in the ordinary way.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import io
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import types
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_DRIVERS = ("pymysql", "sqlalchemy.dialects.mysql.pymysql", "sqlalchemy.dialects.sqlite.pysqlite")
# Each has a server of its own, and what it imports beside the script: all of these packages, and these modules.
SCRIPTS = {
    str(ROOT / "listen.py"): ("relay.listening", "relay.status", *_DRIVERS),
    str(ROOT / "receiver.py"): ("relay.receiving", "relay.status", "relay.targets"),
}
# Directories of PYTHONPATH whose sitecustomize changes what is imported already as well as what is not yet.
CUSTOMS = {str(ROOT / "tests" / name) for name in ("freezing", "killing", "mute", "shortened", "unjudged")}
MESSAGE_MAX = 1 << 17  # bytes of a request
# What Python reads in its environment at its start.
_OF_THE_START = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC_", "COVERAGE_")
_HEEDED = {"PYTHONUNBUFFERED"}
_STATUS = struct.Struct("i")
_lock = threading.Lock()
_servers: dict[str, _Server] = {}  # by script
_enabled = False
_imported = set[str]()  # by a server


class Popen(subprocess.Popen[Any]):
    """subprocess.Popen, but that listen.py and receiver.py come out of the server, while there is one (`enable`).

    Overrides what Popen does at the start and at the end of a process, which are private names of Python 3.11 to 3.13.
    """

    _ending: int | None = None  # where the server writes the exit status; None = it is our own child

    def _execute_child(self, args: Any, executable: Any, preexec_fn: Any, *rest: Any) -> None:
        _close_fds, pass_fds, cwd, env, _info, _flags, shell = rest[:7]
        p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite = rest[7:13]
        new_session = rest[18]
        if not _enabled or executable or preexec_fn or pass_fds or shell or not _is_ordinary(args, env):
            super()._execute_child(args, executable, preexec_fn, *rest)  # type: ignore[misc]
            return
        self._ending, status = os.pipe()
        files = [fd if fd != -1 else number for number, fd in enumerate((p2cread, c2pwrite, errwrite))]
        request = {
            "words": [str(word) for word in args[1:]],
            "directory": str(cwd or Path.cwd()),
            "environment": dict(os.environ if env is None else env),
            "new_session": bool(new_session),
        }
        try:
            self.pid = _server_of(str(args[1])).start(request, [*files, status])
        finally:
            os.close(status)
        self._child_created = True
        self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)  # type: ignore[attr-defined]

    def _internal_poll(self, *arguments: Any, **more: Any) -> int | None:
        if self._ending is None:
            return super()._internal_poll(*arguments, **more)  # type: ignore[misc, no-any-return]
        self._take_status(0)
        return self.returncode

    def _wait(self, timeout: float | None) -> int:
        if self._ending is None:
            return super()._wait(timeout)  # type: ignore[misc, no-any-return]
        self._take_status(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return self.returncode

    def _take_status(self, timeout: float | None) -> None:
        with self._waitpid_lock:  # type: ignore[attr-defined]
            ending = self._ending
            if ending is None or self.returncode is not None:
                return
            poll = select.poll()  # select() takes no number above 1023
            poll.register(ending, select.POLLIN)
            if poll.poll(None if timeout is None else timeout * 1000):
                told = os.read(ending, _STATUS.size)
                os.close(ending)
                self.returncode = _STATUS.unpack(told)[0] if told else -signal.SIGKILL  # the server is gone


def run(
    command: Sequence[str], *, timeout: float, env: Mapping[str, str] | None = None, given: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command of one of the scripts to its end, as subprocess.run does, with its output as text.

    Args:
        command: words; the first one is Python.
        timeout: seconds.
        env: None = ours.
        given: its input; None = there is none.
    """
    stdin = subprocess.DEVNULL if given is None else subprocess.PIPE
    with Popen(command, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) as process:
        try:
            shown, told = process.communicate(given, timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, shown, told)


def enable() -> None:
    """From now on in this process; a script's server, which its first start begins, ends with it."""
    global _enabled
    _enabled = True


def _server_of(script: str) -> _Server:
    with _lock:
        if script not in _servers:
            _servers[script] = _Server(script)
        return _servers[script]


def _is_ordinary(words: Any, env: Mapping[str, str] | None) -> bool:
    """Is it Python with one of the scripts, and nothing that Python would read at its start?"""
    if isinstance(words, str | bytes) or len(words) < 2 or words[0] != sys.executable or str(words[1]) not in SCRIPTS:
        return False
    own = os.environ if env is None else env
    names = {name for name in {*own, *os.environ} if name.startswith(_OF_THE_START)} - _HEEDED
    if _customs(own):
        names.discard("PYTHONPATH")
    return all(own.get(name, os.environ.get(name)) == os.environ.get(name) for name in names)


def _customs(environment: Mapping[str, str]) -> list[str]:
    """The directories of PYTHONPATH, if there are no others than these and the product's."""
    named = [one for one in environment.get("PYTHONPATH", "").split(":") if one != str(ROOT)]
    return named if CUSTOMS.issuperset(named) else []


class _Server:
    """The other end: the process that has everything imported that a script may need."""

    def __init__(self, script: str) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            fd = theirs.fileno()
            subprocess.Popen(
                [sys.executable, "-m", "dev.forkserver", str(fd), script],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[fd], cwd=ROOT, start_new_session=True,
            )  # fmt: skip

    def start(self, request: Mapping[str, object], files: Sequence[int]) -> int:
        """Return the pid of a new process. files: stdin, stdout, stderr, and where its exit status goes."""
        with _lock:
            socket.send_fds(self._socket, [json.dumps(request).encode()], list(files))
            (pid,) = _STATUS.unpack(self._socket.recv(_STATUS.size))
        return int(pid)


def _serve(control: socket.socket) -> list[str]:
    """Fork for each request; in the process that this makes, return the script and its arguments."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    children: dict[int, int] = {}  # where their exit status goes, by pid
    gc.freeze()
    while True:
        ready, _, _ = select.select([control.fileno(), woken], [], [])
        if woken in ready:
            os.read(woken, 1000)
            _tell_ends(children)
        if control.fileno() not in ready:
            continue
        text, files, _, _ = socket.recv_fds(control, MESSAGE_MAX, 4)
        if not text:  # whoever started us has ended
            for pid in children:
                os.kill(pid, signal.SIGKILL)
            raise SystemExit
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for fd in (woken, wake, control.detach(), files[3], *children.values()):
                os.close(fd)
            return _become(json.loads(text), files[:3])
        children[pid] = files[3]
        for fd in files[:3]:
            os.close(fd)
        control.send(_STATUS.pack(pid))


def _tell_ends(children: dict[int, int]) -> None:
    while True:
        try:
            # Told before the pid can be another's: whoever asks must not find it gone, and without a status.
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None:
            return
        status = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
        fd = children.pop(ended.si_pid)
        with contextlib.suppress(BrokenPipeError):
            os.write(fd, _STATUS.pack(status))
        os.close(fd)
        os.waitpid(ended.si_pid, 0)


def _become(request: Mapping[str, Any], files: Sequence[int]) -> list[str]:
    """Be as a process that was started with this request; return its words."""
    if request["new_session"]:
        os.setsid()
    for number, fd in enumerate(files):
        os.dup2(fd, number)
    for fd in files:
        os.close(fd)
    os.chdir(request["directory"])
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)))
    for name, number, errors in (("stdout", 1, "strict"), ("stderr", 2, "backslashreplace")):
        raw = io.FileIO(number, "w", closefd=False)
        made = io.TextIOWrapper(
            io.BufferedWriter(raw), errors=errors, line_buffering=number == 2 or raw.isatty(), write_through=unbuffered
        )
        setattr(sys, name, made)
    for directory in _customs(os.environ):
        runpy.run_path(f"{directory}/sitecustomize.py")
    return list(request["words"])


def _child_of(fd: int, script: str) -> types.ModuleType:
    atexit.register(_keep)  # first: it is called last
    import_module(Path(script).stem)
    for name in SCRIPTS[script]:
        package = import_module(name)
        if name.startswith("relay."):
            for module in pkgutil.walk_packages(package.__path__, f"{name}."):
                import_module(module.name)
    _imported.update(set(sys.modules) - {"builtins", "io", "sys", "__main__"})
    main = types.ModuleType("__main__")
    main.__dict__["__file__"] = script
    sys.argv = _serve(socket.socket(fileno=fd))
    return main


def _keep() -> None:
    """At its end, have a process leave alone what the server imported, which takes longer than all else that it does.

    Python takes every module apart, and each page of memory that it touches is copied. What the process itself made,
    and what it imported beside, ends as ever.
    """
    for name in _imported & set(sys.modules):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(sys.modules.pop(name)))


if __name__ == "__main__":
    script = sys.argv[2]
    program = compile(Path(script).read_bytes(), script, "exec")
    sys.modules["__main__"] = main = _child_of(int(sys.argv[1]), script)
    exec(program, main.__dict__)  # noqa: S102 - the script
