"""The sequence rules: every numbered rule of their docstrings, random streams, and all recorded sessions of Binance."""

from __future__ import annotations

import gzip
import json
from itertools import pairwise
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.venues import VENUES
from shared.venues.sequence import ChainedByPrevious, ContiguousIds, UpdateIds
from tests.support import CAPTURES, needs_captures

if TYPE_CHECKING:
    from shared.venues.binance_frames import BinanceFrames

FUTURES, SPOT = ChainedByPrevious(), ContiguousIds()
RULES = {"future": FUTURES, "spot": SPOT}


def test_each_market_has_its_rule() -> None:
    rules = {market: type(adapter.sequence) for (_, market), adapter in VENUES.items()}
    assert rules == {"future": ChainedByPrevious, "inverse": ChainedByPrevious, "spot": ContiguousIds}


@pytest.mark.parametrize(
    ("ids", "verdict"),
    [
        pytest.param((105, 110, 100), "next", id="1 pu is the u before"),
        pytest.param((101, 110, 100), "next", id="1 ids need not be sparse"),
        pytest.param((105, 110, 103), "gap", id="1 pu above the u before"),
        pytest.param((105, 110, 99), "gap", id="1 pu below the u before"),
        pytest.param((101, 110, 99), "gap", id="1 ids are contiguous, pu is not"),
        pytest.param((95, 100, 90), "repeat", id="2 the same u"),
        pytest.param((85, 90, 80), "repeat", id="2 a u below"),
        pytest.param((101, 101, 100), "next", id="2 the lowest u that is new"),
        pytest.param((95, 110, None), "gap", id="7 no pu"),
        pytest.param((95, 100, None), "repeat", id="2 before 7"),
    ],
)
def test_a_futures_update_after_an_update_at_100(ids, verdict) -> None:
    assert FUTURES.after_update(100, UpdateIds(*ids)) == verdict


@pytest.mark.parametrize(
    ("ids", "verdict"),
    [
        pytest.param((90, 99, 85), "repeat", id="3 u below lastUpdateId"),
        pytest.param((95, 100, 85), "repeat", id="3 u is lastUpdateId"),
        pytest.param((95, 105, 90), "next", id="4 around lastUpdateId"),
        pytest.param((100, 105, 90), "next", id="4 U is lastUpdateId"),
        pytest.param((95, 101, 90), "next", id="4 the lowest u that is new"),
        pytest.param((103, 105, 100), "next", id="5 pu is lastUpdateId"),
        pytest.param((101, 105, 100), "next", id="5 and U the next id"),
        pytest.param((103, 105, 97), "next", id="6 lastUpdateId between pu and U"),
        pytest.param((103, 105, 101), "gap", id="6 pu just above lastUpdateId"),
        pytest.param((110, 120, 105), "gap", id="6 pu far above lastUpdateId"),
        pytest.param((100, 105, None), "next", id="7 around lastUpdateId without pu"),
        pytest.param((101, 105, None), "gap", id="7 above lastUpdateId without pu"),
    ],
)
def test_a_futures_update_after_an_anchor_at_100(ids, verdict) -> None:
    assert FUTURES.after_anchor(100, UpdateIds(*ids)) == verdict


@pytest.mark.parametrize(
    ("ids", "verdict"),
    [
        pytest.param((101, 105), "next", id="1 U is the next id"),
        pytest.param((102, 105), "gap", id="1 U above the next id"),
        pytest.param((95, 100), "repeat", id="2 the same u"),
        pytest.param((85, 90), "repeat", id="2 a u below"),
        pytest.param((100, 105), "next", id="3 U is the last id"),
        pytest.param((90, 101), "next", id="3 one id is new"),
    ],
)
def test_a_spot_update_after_an_update_at_100(ids, verdict) -> None:
    assert SPOT.after_update(100, UpdateIds(*ids)) == verdict


@pytest.mark.parametrize(
    ("ids", "verdict"),
    [
        pytest.param((90, 99), "repeat", id="4 u below lastUpdateId"),
        pytest.param((95, 100), "repeat", id="4 u is lastUpdateId"),
        pytest.param((95, 101), "next", id="5 around the next id"),
        pytest.param((101, 101), "next", id="5 the next id alone"),
        pytest.param((101, 105), "next", id="5 from the next id on"),
        pytest.param((102, 105), "gap", id="5 above the next id"),
    ],
)
def test_a_spot_update_after_an_anchor_at_100(ids, verdict) -> None:
    assert SPOT.after_anchor(100, UpdateIds(*ids)) == verdict


# --- random streams ---------------------------------------------------------------------------------------------------


@st.composite
def streams(draw):
    """A true stream: ids of changes, and the updates that tell them; of futures every id may be missing."""
    spot = draw(st.booleans())
    steps = st.just(1) if spot else st.integers(1, 4)
    updates, changes, last = [], [], 10
    for sizes in draw(st.lists(st.lists(steps, min_size=1, max_size=3), min_size=1, max_size=12)):
        ids = []
        for step in sizes:
            ids.append((ids[-1] if ids else last) + step)
        updates.append(UpdateIds(ids[0], ids[-1], None if spot else last))
        changes += ids
        last = ids[-1]
    return RULES["spot" if spot else "future"], updates, changes


@given(streams(), st.data())
def test_whatever_is_dropped_repeated_or_reordered_each_update_is_judged_by_what_lies_between(stream, data) -> None:
    rule, updates, _ = stream
    places = data.draw(st.lists(st.integers(0, len(updates) - 1), min_size=2, max_size=30))
    newest = places[0]
    for place in places[1:]:
        verdict = rule.after_update(updates[newest].last_id, updates[place])
        assert verdict == ("repeat" if place <= newest else "next" if place == newest + 1 else "gap")
        newest = max(newest, place)


@given(streams(), st.data())
def test_after_an_anchor_at_any_id_an_update_is_judged_by_the_changes_between(stream, data) -> None:
    rule, updates, changes = stream
    anchor_id = data.draw(st.integers(10, changes[-1] + 2))  # of a change, or between two of them
    for update in updates:
        verdict = rule.after_anchor(anchor_id, update)
        before = update.first_id if update.prev_id is None else update.prev_id + 1
        missing = [id_ for id_ in changes if anchor_id < id_ < before]
        assert verdict == ("repeat" if update.last_id <= anchor_id else "gap" if missing else "next")


@given(streams(), st.data())
def test_every_stream_chains_from_every_anchor_within_it(stream, data) -> None:
    rule, updates, changes = stream
    anchor_id = data.draw(st.integers(10, changes[-1]))
    after = [update for update in updates if rule.after_anchor(anchor_id, update) != "repeat"]
    if after:
        assert rule.after_anchor(anchor_id, after[0]) == "next"
    assert all(rule.after_update(one.last_id, two) == "next" for one, two in pairwise(after))


# --- recorded sessions ------------------------------------------------------------------------------------------------

MARKETS = {"binance_usdm": "future", "binance_coinm": "inverse", "binance_spot": "spot"}
FOLDERS = sorted(path for path in CAPTURES.glob("binance_*") if path.is_dir())


def recorded_updates(folder, adapter: BinanceFrames) -> dict[str, list[UpdateIds]]:
    path = next(folder.glob("ws.jsonl*"))
    found: dict[str, list[UpdateIds]] = {}
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        for line in lines:
            if '\\"depthUpdate\\"' in line:
                update = adapter.read_frame(json.loads(line)["raw"].encode())
                found.setdefault(update.symbol, []).append(update.ids)
    return found


def recorded_anchors(folder, adapter: BinanceFrames) -> dict[str, int]:
    found = {}
    for path in sorted(folder.glob("http/*_depth_*.json")):
        answer = json.loads(path.read_text())
        symbol = parse_qs(urlsplit(answer["url"]).query)["symbol"][0]
        found[symbol] = adapter.parse_snapshot(answer["body"].encode()).last_update_id
    return found


@needs_captures
def test_all_five_recorded_sessions_are_there() -> None:
    assert [folder.name.partition("__")[0] for folder in FOLDERS] == [
        "binance_coinm", "binance_spot", "binance_usdm", "binance_usdm", "binance_usdm",
    ]  # fmt: skip


@needs_captures
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_recorded_sessions_chain_from_their_snapshots_as_expected(folder) -> None:
    market = MARKETS[folder.name.partition("__")[0]]
    adapter = VENUES["binance", market]
    updates, anchors = recorded_updates(folder, adapter), recorded_anchors(folder, adapter)
    expected = json.loads((folder / "expected.json").read_text())
    assert set(updates) == set(anchors) == set(expected)
    for symbol, told in expected.items():
        stream, anchor_id = updates[symbol], anchors[symbol]
        assert (len(stream), anchor_id) == (told["diff_events"], told["lastUpdateId"])
        breaks = [two for one, two in pairwise(stream) if follows(adapter, one, two) != "next"]
        assert len(breaks) == told["chain_breaks"] == 0
        verdicts = [adapter.sequence.after_anchor(anchor_id, ids) for ids in stream]
        repeats = verdicts.count("repeat")
        assert verdicts[:repeats] == ["repeat"] * repeats
        assert verdicts[repeats] == "next"
        # expected.json applies a futures update whose u is lastUpdateId, which changes nothing
        again = market != "spot" and stream[repeats - 1].last_id == anchor_id
        assert (repeats - again, len(stream) - repeats + again) == (told["dropped_before_snapshot"], told["applied"])
        assert stream[-1].last_id == told["final_u"]


def follows(adapter, one: UpdateIds, two: UpdateIds) -> str:
    return adapter.sequence.after_update(one.last_id, two)
