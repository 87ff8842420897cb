"""What a log line looks like on a terminal and off it, and what never stands in one."""

import io
import json
import logging
import sys

import pytest
import structlog
from pydantic import SecretStr

from shared.log import MASK, configure, get_logger
from shared.settings import LoggingSettings


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def logging_as_it_was():
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    levels = {name: logging.getLogger(name).level for name in ("shared", "services", "cryptoflow", "simulator")}
    yield
    root.handlers, root.level = handlers, level
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def written(monkeypatch, stream, **settings):
    monkeypatch.setattr(sys, settings.get("output", "stderr"), stream)
    configure(LoggingSettings(**settings), "reader")
    get_logger("services.reader").info("poll late", symbol="币安人生USDT", late_seconds=0.5)
    return stream.getvalue()


def test_off_a_terminal_a_line_is_json_and_keeps_every_script(monkeypatch):
    line = written(monkeypatch, io.StringIO())
    assert "币安人生USDT" in line
    found = json.loads(line)
    assert found.pop("timestamp").endswith("Z")
    assert found == {
        "level": "info",
        "event": "poll late",
        "service": "reader",
        "logger": "services.reader",
        "symbol": "币安人生USDT",
        "late_seconds": 0.5,
    }


def test_on_a_terminal_a_line_is_for_a_person(monkeypatch):
    line = written(monkeypatch, Terminal())
    assert "poll late" in line
    assert not line.startswith("{")


@pytest.mark.parametrize(("form", "is_json"), [("json", True), ("console", False)])
def test_the_format_can_be_demanded(monkeypatch, form, is_json):
    assert written(monkeypatch, Terminal(), format=form).startswith("{") == is_json
    assert written(monkeypatch, io.StringIO(), format=form).startswith("{") == is_json


def test_logs_can_go_to_stdout(monkeypatch):
    assert json.loads(written(monkeypatch, io.StringIO(), output="stdout"))["event"] == "poll late"


def test_lines_below_the_level_are_dropped(monkeypatch):
    assert written(monkeypatch, io.StringIO(), level="WARNING") == ""


@pytest.mark.parametrize(
    "keys",
    [
        {"sasl_password": "hidden"},
        {"AWS_SECRET_ACCESS_KEY": "hidden"},
        {"session_token": "hidden"},
        {"access_key_id": "hidden"},
    ],
    ids=lambda keys: next(iter(keys)),
)
def test_a_key_that_is_named_like_a_secret_is_masked(monkeypatch, keys):
    stream = io.StringIO()
    written(monkeypatch, stream)
    get_logger("shared.x").info("connecting", **keys)
    line = stream.getvalue().splitlines()[-1]
    assert "hidden" not in line
    assert MASK in line


def test_a_secret_of_the_settings_is_masked_under_any_key(monkeypatch):
    stream = io.StringIO()
    written(monkeypatch, stream)
    get_logger("shared.x").info("connecting", how={"with": SecretStr("hidden")})
    assert "hidden" not in stream.getvalue()


def test_libraries_are_heard_from_warning_up(monkeypatch):
    stream = io.StringIO()
    written(monkeypatch, stream)
    logging.getLogger("asyncio").info("chatter")
    logging.getLogger("asyncio").warning("broker %d is away", 3)
    (line,) = stream.getvalue().splitlines()[1:]
    found = json.loads(line)
    assert (found["event"], found["level"], found["logger"], found["service"]) == (
        "broker 3 is away",
        "warning",
        "asyncio",
        "reader",
    )
