"""The runner with real processes and real signals: what ends a service, how, and with which exit code."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from shared.service import Lifecycle, overrides

ROOT = Path(__file__).parents[2]


class Process:
    """A running service and the log lines it has written."""

    def __init__(self, behaviour, folder, *arguments):
        command = [sys.executable, "-m", "tests.unit.tiny_service", behaviour, "--set", "metrics.port=0", *arguments]
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("CRYPTOFLOW_", "AWS_"))}
        self.process = subprocess.Popen(
            command, cwd=folder, env=environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True
        )
        self.lines = []

    def until(self, event):
        """Reads the log up to the line with this event."""
        for line in self.process.stderr:
            self.lines.append(line)
            if line.startswith("{") and json.loads(line)["event"] == event:
                return json.loads(line)
        pytest.fail(f"ended without {event!r}: {''.join(self.lines)}")

    def listening(self):
        port = self.until("http listening")["port"]
        return f"http://127.0.0.1:{port}"

    def signal(self, number):
        self.process.send_signal(number)

    def end(self):
        """The exit code, once it has ended by itself; all log lines are read then."""
        self.lines += self.process.communicate(timeout=60)[1].splitlines(keepends=True)
        return self.process.returncode

    @property
    def events(self):
        return [json.loads(line)["event"] for line in self.lines if line.startswith("{")]

    def logged(self, event):
        found = [json.loads(line) for line in self.lines if line.startswith("{")]
        return [line for line in found if line["event"] == event]


@pytest.fixture
def run(tmp_path):
    started = []

    def start(behaviour, *arguments):
        started.append(Process(behaviour, tmp_path, *arguments))
        return started[-1]

    yield start
    for process in started:
        process.process.kill()
        process.process.communicate()


def get(url):
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_drains_and_the_exit_code_is_0(run, number):
    process = run("drains")
    process.listening()
    process.signal(number)
    assert process.end() == 0
    assert process.events[-3:] == ["service stopping", "drained", "service ended"]


def test_what_does_not_drain_in_time_is_cancelled_and_the_exit_code_is_3(run):
    process = run("hangs")
    process.until("hanging")
    process.signal(signal.SIGTERM)
    assert process.end() == 3
    assert process.events[-4:] == ["service stopping", "drain limit exceeded", "cancelled", "service ended"]


@pytest.mark.parametrize("behaviour", ["hangs_in_a_thread", "refuses_to_be_cancelled"])
def test_what_cannot_even_be_cancelled_ends_with_3_all_the_same(run, behaviour):
    process = run(behaviour)
    process.until("hanging")
    process.signal(signal.SIGTERM)
    assert process.end() == 3


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [(signal.SIGTERM, signal.SIGINT, 130), (signal.SIGINT, signal.SIGTERM, 143), (signal.SIGTERM, signal.SIGTERM, 143)],
    ids=["SIGINT", "SIGTERM", "SIGTERM-twice"],
)
def test_a_second_signal_ends_at_once(run, first, second, code):
    process = run("drains_for_ever")
    process.until("hanging")
    process.signal(first)
    process.until("service stopping")
    process.signal(second)
    assert process.end() == code
    assert "service ended" not in process.events


def test_a_second_signal_ends_even_a_process_whose_loop_is_blocked(run):
    process = run("blocks_the_loop")
    process.until("hanging")
    process.signal(signal.SIGTERM)
    process.signal(signal.SIGINT)
    assert process.end() in {130, 143}  # the kernel does not order two pending signals


@pytest.mark.parametrize("behaviour", ["fatal", "fatal_in_a_group"])
def test_a_fatal_error_is_one_line_and_1(run, behaviour):
    process = run(behaviour)
    assert process.end() == 1
    (line,) = process.logged("service failed")
    assert line["reason"] == "topic raw-fobs has 3 partitions, config says 6"
    assert line["kind"] == "FatalError"
    assert "Traceback" not in "".join(process.lines)
    assert behaviour == "fatal" or "sibling cancelled" in process.events


def test_a_fatal_error_while_draining_is_1_not_0(run):
    process = run("fails_while_draining")
    process.until("hanging")
    process.signal(signal.SIGTERM)
    assert process.end() == 1
    assert [line["reason"] for line in process.logged("service failed")] == ["the last flush was refused"]


def test_a_mistake_found_only_by_the_service_is_2_and_its_lines(run):
    process = run("misconfigured")
    assert process.end() == 2
    assert [line for line in process.lines if not line.startswith("{")] == ["shards.yml: one\n", "shards.yml: two\n"]


def test_what_nobody_foresaw_is_told_whole_and_1(run):
    process = run("fails")
    assert process.end() == 1
    (line,) = process.logged("service failed")
    assert line["exception"].startswith("Traceback")
    assert "in fails" in line["exception"]


def test_to_return_unasked_is_a_failure(run):
    process = run("returns_at_once")
    assert process.end() == 1
    assert [line["reason"] for line in process.logged("service failed")] == ["tiny ended without being asked to"]


def test_a_cancellation_from_within_is_no_drain(run):
    process = run("cancels_itself")
    assert process.end() == 1
    assert [line["reason"] for line in process.logged("service failed")] == ["tiny was cancelled from within"]


def test_what_fails_after_the_drain_limit_is_still_told(run):
    process = run("fails_when_cancelled")
    process.until("hanging")
    process.signal(signal.SIGTERM)
    assert process.end() == 3
    assert [line["reason"] for line in process.logged("service failed")] == ["the claim was refused"]


def test_a_port_that_is_taken_is_one_line_and_1(run):
    port = run("drains").listening().rpartition(":")[2]
    second = run("drains", "--set", f"metrics.port={port}")
    assert second.end() == 1
    (line,) = second.logged("service failed")
    assert line["reason"].startswith(f"cannot listen on metrics.host 127.0.0.1 metrics.port {port}: ")


def test_a_broken_configuration_is_2_before_anything_starts(run):
    process = run("drains", "-config", "nowhere.yml", "--set", "a=b")
    assert process.end() == 2
    assert process.lines == [
        "--set: a: unknown key\n",
        "nowhere.yml: file: cannot be read: No such file or directory\n",
    ]


def test_ready_and_healthy_are_answered_over_http(run):
    process = run("drains")
    url = process.listening()
    assert get(f"{url}/readyz") == (200, '{"ok": true, "not_ready": {}}')
    status, body = get(f"{url}/healthz")
    assert (status, json.loads(body)["ok"]) == (200, True)


def test_what_is_not_ready_is_named_with_its_reason(run):
    status, body = get(f"{run('never_ready').listening()}/readyz")
    assert status == 503
    assert json.loads(body) == {"ok": False, "not_ready": {"assignment": "no partition yet"}}


def test_a_loop_without_progress_is_not_healthy(run):
    status, body = get(f"{run('never_beats').listening()}/healthz")
    assert status == 503
    assert json.loads(body)["ok"] is False
    assert json.loads(body)["idle_seconds"] > 60


def test_metrics_say_what_runs(run):
    process = run("drains", "--set", "cryptoflow.environment=test")
    status, body = get(f"{process.listening()}/metrics")
    assert status == 200
    assert 'cryptoflow_build_info{environment="test",name="cryptoflow",release="' in body
    assert "cryptoflow_ready 1.0" in body
    assert "process_resident_memory_bytes" in body


def test_logs_are_json_without_secrets_and_carry_the_libraries_warnings(run):
    process = run("logs", "--set", "cryptoflow.environment=test")
    trouble = process.until("trouble")
    process.signal(signal.SIGTERM)
    assert process.end() == 0
    assert "hunter2" not in "".join(process.lines)
    assert "Traceback" in trouble["exception"]
    assert all(line.startswith("{") for line in process.lines)
    first = json.loads(process.lines[0])
    assert [*first][:3] == ["timestamp", "level", "event"]
    assert first["timestamp"].endswith("Z")
    assert {(line["service"], line["environment"]) for line in map(json.loads, process.lines)} == {("tiny", "test")}
    (warning,) = process.logged("broker 1 is away")
    assert (warning["level"], warning["logger"]) == ("warning", "asyncio")
    assert "chatter" not in process.events
    assert "detail" not in process.events
    assert (
        process.logged("secrets")[0] | {"sasl_password": "***", "plain": "text", "path": "x"}
        == process.logged("secrets")[0]
    )


def test_idle_time_runs_from_the_last_beat():
    now = [100.0]
    lifecycle = Lifecycle(clock=lambda: now[0])
    now[0] = 130.0
    assert lifecycle.idle_seconds() == 30.0
    lifecycle.beat()
    assert lifecycle.idle_seconds() == 0.0


def test_ready_is_all_of_what_was_named():
    lifecycle = Lifecycle()
    assert lifecycle.not_ready() == {"service": "starting"}
    lifecycle.ready("kafka", ok=False, why="no broker")
    lifecycle.ready("store", ok=True)
    assert lifecycle.not_ready() == {"kafka": "no broker"}
    lifecycle.ready("kafka", ok=True)
    assert lifecycle.not_ready() == {}
    lifecycle.stop()
    assert lifecycle.not_ready() == {"service": "stopping"}


def test_overrides_split_at_the_first_equals_and_the_later_wins():
    assert overrides(["a=1", "b", "c=x=y", "a=2"]) == {"a": "2", "b": None, "c": "x=y"}
