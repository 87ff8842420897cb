"""No peer but a limit: the records of the topic taken by aiokafka and thrown away.

drain.py BOOTSTRAP TOPIC GROUP KIND MESSAGES LEVELS FOLDER
"""

from __future__ import annotations

import uvloop
from consume import batches
from task import Task, told


async def drain(task: Task) -> None:
    async for _ in batches(task):
        pass


if __name__ == "__main__":
    uvloop.run(drain(told()))
