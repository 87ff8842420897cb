"""What benchmarks found, for people. Of the whole line: who does what, at what cost, and how far we are from all limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OURS = "cryptoflow"


def line(found: dict[str, Any]) -> Iterator[Table]:
    """For each work its contenders, then its limits; then what each contender does, and the versions."""
    for name, work in found["works"].items():
        yield _contenders(name, work)
        yield _limits(name, work)
        yield _growth(name, work)
    yield _words(found)


def _contenders(name: str, work: dict[str, Any]) -> Table:
    made = Table(title=f"{name} ({work['source']}): raw topic to Parquet")
    for column in (
        "",
        "levels",
        "levels/CPU s",
        "lowest … highest",
        "rows/CPU s",
        "messages/CPU s",
        "levels/s, start incl.",
        "RSS MiB",
    ):
        made.add_column(column, justify="right" if column else "left")
    made.add_column("bytes/level", justify="right")
    made.add_column("ours, in levels", justify="right")
    made.add_column("in rows", justify="right")
    for contender, each in work["contenders"].items():
        rate = each["levels_per_cpu_second"]
        ratios = [work[unit].get(f"over {contender}") for unit in ("ours", "ours_in_rows")]
        rows = each.get("rows_per_cpu_second")
        made.add_row(
            contender,
            f"{each['levels']:,}",
            f"{rate['median']:,}",
            f"{rate['lowest']:,} … {rate['highest']:,}",
            f"{rows['median']:,}" if rows else "",
            f"{each['messages_per_cpu_second']['median']:,}",
            f"{each['levels_per_wall_second_with_start']['median']:,}",
            f"{each['peak_rss_mib']['median']:,}",
            str(each.get("bytes_per_level", "")),
            *(f"{ratio} x" if ratio else "" for ratio in ratios),
        )
        for part, figures in each.get("parts", {}).items():
            rate = figures["levels_per_cpu_second"]
            spread = f"{rate['lowest']:,} … {rate['highest']:,}"
            memory = f"{figures['peak_rss_mib']['median']:,}"
            made.add_row(f"  {part}", "", f"{rate['median']:,}", spread, "", "", "", memory, "", "", "")
    return made


def _limits(name: str, work: dict[str, Any]) -> Table:
    made = Table("limit", "levels/CPU s", "lowest … highest", "we reach", title=f"{name}: what the machine allows")
    for limit, each in work["limits"].items():
        rate = each["levels_per_cpu_second"]
        reached = f"{100 * each['we_reach']:.2f} %" if "we_reach" in each else ""
        made.add_row(limit, f"{rate['median']:,}", f"{rate['lowest']:,} … {rate['highest']:,}", reached)
    return made


def _growth(name: str, work: dict[str, Any]) -> Table:
    made = Table(
        "size", "levels", "CPU s", "RSS MiB", "CPU ns per further level", title=f"{name}: ours as the work grows"
    )
    further = work["growth"].get("cpu_ns_per_further_level", {})
    for size, each in work["growth"].items():
        if size != "cpu_ns_per_further_level":
            memory = ", ".join(f"{part} {mib}" for part, mib in each["peak_rss_mib"].items())
            cost = str(further.get(f"beyond {size}", ""))
            made.add_row(size, f"{each['levels']:,}", str(each["cpu_seconds"]["median"]), memory, cost)
    return made


def _words(found: dict[str, Any]) -> Table:
    made = Table("", "does", "set up", title=f"{found['broker']}, raw records {found['raw_compression']}")
    work = next(iter(found["works"].values()))
    for contender, each in work["contenders"].items():
        made.add_row(contender, each["does"], each["setup"])
    for name, packages in found["versions"].items():
        made.add_row(
            f"versions: {name}", ", ".join(f"{package} {version}" for package, version in packages.items()), ""
        )
    for name, why in found["left_out"].items():
        made.add_row(name, "left out", why)
    return made


def latency(found: dict[str, Any]) -> Iterator[Table]:
    """From where to where, and how long."""
    load = (
        f"{found['updates_per_second']:,} updates and {found['snapshots_per_second']:,} snapshots a second,"
        f" a flush each {found['flush_interval_seconds']} s"
    )
    made = Table("of", "from", "to", title=f"latency, {found['broker']}: {load}")
    for column in ("p50 ms", "p99 ms", "most ms"):
        made.add_column(column, justify="right")
    for of in ("updates", "snapshots"):
        for part, each in found[of].items():
            first, _, last = part.partition(" to ")
            made.add_row(of, first, last, *(f"{each[name]:,}" for name in ("p50_ms", "p99_ms", "most_ms")))
    yield made
    busy = Table("cores used", *found["cores"], "an idle event loop wakes late, p50 ms", "p99 ms")
    late = found["event_loop_that_does_nothing_wakes_late"]
    busy.add_row("", *map(str, found["cores"].values()), *map(str, late.values()))
    yield busy


def scaling(found: dict[str, Any]) -> Iterator[Table]:
    """Two against one."""
    made = Table(title=f"{found['work']}, {found['levels']:,} levels, {found['broker']}")
    for column in (
        "",
        "levels/s",
        "lowest … highest",
        "CPU ns/level",
        "cores used",
        "machine busy",
        "two over one",
        "CPU",
    ):
        made.add_column(column, justify="right" if column else "left")
    for stage in ("flattener", "s3writer"):
        for number in (1, 2):
            each = found[stage][f"of_{number}"]
            made.add_row(
                f"{number} x {stage}",
                f"{each['levels_per_second']:,}",
                f"{each['lowest_levels_per_second']:,} … {each['highest_levels_per_second']:,}",
                f"{each['cpu_ns_per_level']:,}",
                str(each["cores_used"]),
                f"{each['machine_busy']:.0%}",
                *(
                    [f"{found[stage][of]} x" for of in ("two_over_one", "cpu_per_level_two_over_one")]
                    if number == 2
                    else []
                ),
            )
    yield made


TABLES: dict[str, Callable[[dict[str, Any]], Iterator[Table]]] = {
    "line": line,
    "latency": latency,
    "scaling": scaling,
}
