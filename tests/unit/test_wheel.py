"""The wheel for applications: built and installed in an empty environment, as pip does it, without a network."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import relay

ROOT = Path(__file__).parents[2]


def run(*command: object, cwd: Path) -> str:
    done = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_application_gets_the_package_relay_and_nothing_else(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    run(*pip, "wheel", "--no-build-isolation", "--no-deps", "--no-index", "-w", tmp_path, ROOT, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert wheel.name == f"relay_outbox-{relay.__version__}-py3-none-any.whl"
    assert {name.partition("/")[0] for name in names} == {"relay", f"relay_outbox-{relay.__version__}.dist-info"}
    assert not [name for name in names if "__pycache__" in name]
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "app", cwd=tmp_path)
    python = tmp_path / "app/bin/python"
    run(*pip, "--python", python, "install", "--no-index", wheel, cwd=tmp_path)
    program = """
import importlib.util
from relay.publish import Message, publish, publish_many
print([name for name in ("connection", "listen", "receiver", "tests", "dev") if importlib.util.find_spec(name)])
"""
    assert run(python, "-I", "-c", program, cwd=tmp_path) == "[]\n"
