"""The user's modules: found, imported, and kept from changing what is ours while they are."""

import contextlib
import importlib
import importlib.machinery
import importlib.util
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

from relay import handlers
from relay.envfile import Problem
from relay.handlers import Misuse

_OURS = ("relay", "connection", "listen", "receiver")
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
# What this process has loaded before, for another consumer: whose modules of the same names are others.
_loaded: set[str] = set()
_added: list[str] = []


def load(names: Sequence[str], directories: Sequence[Path]) -> tuple[list[ModuleType], list[Problem]]:
    """Import modules.

    Args:
        names: dotted.
        directories: where they are looked for, behind Python's own path, so that none takes the place of a library's.
    """
    for name in [name for name in sys.modules if name.partition(".")[0] in _loaded]:
        del sys.modules[name]
    _loaded.clear()
    handlers.declared.clear()
    importlib.invalidate_caches()
    found, problems = list[ModuleType](), list[Problem]()
    places = [str(one) for one in directories]
    sys.path[:] = [one for one in sys.path if one not in _added]
    _added[:] = [one for one in places if one not in sys.path]
    sys.path += _added
    with _undisturbed():
        for name in names:
            problem = _hidden(name, places)
            try:
                if problem is None:
                    _loaded.add(name.partition(".")[0])
                    found.append(importlib.import_module(name))
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - sys.exit among them
                problem = _trouble(name, error, places)
            if problem is not None:
                problems.append((f"PYTHON_HANDLERS: {problem[0]}", problem[1]))
    return found, problems


def _hidden(name: str, places: list[str]) -> Problem | None:
    """Would another module of this name be found?"""
    first = name.partition(".")[0]
    if first in sys.stdlib_module_names or first in _OURS:
        return (
            f"{first} is the name of a module of {'the relay' if first in _OURS else 'Python'} itself",
            "rename yours",
        )
    mine = importlib.machinery.PathFinder.find_spec(first, places)
    other = importlib.machinery.PathFinder.find_spec(first, [one for one in sys.path if one not in places])
    if mine and other and mine.origin != other.origin:
        return f"{first} is the name of a module in {_directory(other)}, too, which is found first", "rename yours"
    return None


def _directory(spec: importlib.machinery.ModuleSpec) -> str:
    return str(Path(spec.origin).parent) if spec.origin else "another directory"


def _trouble(name: str, error: BaseException, places: list[str]) -> Problem:
    """What is wrong with a module. Of an exception only what quotes nothing."""
    place, kind = _place(error), type(error).__name__
    if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
        where = ", ".join(places) or "Python's own path"
        return (
            f"there is no module {error.name} in {where}",
            "HANDLER_PATH names the directories where it is looked for",
        )
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"{name} imports {error.name}, which is not there ({place})", "install it for the Python of the relay"
    if _is_circular(error):
        return (
            f"{name} imports itself in a circle ({place})",
            "let one of the modules import the other inside a function",
        )
    if isinstance(error, ImportError) and error.name:
        return (
            f"{name}: what it imports from {error.name} is not there ({place})",
            "is that the release it is made for?",
        )
    if isinstance(error, SyntaxError):
        where = f"{Path(error.filename or name).name} line {error.lineno}"
        return f"{name} can't be imported: {where}: {error.msg}", f"python3 -m py_compile {error.filename or 'FILE'}"
    if isinstance(error, SystemExit):
        return f"{name} ends the program when it is imported ({place})", 'put that below if __name__ == "__main__":'
    if isinstance(error, Misuse):
        return f"{name}: {error} ({place})", "docs/python.md"
    return f"{name} can't be imported: {kind} ({place})", f"python3 -c 'import {name}' shows more, in its directory"


def _is_circular(error: BaseException) -> bool:
    return isinstance(error, ImportError | AttributeError) and "partially initialized module" in str(error)


def _place(error: BaseException) -> str:
    """The innermost line that is the user's."""
    frames = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    library = str(Path(os.__file__).parent)
    own = [one for one in frames if one[0] != __file__ and not one[0].startswith(("<", library))]
    own = [one for one in own if Path(one[0]).name != "handlers.py" or "relay" not in Path(one[0]).parts] or own
    return f"{Path(own[-1][0]).name}:{own[-1][1]}" if own else "before its first line"


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """What an import may change and must not: signals, the directory, the log; what it prints is no command's."""
    root, directory = logging.getLogger(), Path.cwd()
    outputs, level = list(root.handlers), root.level
    names = [name for name, one in root.manager.loggerDict.items() if isinstance(one, logging.Logger)]
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in _SIGNALS} if main else {}
    descriptor = signal.set_wakeup_fd(-1) if main else -1
    if main:
        signal.set_wakeup_fd(descriptor, warn_on_full_buffer=False)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.chdir(directory)
        for number, handler in before.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)
        if main:
            signal.set_wakeup_fd(descriptor, warn_on_full_buffer=False)
        root.handlers[:] = outputs
        root.setLevel(level)
        for name in names:
            logging.getLogger(name).disabled = False
