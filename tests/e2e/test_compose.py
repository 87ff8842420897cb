"""`docker compose up`, as the README says: from nothing, seen, scaled, killed, stopped and gone on with, nothing lost.

The tests build on one another, in the order of this file, over one suite of containers.
"""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from cryptoflow.demo_run import Run
from cryptoflow.demo_truth import compare
from shared.messages import KINDS
from tests.compose import SERVICES
from tests.support import eventually_sync

if TYPE_CHECKING:
    from pathlib import Path

    from tests.compose import Stack

pytestmark = [pytest.mark.docker, pytest.mark.xdist_group("compose"), pytest.mark.timeout(900)]

HEALTHY_SECONDS = 120.0
FLUSH_SECONDS = 10.0
DRAIN_SECONDS = 30.0
GRACE_SECONDS = 45.0
PARTITIONS = 12  # six of each kind
REPORTED_SECONDS = 6.0  # lags are looked at every 5 s
ENDED_BY_SIGTERM = 143  # how a JVM ends that was told to
PUBLISHED = {"prometheus": {"9090/tcp"}, "seaweedfs": {"8333/tcp"}}


def replicas(stack: Stack, service: str) -> dict[str, set[tuple[str, str]]]:
    """The partitions that each replica reads, by its address, as Prometheus shows it now."""
    found: dict[str, set[tuple[str, str]]] = {}
    for sample in stack.prometheus.query(f'cryptoflow_position_lag_records{{job="{service}"}}'):
        labels = sample.labels
        found.setdefault(labels["instance"], set()).add((labels["topic"], labels["partition"]))
    return found


def spread_over(stack: Stack, service: str, count: int) -> Any:
    """Whether so many replicas read all partitions, each partition one of them, and none has nothing to do."""
    found = replicas(stack, service)
    held = [each for partitions in found.values() for each in partitions]
    return len(found) == count and len(held) == len({*held}) == PARTITIONS and found


def metric(text: str, name: str, **labels: str) -> float:
    """The sum of the samples of `name` with these labels."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def assert_complete(stack: Stack, *options: str) -> None:
    """`lake verify`, by the image of the command line."""
    told = stack.tool("lake", "verify", stack.lake_url, "--json", *options)
    assert told.stdout, told.stderr
    report = json.loads(told.stdout)
    assert (report["verdict"], report["problems"][:5], report["losses"][:5]) == ("complete", [], [])
    assert told.returncode == 0


def exit_codes(stack: Stack, *services: str) -> dict[str, int]:
    found = {}
    for container in stack.containers(*services):
        state = container["State"]
        assert not state["Running"]
        assert not state["OOMKilled"]
        found[container["Config"]["Labels"]["com.docker.compose.service"]] = state["ExitCode"]
    return found


def grows(stack: Stack) -> None:
    """Waits until there are more files of both kinds than now."""
    before = {kind: len(stack.files_of(kind)) for kind in KINDS}
    eventually_sync(
        lambda: all(len(stack.files_of(kind)) > before[kind] for kind in KINDS),
        2 * FLUSH_SECONDS + DRAIN_SECONDS,
        "new files of both kinds",
    )


# --- from nothing ---


def test_from_nothing_it_is_healthy_in_time_and_files_come_within_a_flush(stack: Stack) -> None:
    stack.down("-v")
    assert stack.up() < HEALTHY_SECONDS
    for kind in KINDS:
        eventually_sync(
            lambda kind=kind: stack.files_of(kind), 2 * FLUSH_SECONDS + DRAIN_SECONDS, f"{kind} in the bucket"
        )


def test_prometheus_has_every_target_up(stack: Stack) -> None:
    def up() -> Any:
        found = [(target["labels"]["job"], target["health"]) for target in stack.prometheus.targets()]
        return sorted(found) == [(job, "up") for job in sorted((*SERVICES, "prometheus"))]

    eventually_sync(up, what="one target of each job is up")


def test_no_container_has_a_writable_root_a_capability_or_the_rights_of_root(stack: Stack) -> None:
    for container in stack.containers():
        labels, host = container["Config"]["Labels"], container["HostConfig"]
        service = labels["com.docker.compose.service"]
        assert host["ReadonlyRootfs"], service
        assert host["CapDrop"] == ["ALL"], service
        assert not host["CapAdd"], service
        assert not host["Privileged"], service
        assert any(option.startswith("no-new-privileges") for option in host["SecurityOpt"]), service
        if container["State"]["Running"]:
            status = stack.compose("exec", "-T", service, "cat", "/proc/1/status")
            assert re.search(r"^Uid:\s+[1-9]\d*\s", status, re.MULTILINE), service
            assert re.search(r"^Cap(Eff|Prm|Bnd):\s+0+$", status, re.MULTILINE), service
            assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE), service
            assert stack.run("exec", "-T", service, "sh", "-c", "echo > /here").returncode != 0, service


def test_only_what_a_person_opens_is_published_and_only_on_loopback(stack: Stack) -> None:
    published: dict[str, set[str]] = {}
    ports = set()
    for container in stack.containers():
        service = container["Config"]["Labels"]["com.docker.compose.service"]
        for port, bound in container["NetworkSettings"]["Ports"].items():
            for each in bound or ():
                assert each["HostIp"] == "127.0.0.1", (service, port)
                published.setdefault(service, set()).add(port)
                ports.add(int(each["HostPort"]))
    assert published == PUBLISHED
    sockets = [found for found in psutil.net_connections("tcp") if found.status == psutil.CONN_LISTEN]
    assert {found.laddr.ip for found in sockets if found.laddr.port in ports} <= {"127.0.0.1"}


def test_the_line_has_no_way_out(stack: Stack) -> None:
    for container in stack.containers(*SERVICES, "simulator", "kafka"):
        assert [*container["NetworkSettings"]["Networks"]] == [f"{stack.project}_line"], container["Name"]
    line, published = stack.networks("line", "published")
    assert line["Internal"]
    assert published["Options"]["com.docker.network.bridge.enable_ip_masquerade"] == "false"


# --- under load ---


def test_partitions_move_to_new_replicas_and_back(stack: Stack) -> None:
    stack.compose("up", "-d", "--wait", "--scale", "flattener=3", "--scale", "s3writer=2")
    eventually_sync(lambda: spread_over(stack, "flattener", 3), 60, "three flatteners share the partitions")
    eventually_sync(lambda: spread_over(stack, "s3writer", 2), 60, "two s3writers share the partitions")
    assert len(stack.prometheus.targets()) == 7
    grows(stack)
    assert_complete(stack)
    stack.compose("up", "-d", "--wait", "--scale", "flattener=1", "--scale", "s3writer=1")
    eventually_sync(lambda: spread_over(stack, "flattener", 1), 60, "one flattener has all partitions")
    eventually_sync(lambda: spread_over(stack, "s3writer", 1), 60, "one s3writer has all partitions")


@pytest.mark.parametrize("service", ["kafka", "flattener", "s3writer", "reader"])
def test_after_sigkill_up_is_all_it_takes(stack: Stack, service: str) -> None:
    stack.compose("kill", "-s", "KILL", service)
    assert exit_codes(stack, service) == {service: 137}
    assert stack.up() < HEALTHY_SECONDS
    for each in SERVICES:
        eventually_sync(lambda each=each: stack.ready(each), 60, f"the {each} is ready again")
    assert_complete(stack)


def test_all_stop_in_order_within_grace_and_go_on_with_what_they_had(stack: Stack) -> None:
    grows(stack)
    began = time.monotonic()
    stack.compose("stop", *SERVICES, "seaweedfs", "kafka")
    assert time.monotonic() - began < GRACE_SECONDS
    assert exit_codes(stack, *SERVICES, "seaweedfs", "kafka") == {
        **dict.fromkeys(SERVICES, 0), "seaweedfs": 0, "kafka": ENDED_BY_SIGTERM
    }  # fmt: skip
    stack.down(*SERVICES, "topics", "seaweedfs", "kafka")
    stack.up()
    grows(stack)
    assert_complete(stack)


def test_after_all_that_the_lake_is_what_the_exchange_sent(stack: Stack, tmp_path: Path) -> None:
    refused = metric(stack.ask("reader", "/metrics"), "cryptoflow_anchors_total", outcome="stale")
    stack.compose("stop", "reader")
    stopped = time.time()

    def all_taken(service: str) -> bool:
        seen = stack.prometheus
        age = f'timestamp(cryptoflow_position_lag_records{{job="{service}"}})'
        lag = seen.by(f'cryptoflow_position_lag_records{{job="{service}"}}', "topic", "partition")
        at = [sample.value for sample in seen.query(age)]
        return len(lag) == PARTITIONS and not any(lag.values()) and min(at) > stopped + REPORTED_SECONDS

    for service in ("flattener", "s3writer"):
        eventually_sync(lambda service=service: all_taken(service), 60, f"the {service} has taken all there is")
        stack.compose("stop", service)
        stopped = time.time()
    stack.compose("stop", "simulator")
    assert exit_codes(stack, *SERVICES, "simulator") == dict.fromkeys((*SERVICES, "simulator"), 0)

    assert_complete(stack, "--strict")
    lake = stack.copy_lake(tmp_path / "lake", *KINDS)
    found = compare(Run("main", stack.truth, lake, tmp_path), int(refused))
    assert found.problems == []
    assert found.equal, found
    assert found.polls > 100
    assert found.anchors > 10
    assert found.updates.updates > 1000


def test_down_and_up_again_goes_on_with_the_same_lake(stack: Stack) -> None:
    before = {kind: len(stack.files_of(kind)) for kind in KINDS}
    began = time.monotonic()
    stack.down()
    assert time.monotonic() - began < GRACE_SECONDS
    assert stack.containers() == []
    stack.up()
    grows(stack)
    assert all(len(stack.files_of(kind)) > before[kind] for kind in KINDS)
    assert_complete(stack)
