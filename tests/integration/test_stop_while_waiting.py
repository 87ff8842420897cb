"""A service told to stop while what it needs is away ends at once and in order: there is nothing to drain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.line import SERVICES
from tests.support import free_port

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.processes import Processes


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_that_waits_for_kafka_says_so_once_and_obeys_sigterm(
    services: Processes, make_config: Callable[..., dict[str, Any]], name: str
) -> None:
    service = services.start(name, make_config(kafka={"bootstrap_servers": f"127.0.0.1:{free_port()}"}), ready=False)
    service.wait_logged("kafka unavailable")
    assert service.terminate(timeout=15) == 0, service.tail()
    assert len(service.logged("kafka unavailable")) == 1
