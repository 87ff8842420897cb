"""Break the promises on purpose, one at a time: ``python -m tests.breakages`` (or ``make breakages``).

Each breakage is a small patch. It is applied to a copy of the working tree, and the tests named with it are run there
as CI runs them; they must go red. A breakage that survives, or that no longer applies, ends the command with 1. That
every patch still applies is checked in CI (tests/unit/test_breakages.py); the whole takes minutes.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from tests.breakage_list import BREAKAGES, Breakage
from tests.support import ROOT


@dataclass(frozen=True)
class Outcome:
    """The test that went red, or an empty text."""

    caught_by: str
    seconds: float
    trouble: str = ""


def copy_of_the_tree(folder: Path) -> Path:
    """What git knows or would add, as it stands."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    tree = folder / "tree"
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
    return tree


def attempt(tree: Path, breakage: Breakage) -> Outcome:
    """Break the copy, run the tests, mend the copy."""
    path, began, trouble = tree / breakage.path, time.monotonic(), ""
    whole = path.read_text(encoding="utf-8")
    path.write_text(breakage.patched(whole), encoding="utf-8")
    try:
        for test in breakage.tests:
            code, out = _pytest(tree, test)
            if code == 1:
                found = re.search(r"^(?:FAILED|ERROR) (\S+)", out, re.MULTILINE)
                return Outcome(found.group(1) if found else test, time.monotonic() - began)
            if code != 0:
                trouble = out[-2000:]
    finally:
        path.write_text(whole, encoding="utf-8")
    return Outcome("", time.monotonic() - began, trouble)


def _pytest(tree: Path, test: str) -> tuple[int, str]:
    options = ["-x", "-q", "-rfE", "-p", "no:cacheprovider", "-p", "tests.histories.unshrunk"]
    done = subprocess.run(
        [sys.executable, "-B", "-m", "pytest", *options, test],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.breakages", description=__doc__.split("\n")[0])
    parser.add_argument("only", nargs="?", default="", help="a regular expression of names")
    parser.add_argument("--list", action="store_true", help="only say which there are")
    asked = parser.parse_args()
    say = Console(highlight=False, soft_wrap=True, markup=False).print
    chosen = [each for each in BREAKAGES if re.search(asked.only, each.name)]
    if asked.list:
        say("\n".join(f"{each.name}  ({each.path})" for each in chosen))
        return 0
    survived = 0
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="breakages-") as folder:
        tree = copy_of_the_tree(Path(folder))
        for breakage in chosen:
            outcome = attempt(tree, breakage)
            survived += not outcome.caught_by
            say(f"{breakage.name:<66} {outcome.seconds:5.0f} s  {outcome.caught_by or 'SURVIVED'}")
            if outcome.trouble:
                say(outcome.trouble)
    say(f"{len(chosen) - survived} of {len(chosen)} breakages were noticed, in {time.monotonic() - began:.0f} s")
    return 1 if survived or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
