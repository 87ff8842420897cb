"""What `bench.line` found, for people: who does what, at what cost, and how far we are from them and from the limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

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
        "messages/CPU s",
        "levels/s, start incl.",
        "RSS MiB",
    ):
        made.add_column(column, justify="right" if column else "left")
    made.add_column("bytes/level", justify="right")
    made.add_column("ours is", justify="right")
    for contender, each in work["contenders"].items():
        rate = each["levels_per_cpu_second"]
        ratio = work["ours"].get(f"over {contender}")
        made.add_row(
            contender,
            f"{each['levels']:,}",
            f"{rate['median']:,}",
            f"{rate['lowest']:,} … {rate['highest']:,}",
            f"{each['messages_per_cpu_second']['median']:,}",
            f"{each['levels_per_wall_second_with_start']['median']:,}",
            f"{each['peak_rss_mib']['median']:,}",
            str(each.get("bytes_per_level", "")),
            f"{ratio} x" if ratio else "",
        )
        for part, figures in each.get("parts", {}).items():
            rate = figures["levels_per_cpu_second"]
            spread = f"{rate['lowest']:,} … {rate['highest']:,}"
            memory = f"{figures['peak_rss_mib']['median']:,}"
            made.add_row(f"  {part}", "", f"{rate['median']:,}", spread, "", "", memory, "", "")
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
