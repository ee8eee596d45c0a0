"""Log lines: one event, one line, whatever is in the values."""

import pytest

from relay.log import Log


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain", "k=plain"),
        ("two words", 'k="two words"'),
        ("a\nb\x1b[31m", 'k="a\\nb\\u001b[31m"'),
        (1.23456, "k=1.23"),
        ("", 'k=""'),
        ("a=b", 'k="a=b"'),
    ],
)
def test_a_value_can_neither_break_the_line_nor_pose_as_a_field(
    value: object, shown: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    Log("t").info("sentence", k=value)
    assert caplog.records[0].message == f"sentence {shown}"


def test_a_field_without_a_value_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    Log("t").info("sentence", k=None)
    assert caplog.records[0].message == "sentence"
