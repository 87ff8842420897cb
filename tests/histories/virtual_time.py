"""An event loop whose clock jumps to the next timer as soon as nothing else is to be done: no history waits."""

import asyncio
import selectors


class _Jumping(selectors.DefaultSelector):
    loop: "VirtualLoop"

    def select(self, timeout=None):
        found = super().select(0)
        if not found:
            assert timeout is not None, "nothing will ever happen again"
            self.loop.seconds += timeout
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """`settle` runs what can be run now; sleeping in it costs nothing."""

    def __init__(self):
        selector = _Jumping()
        selector.loop = self
        self.seconds = 0.0
        super().__init__(selector)

    def time(self):
        return self.seconds

    def settle(self, seconds=0.0):
        self.run_until_complete(_settle(seconds))

    def end(self, *tasks):
        """Cancel what still runs, and close."""
        for task in tasks:
            task.cancel()
        self.settle()
        self.close()


async def _settle(seconds):
    await asyncio.sleep(seconds)
    for _ in range(ROUNDS):
        await asyncio.sleep(0)


ROUNDS = 30  # more than any task here takes to come to rest
