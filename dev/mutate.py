"""python -m dev.mutate [WORD ...]: breaks the relay in small ways, one at a time: do the tests named for each notice?

dev/mutations.toml is the table. WORD: only mutations whose name, file, promise or tests contain it. A mutation that a
test lets pass has survived: that test would not notice if somebody broke the promise.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "dev" / "mutations.toml"
NOTICED, PASSED = 1, 0  # pytest's exit status; every other one says that the tests could not be run


@dataclass(frozen=True)
class Mutation:
    """One way to break the relay.

    Args:
        name: what is broken, for people.
        promise: of docs/promises.md, as its line begins.
        file: below the project's directory.
        old: occurs in it exactly once.
        new: what stands there instead.
        tests: below tests/; each of them fails on it, and is one that `make test` runs.
    """

    name: str
    promise: str
    file: str
    old: str
    new: str
    tests: list[str]

    def apply(self, text: str) -> str:
        """The broken text. ValueError if the old one is not there exactly once."""
        found = text.count(self.old)
        if found != 1:
            raise ValueError(f"{self.file}, {self.name}: the old text occurs {found} times: {self.old!r}")
        return text.replace(self.old, self.new)


def table() -> list[Mutation]:
    """All mutations."""
    with TABLE.open("rb") as file:
        return [Mutation(**one) for one in tomllib.load(file)["mutation"]]


def copy_to(directory: Path) -> None:
    """The tree as it is now, without what Git ignores; what was fetched is shared."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, directory / name)
    for name in (".cache", ".venv"):
        if (ROOT / name).exists() and not (directory / name).exists():
            (directory / name).symlink_to((ROOT / name).resolve())


def run(directory: Path, tests: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run tests of the copy, up to the first that fails."""
    command = [sys.executable, "-m", "pytest", "-n0", "-x", "-q", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, *(f"tests/{one}" for one in tests)],
        cwd=directory,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def judge(directory: Path, mutation: Mutation) -> str:
    """Break the copy, run the tests, mend the copy; return what came of it, "" if each has noticed."""
    path = directory / mutation.file
    sound = path.read_text()
    path.write_text(mutation.apply(sound))
    try:
        for test in mutation.tests:
            done = run(directory, [test])
            if done.returncode == PASSED:
                return f"SURVIVED {test}"
            if done.returncode != NOTICED:
                return f"ERROR: pytest ended with {done.returncode}\n{done.stdout}"
    finally:
        path.write_text(sound)
    return ""


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 = each was noticed."""
    parser = argparse.ArgumentParser(prog="python -m dev.mutate", description=__doc__)
    parser.add_argument("words", nargs="*", metavar="WORD")
    parser.add_argument("--trust", action="store_true", help="do not run the tests on the sound tree first")
    options = parser.parse_args(arguments)
    chosen = [one for one in table() if not options.words or any(word in repr(one) for word in options.words)]
    bad = 0
    with tempfile.TemporaryDirectory(prefix="relay-mutate-") as made:
        directory = Path(made)
        copy_to(directory)
        if not options.trust:
            sound = run(directory, list(dict.fromkeys(test for one in chosen for test in one.tests)))
            if sound.returncode != PASSED:
                print(f"{sound.stdout}\nthe tests fail without any mutation")
                return 1
        for one in chosen:
            began = time.monotonic()
            verdict = judge(directory, one)
            bad += bool(verdict)
            print(f"{time.monotonic() - began:5.1f} s  {one.file}: {one.name}: {verdict or 'noticed'}", flush=True)
    print(f"{len(chosen)} mutations, {bad} not noticed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
