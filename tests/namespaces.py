"""A network namespace with an exchange in it, and addresses on this side: what a host with many source addresses is.

A veth pair joins the two. Run as a program it is the other side: it leaves this network, waits for its end of the pair,
gives it an address and becomes the simulator.
"""

from __future__ import annotations

import ctypes
import ipaddress
import os
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.processes import Simulator
from tests.support import eventually, eventually_sync, unavailable

if sys.platform == "linux":
    from pyroute2 import AsyncIPRoute, IPRoute
if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.processes import Processes

CLONE_NEWNET = 0x40000000
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw") or "0"  # workers share this side
OURS, THEIRS = f"cfveth{WORKER}", "cfpeer"
SUBNETS = {4: f"198.18.{WORKER}.0/24", 6: f"fd5c:f10:0:{WORKER}::/64"}  # for benchmarks of networks; of nobody's
FAR = 200  # the exchange's place in the subnet


class Exchange(Simulator):
    """The simulator behind the pair, under the address it listens on."""

    @property
    def url(self) -> str:
        return str(self.announced["rest"]["future"])


class Network:
    """This side of the pair. Addresses are single hosts: one that is removed takes no other with it."""

    def __init__(self, subnet: str, route: AsyncIPRoute) -> None:
        self.subnet = ipaddress.ip_network(subnet)
        self._route = route
        self._link = 0

    def address(self, place: int) -> str:
        return str(self.subnet[place])

    async def add(self, *addresses: str) -> None:
        for address in addresses:
            await self._addr("add", address, self.subnet.max_prefixlen)

    async def remove(self, address: str) -> None:
        await self._addr("del", address, self.subnet.max_prefixlen)

    async def join(self, pid: int) -> None:
        """The pair, its other end in the namespace of this process."""
        peer = {"ifname": THEIRS, "net_ns_pid": pid}
        await self._route.link("add", ifname=OURS, kind="veth", peer=peer)
        [self._link] = await self._route.link_lookup(ifname=OURS)
        without_detection(OURS)
        await self._addr("add", self.address(1), self.subnet.prefixlen)
        await self._route.link("set", index=self._link, state="up")

    async def end(self) -> None:
        """An exchange that has died took the pair with it."""
        for link in await self._route.link_lookup(ifname=OURS):
            await self._route.link("del", index=link)

    async def _addr(self, what: str, address: str, prefixlen: int) -> None:
        await self._route.addr(what, index=self._link, address=address, prefixlen=prefixlen)


@asynccontextmanager
async def exchange_behind(
    processes: Processes, folder: Path, *arguments: str, family: int = 4
) -> AsyncIterator[tuple[Network, Exchange]]:
    """The exchange as a process in a network of its own. Skips where no namespace can be made."""
    if not _may_make_networks():
        unavailable("Linux with the rights of root (for network namespaces)")
    async with AsyncIPRoute() as route:
        network = Network(SUBNETS[family], route)
        far = network.address(FAR)
        command = ["tests.namespaces", f"{far}/{network.subnet.prefixlen}", "--host", far, *arguments]
        exchange = Exchange(f"simulator-{len(processes.all)}", folder, command)
        processes.all.append(exchange)

        def apart() -> bool:
            assert exchange.alive, exchange.tail()
            return _network_of(exchange.pid) != _network_of(os.getpid())

        await eventually(apart, what="the exchange has a network of its own")
        try:
            await network.join(exchange.pid)
            assert exchange.announced
            yield network, exchange
        finally:
            await network.end()


def _may_make_networks() -> bool:
    """Whether this process has CAP_NET_ADMIN and CAP_SYS_ADMIN."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    held = next((int(line.split()[1], 16) for line in lines if line.startswith("CapEff:")), 0)
    return all(held >> capability & 1 for capability in (12, 21))


def _network_of(pid: int) -> str:
    return str(Path(f"/proc/{pid}/ns/net").readlink())


def without_detection(name: str) -> None:
    """IPv6 addresses serve at once: nobody else is on this wire."""
    path = Path(f"/proc/sys/net/ipv6/conf/{name}/accept_dad")
    if path.exists():
        path.write_text("0")


def main(address: str, *arguments: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    with IPRoute() as route:
        [link] = eventually_sync(lambda: route.link_lookup(ifname=THEIRS), what="the pair")
        without_detection(THEIRS)
        host, _, prefix = address.partition("/")
        route.addr("add", index=link, address=host, prefixlen=int(prefix))
        for index in (link, *route.link_lookup(ifname="lo")):
            route.link("set", index=index, state="up")
    os.execv(sys.executable, [sys.executable, "-m", "simulator", "--port", "0", *arguments])


if __name__ == "__main__":
    main(*sys.argv[1:])
