"""Crash points: each name stands in the code once or more, and a service that is told to dies, freezes or waits there."""

import re
import signal
import subprocess
import sys

import pytest

from shared import crash_points
from tests.processes import clean_environ
from tests.support import ROOT

IN_CODE = re.compile(r"""crash_points\.(?:reached|passed)\("([a-z0-9_.]+)"\)""")


def test_the_places_in_the_code_are_the_named_ones():
    found = {
        (name, path.parent.name)
        for path in (ROOT / "services").rglob("*.py")
        for name in IN_CODE.findall(path.read_text())
    }
    assert found == {(name, name.split(".")[0]) for name in crash_points.POINTS}


@pytest.mark.parametrize(
    "text",
    ["s3writer.after_claim", "s3writer.nowhere:1:kill", "s3writer.after_claim:0:kill", "reader.after_ack:1:hold"],
)
def test_what_is_no_place_no_number_or_no_action_is_refused(text):
    with pytest.raises(ValueError, match="CRASH_POINT"):
        crash_points.plan(text)


def run(text, code):
    environ = clean_environ({"CRASH_POINT": text})
    return subprocess.run(
        [sys.executable, "-c", f"import asyncio, sys\nfrom shared import crash_points\n{code}"],
        env=environ, cwd=ROOT, capture_output=True, text=True, check=False, timeout=20,
    )  # fmt: skip


def test_it_dies_the_nth_time_at_this_place_alone():
    code = """
for number in range(9):
    print(number, file=sys.stderr, flush=True)
    crash_points.reached("s3writer.before_claim")
    crash_points.reached("s3writer.after_claim")
"""
    ended = run("s3writer.after_claim:3:kill", code)
    assert (ended.returncode, ended.stderr.split()) == (-signal.SIGKILL, ["0", "1", "2"])
    assert run("", code).returncode == 0


def test_a_held_task_waits_until_it_is_cancelled_and_then_never_again():
    code = """
async def main():
    for _ in range(2):
        waiting = asyncio.ensure_future(crash_points.passed("s3writer.after_claim"))
        done, _ = await asyncio.wait({waiting}, timeout=0.2)
        print(bool(done), file=sys.stderr)
        waiting.cancel()
asyncio.run(main())
"""
    assert run("s3writer.after_claim:1:hold", code).stderr.split() == ["False", "True"]
