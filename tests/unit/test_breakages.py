"""The deliberate breakages still say what they break. That the suite notices them is shown by `make breakages`."""

import ast
from collections import Counter

import pytest

from tests.breakage_list import BREAKAGES, Breakage, DoesNotApply
from tests.support import ROOT


@pytest.mark.parametrize("breakage", BREAKAGES, ids=lambda breakage: breakage.name)
def test_a_breakage_applies_and_leaves_a_program(breakage):
    broken = breakage.patched((ROOT / breakage.path).read_text(encoding="utf-8"))
    ast.parse(broken)


@pytest.mark.parametrize("breakage", BREAKAGES, ids=lambda breakage: breakage.name)
def test_the_tests_that_should_notice_exist(breakage):
    assert breakage.tests
    assert [test for test in breakage.tests if not (ROOT / test).is_file()] == []


@pytest.mark.parametrize("text", ["", "here, and here"], ids=["not there", "twice"])
def test_a_breakage_that_does_not_apply_says_so(text):
    with pytest.raises(DoesNotApply, match="not once"):
        Breakage("it is broken", "a/path.py", "here", "there", ()).patched(text)


def test_each_breakage_has_a_name_of_its_own():
    assert [name for name, count in Counter(each.name for each in BREAKAGES).items() if count > 1] == []
