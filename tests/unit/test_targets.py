"""A target is a module and a line: its settings are read with all others, and nothing of another target is imported."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from relay import config, setting, targets
from relay.delivery import DONE, Delivery, Event
from relay.errors import ConfigError
from relay.targets.http import Settings

ROOT = Path(__file__).parents[2]
GIVEN = {"RABBITMQ_URL": "amqp://h", "QUEUE": "q"}
OWN = {
    "http": {"HTTP_URL": "http://127.0.0.1/"},
    "python": {"PYTHON_HANDLERS": "examples.order_mail"},
    "odoo-load": {"ODOO_URL": "http://h", "ODOO_API_KEY": "k", "ODOO_MAPPING": "mapping.example.toml"},
    "odoo-call": {"ODOO_URL": "http://h", "ODOO_API_KEY": "k", "ODOO_MODEL": "m", "ODOO_METHOD": "m"},
    "odoo-webhook": {"ODOO_WEBHOOK": "http://h/web/hook/a"},
}


def imported(program: str) -> set[str]:
    """The modules that a program has imported at its end."""
    whole = f"{program}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", whole], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("target", targets.TARGETS)
def test_the_keys_of_the_table_are_those_of_the_settings(target: str) -> None:
    """The table is read where the target is not imported."""
    kind = type(targets.load(None, GIVEN | {"TARGET": target} | OWN[target]))
    own = [key for key in setting.keys(kind) if key not in setting.keys(config.Receive)]
    assert sorted(targets.TARGETS[target].keys.split()) == sorted(own)


@pytest.mark.parametrize(
    ("workers", "batch", "prefetch"),
    [(1, 1, 500), (4, 100, 800), (50, 100, 10_000), (51, 100, 10_000), (256, 1000, 10_000)],
)
def test_the_window_of_odoo_load_has_room_for_all_batches_up_to_what_can_be_put_in_order_again(
    workers: int, batch: int, prefetch: int
) -> None:
    numbers = {"WORKERS": str(workers), "BATCH_SIZE": str(batch)}
    settings = targets.load(None, GIVEN | {"TARGET": "odoo-load"} | OWN["odoo-load"] | numbers)
    assert settings.prefetch == prefetch


def test_listen_imports_no_target_and_knows_their_settings(tmp_path: Path) -> None:
    """Both daemons may have one env file."""
    env = tmp_path / "e.env"
    env.write_text("\n".join(f"{key}=x" for key in targets.setting_names()))
    environ = {"DATABASE_URL": "dbname=d", "RABBITMQ_URL": "amqp://h"}
    loaded = imported(
        f"import listen\nfrom relay import config, targets\nfrom pathlib import Path\n"
        f"config.load(config.Listen, Path({str(env)!r}), {environ}, targets.setting_names())"
    )
    assert not [name for name in loaded if name.startswith("relay.targets.")]
    assert "requests" not in loaded


@pytest.mark.parametrize("target", targets.TARGETS)
def test_the_receiver_imports_the_target_that_it_is_asked_for_and_none_else(target: str) -> None:
    loaded = imported(
        f"import receiver\nfrom relay import targets\n"
        f"targets.make(targets.load(None, {GIVEN | {'TARGET': target} | OWN[target]}))"
    )
    others = {entry.module for name, entry in targets.TARGETS.items() if name != target}
    assert targets.TARGETS[target].module in loaded
    assert not others & loaded
    if target == "http":
        assert not [name for name in loaded if name.startswith("relay.targets.odoo")]


def test_a_target_that_is_none_is_told_with_everything_else() -> None:
    with pytest.raises(ConfigError) as caught:
        targets.load(None, GIVEN | {"TARGET": "kafka", "WORKERS": "x"})
    named = f"write one of: {', '.join(targets.TARGETS)}"
    assert ("TARGET=kafka: unknown value", named) in caught.value.problems
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize("target", ["", "http"])
def test_http_is_the_default(target: str) -> None:
    assert isinstance(targets.load(None, GIVEN | OWN["http"] | {"TARGET": target}), Settings)


NEW = """
    import dataclasses
    from relay import values
    from relay.config import Receive
    from relay.setting import setting
    from relay.delivery import DONE

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Settings(Receive):
        append_to: str = setting(values.text, "")
        append_mode: str = setting(values.one_of("text", "bytes"), "bytes")

        def contradictions(self):
            return super().contradictions() + ([] if self.append_to else [("TARGET=file needs APPEND_TO", "set it")])

    class FileTarget:
        batch_size = 1

        def __init__(self, settings):
            self.path = settings.append_to

        def group(self, event):
            return ""

        def open(self):
            return self

        def deliver(self, batch):
            with open(self.path, "ab") as file:
                file.writelines(one.event.body for one in batch)
            return [DONE for one in batch]
"""


@pytest.fixture
def _a_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file_target.py").write_text(textwrap.dedent(NEW))
    monkeypatch.syspath_prepend(tmp_path)
    entry = targets.TargetModule("file_target", "FileTarget", "APPEND_TO APPEND_MODE")
    monkeypatch.setitem(targets.TARGETS, "file", entry)


@pytest.mark.usefixtures("_a_new_one")
def test_a_new_target_is_a_module_and_a_line(tmp_path: Path) -> None:
    environ = GIVEN | {"TARGET": "file", "APPEND_TO": str(tmp_path / "events"), "HTTP_URL": "no URL, and not read"}
    target = targets.make(targets.load(None, environ))
    assert target.open().deliver([Delivery(Event(b"hello", "t"), 1)]) == [DONE]
    assert (tmp_path / "events").read_bytes() == b"hello"


@pytest.mark.usefixtures("_a_new_one")
@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"TARGET": "file"}, ["TARGET=file needs APPEND_TO"]),
        ({"TARGET": "file", "APPEND_MODE": "x", "WORKERS": "x"}, ["WORKERS=x: out", "APPEND_MODE=x: unknown value"]),
        ({"TARGET": "file", "APPEND_TO": "x", "RETRY_MIN": "99"}, ["RETRY_MIN is above RETRY_MAX"]),
    ],
)
def test_what_is_wrong_with_its_settings_is_told_with_what_is_wrong_with_others(
    environ: dict[str, str], told: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        targets.load(None, GIVEN | environ)
    for (what, _remedy), expected in zip(caught.value.problems, told, strict=True):
        assert what.startswith(expected)


@pytest.mark.usefixtures("_a_new_one")
def test_its_settings_are_known_to_others_and_a_misspelt_one_is_named(tmp_path: Path) -> None:
    env = tmp_path / "e.env"
    env.write_text("APPEND_TO=x\nAPEND_MODE=text\n")
    with pytest.raises(ConfigError) as caught:
        targets.load(env, GIVEN | OWN["http"])
    assert [remedy for _what, remedy in caught.value.problems] == ["did you mean APPEND_MODE?"]
