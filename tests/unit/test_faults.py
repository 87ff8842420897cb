"""docs/faults.md says nothing of what does not exist, and leaves out no cell of the fault matrix."""

import re

import msgspec
import pytest
import yaml

from cryptoflow import faults
from tests.matrix.cells import all_cells
from tests.support import ROOT

CHAPTERS = faults.read()
FAULTS = [fault for chapter in CHAPTERS for fault in chapter.faults]
CELLS = [cell.name for cell in all_cells()]
PAGE = faults.page()
A_TEST = FAULTS[0].tests[0]
PATH = A_TEST.partition("::")[0]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.title)
def test_the_cells_that_a_fault_names_are_in_the_matrix(fault):
    assert [words for words in fault.cells if not any(words in cell for cell in CELLS)] == []


@pytest.mark.parametrize("cell", CELLS)
def test_each_cell_of_the_matrix_is_named_by_a_fault(cell):
    assert any(words in cell for fault in FAULTS for words in fault.cells)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.title)
def test_a_fault_shows_and_has_been_seen(fault):
    assert fault.logs or fault.signs or fault.alerts or fault.metrics
    assert fault.alone
    assert fault.do
    assert fault.tests


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ({"metrics": ("cryptoflow_nothing_total",)}, "metric cryptoflow_nothing_total"),
        ({"alerts": ("NothingHappens",)}, "alert NothingHappens"),
        ({"tests": (f"{PATH}::test_of_nothing",)}, f"test {PATH}::test_of_nothing"),
        ({"tests": ("tests/unit/test_nothing.py::test_it",)}, "test tests/unit/test_nothing.py::test_it"),
        ({"tests": (A_TEST[:-1],)}, f"test {A_TEST[:-1]}"),
        ({"logs": {"reader": ("nothing happened",)}}, "event 'nothing happened' of the reader"),
        ({"logs": {"reader": ("partition resumed",)}}, "event 'partition resumed' of the reader"),
        ({"do": ("Set `writer.buffer.nothing`.",)}, "setting writer.buffer.nothing"),
        ({"alone": ("See [there](operations.md#nothing).",)}, "section operations.md#nothing"),
    ],
)
def test_what_does_not_exist_is_named(change, missing):
    changed = msgspec.structs.replace(FAULTS[0], title="A fault", **change)
    alerts = faults.alert_rules()
    assert faults.problems([faults.Chapter("Some", (changed,))], alerts) == [f"A fault: no {missing}"]


def test_two_faults_of_one_name_would_share_a_section():
    alerts = faults.alert_rules()
    assert faults.problems([faults.Chapter("Some", (FAULTS[0], FAULTS[0]))], alerts) == [
        f"two faults are called {FAULTS[0].title!r}"
    ]


def test_there_is_no_page_of_what_does_not_exist(tmp_path, monkeypatch):
    data = yaml.safe_load(faults.DATA.read_text(encoding="utf-8"))
    data[0]["faults"][0]["alerts"] = ["NothingHappens"]
    path = tmp_path / "faults.yml"
    path.write_text(yaml.safe_dump(data))
    monkeypatch.setattr(faults, "DATA", path)
    with pytest.raises(ValueError, match="no alert NothingHappens"):
        faults.page()


def test_a_misspelt_part_of_a_fault_is_refused(tmp_path):
    path = tmp_path / "faults.yml"
    path.write_text("- title: Some\n  faults:\n    - {title: A fault, alone: [x], do: [x], tests: [x], metric: [x]}\n")
    with pytest.raises(msgspec.ValidationError, match="metric"):
        faults.read(path)


def test_every_link_of_the_page_leads_to_a_section():
    links = re.findall(r"\]\(([a-z-]*(?:\.md)?)#([^)]+)\)", PAGE)
    assert len(links) > len(FAULTS)
    for target, anchor in links:
        text = (ROOT / "docs" / target).read_text(encoding="utf-8") if target else PAGE
        assert anchor in map(faults.slug, re.findall(r"^#+ (.+)$", text, re.MULTILINE)), f"{target}#{anchor}"


def test_the_page_says_what_metrics_and_alerts_say_of_themselves():
    section = PAGE.partition("### The store is down\n")[2].partition("\n### ")[0]
    assert (
        "* Alert [StoreUnavailable](alerts.md#storeunavailable) (warning): The store does not answer `instance`"
        in section
    )
    assert "* Metric `cryptoflow_store_unavailable`: 1 for minutes: bring the store back." in section
