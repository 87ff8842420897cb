"""The running suite, one for all tests of the xdist group ``compose``: they run in one worker, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.compose import Stack, running_stack

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Kafka, the store, the services, Prometheus and the simulated exchange. A test leaves it running."""
    with running_stack(tmp_path_factory.mktemp("stack")) as running:
        yield running


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """A failed test shows how the containers are and what they said last."""
    report = yield
    found = getattr(item, "funcargs", {}).get("stack")
    if report.failed and isinstance(found, Stack):
        report.sections.extend(found.report())
    return report
