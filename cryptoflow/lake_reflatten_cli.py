"""The command `cryptoflow lake reflatten`. It parses, calls one function, prints; nothing is decided here."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from cryptoflow import lake
from cryptoflow.lake_options import INSTANT, JsonOption, instant, not_done, stream_name
from cryptoflow.lake_proof_cli import RawLakeOption, bar, raw_archive, raw_topics
from cryptoflow.options import ConfigOption, SetOption  # noqa: TC001 - typer reads the annotations
from shared.errors import CryptoFlowError
from shared.messages import KINDS

if TYPE_CHECKING:
    from cryptoflow.reflatten import Reflattened
    from shared.messages import Kind


def _kinds(texts: list[str] | None) -> list[str]:
    for text in texts or ():
        if text not in KINDS:
            raise typer.BadParameter(f"{text!r} is not one of {', '.join(KINDS)}")
    return list(dict.fromkeys(texts or KINDS))


def reflatten(
    url: Annotated[str, typer.Argument(metavar="LAKE", help="The lake whose rows are to be made again.")],
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="Where to: another prefix or folder, or with --as-stream LAKE.")
    ],
    config: ConfigOption = None,
    pairs: SetOption = None,
    *,
    from_kafka: Annotated[
        bool,
        typer.Option(
            "--from-kafka", help="Of what the raw topics still hold; --config and --set say which Kafka and stream."
        ),
    ] = False,
    from_raw: Annotated[bool, typer.Option("--from-raw", help="Of the raw archive (storage.s3.archive_raw).")] = False,
    raw_lake: RawLakeOption = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(callback=_kinds, help="fobs (snapshots) or fobd (deltas). Repeatable. Default: both."),
    ] = None,
    stream: Annotated[
        str | None, typer.Option(callback=stream_name, help="Of this stream. Default: the only one of the lake.")
    ] = None,
    as_stream: Annotated[
        str | None, typer.Option(callback=stream_name, help="The stream of what is made. Default: the same.")
    ] = None,
    start: Annotated[
        int | None,
        typer.Option(
            "--from", parser=instant, metavar=INSTANT, help="Received since then: whole claims, so some more."
        ),
    ] = None,
    end: Annotated[
        int | None, typer.Option("--to", parser=instant, metavar=INSTANT, help="Received before then, likewise.")
    ] = None,
    partition: Annotated[int | None, typer.Option(min=0, help="Only of this raw partition.")] = None,
    first: Annotated[
        int | None, typer.Option(min=0, help="From this raw offset on; needs --partition and one --kind.")
    ] = None,
    last: Annotated[
        int | None, typer.Option(min=0, help="Up to this raw offset; needs --partition and one --kind.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make rows again from raw records, after a parser bug, into another lake or another stream: never in place.

    By default all that LAKE has taken so far. Killed or failed it is run again, and goes on. What it made is proven by
    `lake verify TARGET`, and by --against-kafka or --against-raw --raw-lake LAKE. docs/reflatten.md: how to switch readers.

    Exit codes: 0 all of it is there; 2 refused, or not all could be done (run it again); 3 all is there but for raw records
    that are no longer held anywhere it was told to look.
    """
    kinds = kind or list(KINDS)
    if from_kafka == from_raw:
        raise typer.BadParameter("one of --from-kafka and --from-raw")
    if raw_lake is not None and not from_raw:
        raise typer.BadParameter("--raw-lake is of --from-raw")
    if (config or pairs) and not from_kafka:
        raise typer.BadParameter("--config and --set are of --from-kafka")
    if (first is not None or last is not None) and (partition is None or len(kinds) > 1):
        raise typer.BadParameter("--first and --last are offsets of one raw partition: --partition and one --kind")
    if (first is not None or last is not None) and (start is not None or end is not None):
        raise typer.BadParameter("raw offsets or times: choose one")
    if start is not None and end is not None and start >= end:
        raise typer.BadParameter("--to must lie after --from")
    try:
        source = raw_topics(config, pairs) if from_kafka else raw_archive(raw_lake or url)
        from cryptoflow.reflatten import reflatten as make  # noqa: PLC0415  # the flattener's libraries
        from cryptoflow.reflatten_range import Wanted  # noqa: PLC0415

        chosen: tuple[Kind, ...] = tuple(known for known in KINDS if known in kinds)
        wanted = Wanted(chosen, stream, partition, start, end, first, last)
        with source as raw, bar("raw offsets") as progress:
            made = make(lake.open_url(url), lake.open_url(target), raw, wanted, as_stream=as_stream, progress=progress)
    except CryptoFlowError as error:
        raise not_done(error, target, "reflattened", as_json=as_json) from error
    if as_json:
        typer.echo(json.dumps(made.as_dict(), ensure_ascii=False))
    else:
        _print(made)
    raise typer.Exit(made.exit_code)


def _print(made: Reflattened) -> None:
    for line in made.lines:
        if line.not_made:
            typer.echo(f"note: {line}")
    typer.echo(f"{made.target}: {made}")
