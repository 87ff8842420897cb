"""mq-bridge: a route from Kafka to Parquet, nothing of it in Python; until SIGTERM, as it has no notion of enough.

mq_bridge_rows.py BOOTSTRAP TOPIC GROUP KIND MESSAGES LEVELS FOLDER
"""

from __future__ import annotations

import signal

from mq_bridge import Route
from task import told

BATCH_MESSAGES = 1024  # what its documentation takes for bulk; a batch is a file


def main() -> None:
    task = told()
    route = Route.from_config(
        {
            "input": {
                "kafka": {
                    "url": task.bootstrap,
                    "topic": task.topic,
                    "group_id": task.group,
                    "consumer_options": [["auto.offset.reset", "earliest"]],
                }
            },
            "output": {"object_store": {"url": f"file://{task.folder}", "format": "parquet", "compression": "zstd"}},
            "batch_size": BATCH_MESSAGES,
        }
    )
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    with route:
        signal.sigwait({signal.SIGTERM})


if __name__ == "__main__":
    main()
