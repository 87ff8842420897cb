"""Calls of the store from coroutines: tried again until they answer, said once, and given up only when cancelled."""

import asyncio

import pytest

from services.s3writer import storage as storage_module
from services.s3writer.storage import Storage
from shared import metrics
from shared.errors import FatalError, RetryableError
from shared.lake.store_local import LocalStore
from shared.service import Lifecycle
from tests.support import eventually


@pytest.fixture
async def lifecycle():
    return Lifecycle()


@pytest.fixture
async def storage(tmp_path, lifecycle, monkeypatch):
    monkeypatch.setattr(storage_module, "BACKOFF_FIRST_SECONDS", 0.001)
    made = Storage(LocalStore(tmp_path), lifecycle)
    await made.probe()
    yield made
    made.close()


async def test_a_call_is_tried_again_until_it_answers(storage, lifecycle):
    answers = iter([RetryableError("down"), RetryableError("still down"), "here"])

    def call(argument):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer, argument

    assert await storage.call(call, 7) == ("here", 7)
    assert "store" not in lifecycle.not_ready()


async def test_while_it_is_tried_again_readiness_says_why(storage, lifecycle):
    down = True

    def call():
        if down:
            raise RetryableError("the store sleeps")

    waiting = asyncio.create_task(storage.call(call))
    await eventually(lambda: lifecycle.not_ready().get("store") == "the store sleeps")
    assert metrics.STORE_UNAVAILABLE._value.get() == 1
    down = False
    await waiting
    assert "store" not in lifecycle.not_ready()
    assert metrics.STORE_UNAVAILABLE._value.get() == 0


async def test_a_cancelled_call_is_no_longer_an_outage(storage, lifecycle):
    def call():
        raise RetryableError("the store sleeps")

    waiting = asyncio.create_task(storage.call(call))
    await eventually(lambda: "store" in lifecycle.not_ready())
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert metrics.STORE_UNAVAILABLE._value.get() == 0


async def test_what_waiting_cannot_help_is_raised_at_once(storage):
    def call():
        raise FatalError("no such bucket")

    with pytest.raises(FatalError, match="no such bucket"):
        await storage.call(call)
