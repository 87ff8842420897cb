"""The commands `cryptoflow lake book` and `cryptoflow lake gaps`. They parse, call one function, print."""

from __future__ import annotations

import json
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import numpy as np
import pyarrow.parquet as pq
import typer
from rich.table import Table

from cryptoflow import lake
from cryptoflow.lake_options import (
    INSTANT,
    NOT_DONE,
    JsonOption,
    UrlArgument,
    console,
    instant,
    not_done,
    stream_name,
)
from shared.errors import CryptoFlowError
from shared.lake.instant import instant_text
from shared.messages import KINDS

if TYPE_CHECKING:
    from cryptoflow.lake import Book, Levels

GAP_BETWEEN = 3
TABLE_LEVELS = 20


def _kind(text: str | None) -> str | None:
    if text not in (None, *KINDS):
        raise typer.BadParameter(f"{text!r} is not one of {', '.join(KINDS)}")
    return text


StreamOption = Annotated[
    str | None, typer.Option(callback=stream_name, help="One of several; the default is that of the newest anchor.")
]


def book(
    url: UrlArgument,
    *,
    exchange: Annotated[str, typer.Option(help="binance")],
    market: Annotated[str, typer.Option(help="future, inverse or spot")],
    symbol: Annotated[str, typer.Option(help="As the venue writes it.")],
    at: Annotated[
        int,
        typer.Option(
            parser=instant,
            metavar=INSTANT,
            help="Instant of receipt: 2026-11-25T10:00:00Z, or ms, us or ns since the epoch.",
        ),
    ],
    depth: Annotated[
        int | None, typer.Option(min=1, help=f"Levels of each side. Default: all; {TABLE_LEVELS} of the table.")
    ] = None,
    stream: StreamOption = None,
    as_json: JsonOption = False,
    parquet: Annotated[
        Path | None, typer.Option(dir_okay=False, metavar="FILE", help="Write the book there, as Parquet.")
    ] = None,
    allow_gap: Annotated[
        bool, typer.Option("--allow-gap", help="A book from before a gap is good enough: exit code 0.")
    ] = False,
) -> None:
    """Rebuild an order book at an instant, from the nearest anchor at or before it.

    Exit codes: 0 rebuilt, 2 not rebuilt (no anchor, a lake that cannot be read, a wrong command line), 3 a gap lies between
    the anchor and the instant: what is shown is the book from before the gap. No Parquet is written then, but with
    --allow-gap, which makes it 0.
    """
    if as_json and parquet is not None:
        raise typer.BadParameter("--json and --parquet: choose one")
    try:
        found = lake.book(url, exchange=exchange, market=market, symbol=symbol, at=at, depth=depth, stream=stream)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    except CryptoFlowError as error:
        raise not_done(error, url, "rebuilt", as_json=as_json) from error
    refused = bool(found.gaps) and not allow_gap
    if as_json:
        typer.echo(json.dumps(found.as_dict(), ensure_ascii=False))
    elif parquet is None or refused:
        _print_book(found, depth or TABLE_LEVELS)
    else:
        try:
            pq.write_table(found.to_arrow(), parquet, compression="zstd")
        except OSError as error:
            typer.echo(f"not written: {error}", err=True)
            raise typer.Exit(NOT_DONE) from error
        _print_facts(found)
        typer.echo(f"{len(found.bids):,} bids and {len(found.asks):,} asks written to {parquet}")
    for gap in found.gaps:
        typer.echo(f"gap: {gap}", err=True)
    if refused:
        written = "" if parquet is None else f"; {parquet} was not written"
        typer.echo(f"this is the book from before the gap{written} (--allow-gap takes it)", err=True)
        raise typer.Exit(GAP_BETWEEN)


def gaps(
    url: UrlArgument,
    *,
    start: Annotated[
        int | None,
        typer.Option("--from", parser=instant, metavar=INSTANT, help="Begin of the span. Default: the lake's."),
    ] = None,
    end: Annotated[
        int | None,
        typer.Option("--to", parser=instant, metavar=INSTANT, help="End of the span, not in it. Default: the lake's."),
    ] = None,
    kind: Annotated[str | None, typer.Option(callback=_kind, help="fobs (snapshots) or fobd (deltas).")] = None,
    exchange: Annotated[str | None, typer.Option(help="Only of this exchange.")] = None,
    market: Annotated[str | None, typer.Option(help="Only of this market.")] = None,
    symbol: Annotated[str | None, typer.Option(help="Only of this symbol.")] = None,
    stream: Annotated[str | None, typer.Option(callback=stream_name, help="Only of this stream.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List every known hole, sorted by time: gap rows of both kinds, and what claims declare as lost.

    Exit codes: 0 listed, be there any or none; 2 not listed (a lake that cannot be read, a wrong command line).
    """
    if start is not None and end is not None and start >= end:
        raise typer.BadParameter("--to must lie after --from")
    try:
        found = lake.gaps(
            url, start=start, end=end, kind=kind, exchange=exchange, market=market, symbol=symbol, stream=stream
        )
    except CryptoFlowError as error:
        raise not_done(error, url, "listed", as_json=as_json) from error
    if as_json:
        typer.echo(json.dumps({"url": url, "gaps": [gap.as_dict() for gap in found]}, ensure_ascii=False))
        return
    if found:
        table = Table(
            "kind", "symbol", "cause", "since", "until", "last id", "next id", "raw record", box=None, pad_edge=False
        )
        for gap in found:
            table.add_row(
                gap.kind,
                str(gap.book) if gap.book else "(all of the partition)",
                gap.cause,
                _time(gap.since_ns),
                _time(gap.until_ns),
                _id(gap.last_id),
                _id(gap.next_id),
                gap.place,
            )
        console().print(table, highlight=False)
    typer.echo(f"{len(found):,} known {'gap' if len(found) == 1 else 'gaps'}")


def _print_book(book: Book, depth: int) -> None:
    _print_facts(book)
    table = Table("bid quantity", "bid", "ask", "ask quantity", box=None, pad_edge=False)
    for column in table.columns:
        column.justify = "right"
    bids, asks = book.bids.best(depth), book.asks.best(depth)
    for row in range(max(len(bids), len(asks))):
        bid, bid_quantity = _level(bids, row)
        ask, ask_quantity = _level(asks, row)
        table.add_row(bid_quantity, bid, ask, ask_quantity)
    console().print(table, highlight=False)
    if bids.beyond_anchor.any() or asks.beyond_anchor.any():
        typer.echo("* beyond the anchor: changed since; others may lie between")


def _print_facts(book: Book) -> None:
    anchor = book.anchor
    typer.echo(f"{book.key} at {instant_text(book.at_ns)}: update id {book.update_id}, {book.age_seconds:.3f} s old")
    typer.echo(
        f"from the anchor of {instant_text(anchor.recv_ns)}: id {anchor.update_id}, depth limit {anchor.depth_limit},"
        f" raw record {book.stream}/{book.raw_partition}/{anchor.raw_offset}; {book.updates:,} updates applied"
    )
    typer.echo(f"known depth: bids {_known(book.bids, 'down')}, asks {_known(book.asks, 'up')}")


def _known(levels: Levels, way: str) -> str:
    if levels.whole:
        return "whole"
    return "only what changed" if levels.known_to is None else f"{way} to {_number(levels.known_to)}"


def _level(levels: Levels, row: int) -> tuple[str, str]:
    if row >= len(levels):
        return "", ""
    mark = "*" if levels.beyond_anchor[row] else ""
    return _number(levels.price[row]) + mark, _number(levels.quantity[row])


def _number(value: float) -> str:
    return np.format_float_positional(value, trim="-")


def _time(ns: int | None) -> str:
    return "unknown" if ns is None else instant_text(ns)


def _id(number: int | None) -> str:
    return "" if number is None else str(number)
