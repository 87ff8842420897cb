"""Books rebuilt from real captured traffic are, text for text, those that the captures' own reconstruction gives."""

from __future__ import annotations

import gzip
import hashlib
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from cryptoflow import lake
from shared.lake.store_local import LocalStore
from shared.messages import Book
from tests.lakes import FobdRows, fobd_line
from tests.support import CAPTURES, needs_captures

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MARKETS = {"usdm": "future", "coinm": "inverse", "spot": "spot"}
MESSAGES_A_FILE = 1000
SESSIONS = sorted(CAPTURES.glob("binance_*"))


def updates(session: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Receive time and body of every depth update, in recorded order."""
    (path,) = session.glob("ws.jsonl*")
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        for line in lines:
            frame = json.loads(line)
            body = json.loads(frame["raw"])["data"]
            if body.get("e") == "depthUpdate":
                yield frame["recv_ns"], body


def anchors(session: Path) -> dict[str, tuple[int, dict[str, Any]]]:
    """Receive time and body of the snapshot of each symbol."""
    found = {}
    for path in sorted((session / "http").glob("*_depth_*.json")):
        answer = json.loads(path.read_text())
        (symbol,) = parse_qs(urlsplit(answer["url"]).query)["symbol"]
        found[symbol] = answer["recv_ns"], json.loads(answer["body"])
    return found


def floats(pairs: list[list[str]]) -> list[tuple[float, float]]:
    return [(float(price), float(quantity)) for price, quantity in pairs]


class Texts:
    """The venue's own texts of prices and quantities, as last received."""

    def __init__(self) -> None:
        self._levels: dict[tuple[str, float], tuple[str, str]] = {}

    def add(self, bids: list[list[str]], asks: list[list[str]]) -> None:
        for side, pairs in (("b", bids), ("a", asks)):
            for price, quantity in pairs:
                self._levels[side, float(price)] = price, quantity

    def digest(self, book: lake.Book) -> str:
        """As each capture's README says."""
        hasher = hashlib.sha256()
        for side, levels in (("b", book.bids), ("a", book.asks)):
            for price, quantity in zip(levels.price.tolist(), levels.quantity.tolist(), strict=True):
                texts = self._levels[side, price]
                assert float(texts[1]) == quantity
                hasher.update(f"{side} {texts[0]} {texts[1]}\n".encode())
        return hasher.hexdigest()


def store(folder: Path, key: Book, partition: int, messages: list[tuple[int, dict[str, Any]]], anchor: Any) -> Texts:
    """One symbol as the services store it: its anchor behind all updates that it holds, before all others."""
    line = fobd_line(LocalStore(folder), partition=partition)
    rows, texts = FobdRows(partition=partition), Texts()
    anchored = False
    for number, (recv_ns, body) in enumerate(messages):
        if not anchored and body["u"] > anchor[1]["lastUpdateId"]:
            sides = anchor[1]["bids"], anchor[1]["asks"]
            rows.anchor(anchor[1]["lastUpdateId"], *map(floats, sides), at=anchor[0])
            texts.add(*sides)
            anchored = True
        rows.update(body["U"], body["u"], body.get("pu"), floats(body["b"]), floats(body["a"]), at=recv_ns)
        texts.add(body["b"], body["a"])
        if number % MESSAGES_A_FILE == MESSAGES_A_FILE - 1 or number == len(messages) - 1:
            line.write((key, rows.take()))
    assert anchored
    return texts


@needs_captures
@pytest.mark.parametrize("session", SESSIONS, ids=[session.name for session in SESSIONS])
def test_a_captured_session_gives_the_book_its_reconstruction_gives(session, tmp_path):
    market = next(market for name, market in MARKETS.items() if f"_{name}__" in session.name)
    expected = json.loads((session / "expected.json").read_text())
    messages: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    for recv_ns, body in updates(session):
        messages.setdefault(body["s"], []).append((recv_ns, body))
    compared = 0
    for partition, (symbol, anchor) in enumerate(sorted(anchors(session).items())):
        told = expected[symbol]
        key = Book("binance", market, symbol)
        texts = store(tmp_path / "lake", key, partition, messages[symbol], anchor)
        at = max(recv_ns for recv_ns, _ in [*messages[symbol], anchor])
        book = lake.book(str(tmp_path / "lake"), exchange="binance", market=market, symbol=symbol, at=at)
        assert book.gaps == ()
        assert (book.anchor.update_id, book.update_id) == (told["lastUpdateId"], told["final_u"])
        assert (len(book.bids), len(book.asks)) == (told["final_bids"], told["final_asks"])
        assert texts.digest(book) == told["final_book_sha256"]
        compared += 1
    assert compared == len(expected)
    (line,) = {line.line.kind for line in lake.verify(str(tmp_path / "lake"), fast=True).lines}
    assert line == "fobd"


@needs_captures
def test_all_five_sessions_of_binance_are_there():
    assert len(SESSIONS) == 5
