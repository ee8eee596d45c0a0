"""The Debian package, as far as it can be looked at without installing it (packaging/try.sh does), and its launcher."""

from __future__ import annotations

import gzip
import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import relay
from dev import package

ROOT = Path(__file__).parents[2]
needs_dpkg = pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="no dpkg-deb here")


@pytest.fixture(scope="module")
def deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return package.build(tmp_path_factory.mktemp("deb"))


@pytest.fixture(scope="module")
def unpacked(deb: Path) -> Path:
    target = deb.parent / "root"
    subprocess.run(["dpkg-deb", "-x", str(deb), str(target)], check=True)
    return target


def shown(deb: Path, *arguments: str) -> str:
    option, *fields = arguments
    command = ["dpkg-deb", option, str(deb), *fields]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@needs_dpkg
def test_all_belongs_to_root_and_nobody_else_may_write(deb: Path) -> None:
    assert deb.name == f"relay_{relay.__version__}_all.deb"
    lines = [line.split() for line in shown(deb, "--contents").splitlines()]
    assert {words[1] for words in lines} == {"root/root"}
    programs = {words[5] for words in lines if words[0] == "-rwxr-xr-x"}
    examples = {f"./usr/share/doc/relay/examples/{one.name}" for one in (ROOT / "examples").glob("alert-*")}
    assert programs == {"./usr/bin/relay-listen", "./usr/bin/relay-receiver"} | examples
    assert {words[0] for words in lines} == {"drwxr-xr-x", "-rw-r--r--", "-rwxr-xr-x", "lrwxrwxrwx"}
    assert not [words[5] for words in lines if "__pycache__" in words[5]]


@needs_dpkg
def test_what_the_scripts_need_is_there_and_what_they_depend_on_is_named(deb: Path, unpacked: Path) -> None:
    library = unpacked / "usr/lib/relay"
    for script in ("listen.py", "receiver.py"):
        command = [sys.executable, str(library / script), "--version"]
        done = subprocess.run(command, cwd=unpacked, capture_output=True, text=True, check=True)
        assert done.stdout == f"relay {relay.__version__}\n"
    ours = {path.relative_to(ROOT) for path in (ROOT / "relay").rglob("*.py")}
    assert {path.relative_to(library) for path in (library / "relay").rglob("*.py")} == ours
    included = re.findall(r"\\ir (\S+)", (unpacked / "usr/share/relay/sql/install.sql").read_text())
    assert included
    assert [name for name in included if not (unpacked / "usr/share/relay/sql" / name).is_file()] == []
    named = shown(deb, "--field", "Depends")
    asked = [line for line in (ROOT / "requirements.in").read_text().splitlines() if line[:1].isalpha()]
    assert named.count("python3-") == len(asked)
    assert shown(deb, "--field", "Version") == f"{relay.__version__}\n"


@pytest.mark.skipif(not shutil.which("lintian"), reason="lintian is not installed here")
def test_debian_s_own_judge_finds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEBFULLNAME", "Ada Byron")
    monkeypatch.setenv("DEBEMAIL", "ada@relay.example.org")
    built = package.build(tmp_path)
    assert shown(built, "--field", "Maintainer") == "Ada Byron <ada@relay.example.org>\n"
    command = ["lintian", "--allow-root", "--fail-on", "error,warning", str(built)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


@needs_dpkg
def test_every_document_and_example_is_there_and_what_debian_asks_for(unpacked: Path) -> None:
    documents = unpacked / "usr/share/doc/relay"
    for name in ("docs", "examples"):
        ours = {path.relative_to(ROOT) for path in (ROOT / name).rglob("*") if path.is_file() and path.suffix != ".pyc"}
        assert ours == {path.relative_to(documents) for path in (documents / name).rglob("*") if path.is_file()}
    changelog = gzip.decompress((documents / "changelog.gz").read_bytes()).decode()
    assert re.fullmatch(r"relay \(\S+\) \w+; urgency=medium\n\n  \* .+\n\n -- .+ <.+>  \w{3}, .+ [+-]0000\n", changelog)
    assert (documents / "copyright").is_file()


@needs_dpkg
def test_the_units_start_what_is_installed(unpacked: Path) -> None:
    units = sorted((unpacked / "usr/lib/systemd/system").iterdir())
    assert [unit.name for unit in units] == [unit.name for unit in sorted((ROOT / "systemd").iterdir())]
    for unit in units:
        text = unit.read_text()
        assert package.CHECKOUT not in text, unit.name
        for path in re.findall(r"^(?:ExecStart=|WorkingDirectory=|Documentation=file://)(/\S+)", text, re.MULTILINE):
            assert path in ("/etc/relay/alert", "/bin/sleep") or (unpacked / path.lstrip("/")).exists(), path


@needs_dpkg
@pytest.mark.parametrize("program", list(package.PAGES))
def test_the_manual_page_tells_every_command_and_option(unpacked: Path, program: str) -> None:
    page = gzip.decompress((unpacked / f"usr/share/man/man1/{program}.1.gz").read_bytes()).decode().replace("\\-", "-")
    script = {"relay-listen": "listen.py", "relay-receiver": "receiver.py"}[program]
    usage = subprocess.run([sys.executable, str(ROOT / script), "--help"], capture_output=True, text=True, check=True)
    commands = re.findall(r"^    ([a-z]+)  ", usage.stdout, re.MULTILINE)
    assert re.findall(r"^\.SS (\S+)", page, re.MULTILINE) == commands
    assert [word for word in re.findall(r"--[a-z-]+", usage.stdout) if word not in page] == []
    assert not re.search(r"^\.B .*[('\"]", page, re.MULTILINE), "an option's values as Python has them"


@needs_dpkg
@pytest.mark.skipif(not shutil.which("groff"), reason="no groff here")
def test_the_manual_pages_are_roff_without_a_warning(unpacked: Path) -> None:
    for page in (unpacked / "usr/share/man/man1").iterdir():
        text = gzip.decompress(page.read_bytes())
        done = subprocess.run(["groff", "-man", "-ww", "-z"], input=text, capture_output=True, check=True)
        assert done.stderr == b"", done.stderr


@pytest.fixture(scope="module")
def arguments() -> Callable[..., list[str]]:
    """`arguments` of the launcher."""
    spec = importlib.util.spec_from_file_location("launcher", ROOT / "packaging" / "launcher.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.arguments  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("relay-listen", "listen.env"),
        ("relay-listen status --json", "listen.env status --json"),
        ("relay-listen erp status", "erp.env status"),
        ("relay-listen erp", "erp.env"),
        ("relay-receiver odoo", "odoo.env"),
        ("relay-receiver odoo parked --json", "odoo.env parked --json"),
        ("relay-receiver odoo parked --help", "odoo.env parked --help"),
    ],
)
def test_a_name_is_that_of_its_settings(
    arguments: Callable[..., list[str]], tmp_path: Path, given: str, expected: str
) -> None:
    for name in ("listen", "odoo", "erp"):
        (tmp_path / f"{name}.env").touch()
    program, *words = given.split()
    file, *rest = expected.split()
    assert arguments(program, words, tmp_path) == ["--env-file", str(tmp_path / file), *rest]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("relay-receiver mail", "--consumers FILE --consumer mail"),
        ("relay-receiver mail parked --json", "--consumers FILE --consumer mail parked --json"),
        ("relay-receiver check --all", "--consumers FILE check --all"),
        ("relay-receiver status --all --json", "--consumers FILE status --all --json"),
        ("relay-receiver odoo replay --all", "--env-file ODOO replay --all"),
        ("relay-receiver --consumers x --consumer odoo", "--consumers x --consumer odoo"),
    ],
)
def test_a_name_may_be_that_of_a_section(
    arguments: Callable[..., list[str]], tmp_path: Path, given: str, expected: str
) -> None:
    """And what has an env file of its own is as it was."""
    for name in ("config", "odoo"):
        (tmp_path / f"{name}.env").touch()
    (tmp_path / "consumers.toml").write_text("[mail]\n[search]\n")
    program, *words = given.split()
    files = {"FILE": str(tmp_path / "consumers.toml"), "ODOO": str(tmp_path / "odoo.env")}
    assert arguments(program, words, tmp_path) == [files.get(word, word) for word in expected.split()]
    with pytest.raises(SystemExit, match=r"there are: mail, odoo, search$"):
        arguments("relay-receiver", ["nobody", "parked"], tmp_path)


@pytest.mark.parametrize("given", ["--version", "--help", "--env-file x.env parked", "parked --env-file=x.env"])
def test_what_needs_no_name_is_handed_on(arguments: Callable[..., list[str]], tmp_path: Path, given: str) -> None:
    for program in ("relay-listen", "relay-receiver"):
        assert arguments(program, given.split(), tmp_path) == given.split()


def test_without_a_name_the_receiver_tells_which_there_are(arguments: Callable[..., list[str]], tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"name the settings: relay-receiver NAME .*there is no .*/NAME.env yet"):
        arguments("relay-receiver", ["parked"], tmp_path)
    for name in ("listen", "odoo", "shop"):
        (tmp_path / f"{name}.env").touch()
    with pytest.raises(SystemExit, match=r"there are: odoo, shop$"):
        arguments("relay-receiver", ["odo", "parked"], tmp_path)
