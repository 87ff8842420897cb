"""quixstreams with its Parquet file sink: each message expanded to a dict a level, or stored as it is, a row a message.

quix_rows.py BOOTSTRAP TOPIC GROUP KIND MESSAGES LEVELS FOLDER [--nested]
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

from quixstreams import Application, message_context
from quixstreams.sinks.community.file.formats import ParquetFormat
from quixstreams.sinks.community.file.local import LocalFileSink
from raw import said, shared
from task import options, told

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE_ROWS = 200_000  # a dict a level until the checkpoint: more would only cost memory


def expand(kind: str, value: dict[str, Any], _key: object, _timestamp: int, headers: Any) -> Iterator[dict[str, Any]]:
    inner, bids, asks = said(kind, value)
    common, where = shared(kind, inner, headers), message_context()
    common |= {"raw_partition": where.partition, "raw_offset": where.offset}
    for side, levels in (("bid", bids), ("ask", asks)):
        for level, (price, quantity) in enumerate(levels, 1):
            row = common | {"side": side, "price": float(price), "quantity": float(quantity)}
            yield row | {"level": level} if kind == "fobs" else row


def main() -> None:
    task, nested = told(), options() == ["--nested"]
    os.chdir(task.folder)  # the sink takes no hyphen in a folder's name
    application = Application(
        broker_address=task.bootstrap,
        consumer_group=task.group,
        auto_offset_reset="earliest",
        auto_create_topics=False,
        commit_every=max(1, FILE_ROWS * task.messages // task.levels),
        commit_interval=60,
        loglevel="WARNING",
    )
    frame = application.dataframe(application.topic(task.topic, value_deserializer="json"))
    if not nested:
        frame = frame.apply(partial(expand, task.kind), expand=True, metadata=True)
    frame.sink(LocalFileSink(directory="out", format=ParquetFormat(compression="zstd")))
    application.run(count=task.messages if nested else task.levels, collect=False)


if __name__ == "__main__":
    main()
