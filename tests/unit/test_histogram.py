"""Many values at once are counted as each of them by itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from shared.histogram import BatchHistogram

BUCKETS = (0.0, 0.5, 2.0)  # Prometheus is shown no sum where the first is negative
AMOUNTS = st.floats(allow_nan=False, min_value=-1e6, max_value=1e6) | st.sampled_from([*BUCKETS, 0.5000001])


def samples(batches, observe) -> dict[str, float]:
    registry = CollectorRegistry()
    child = BatchHistogram("spread", "Spread.", ("stage",), buckets=BUCKETS, registry=registry).labels("a")
    for batch in batches:
        observe(child, batch)
    [family] = registry.collect()
    return {
        f"{sample.name} {sample.labels.get('le')}": sample.value
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def one_by_one(child, batch) -> None:
    for amount in batch:
        child.observe(amount)


@given(st.lists(st.lists(AMOUNTS)))
def test_all_at_once_is_each_by_itself(batches):
    expected = samples(batches, one_by_one)
    assert samples(batches, BatchHistogram.observe_all) == pytest.approx(expected, rel=1e-9, abs=1e-6)


def test_values_are_counted_in_the_first_bucket_that_reaches_them():
    counted = samples([[0.5, 0.6, 3.0, 0.5]], BatchHistogram.observe_all)
    assert counted == {
        "spread_bucket 0.0": 0, "spread_bucket 0.5": 2, "spread_bucket 2.0": 3, "spread_bucket +Inf": 4,
        "spread_count None": 4, "spread_sum None": pytest.approx(4.6),
    }  # fmt: skip
