"""What a run will do and take, in words: servers, evaluations, GPU-hours, and what stands in the way.

Figures of time are those of earlier runs; what has not been seen is said to be unknown.
"""

from __future__ import annotations

import heapq
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slurmeval.wording import counted

if TYPE_CHECKING:
    from slurmeval.config.models import Config
    from slurmeval.config.site import Site
    from slurmeval.planning.forecast import Forecast, Uptime

WIDTH = 80
MOST_ROWS = 50
"""Models in the table."""


@dataclass(frozen=True)
class ServersOf:
    """The servers of one model."""

    model: str
    servers: int
    """To be started; none is where the server is there already."""
    gpus: int
    """On each node of one of them."""
    nodes: int
    time_limit_min: int
    evaluations: int
    uptime: Uptime

    @property
    def all_gpus(self) -> int:
        """GPUs of all servers together."""
        return self.servers * self.nodes * self.gpus

    @property
    def gpu_hours(self) -> float:
        """Of what is known."""
        return self.all_gpus * self.uptime.seconds / 3600


@dataclass(frozen=True)
class Summary:
    """A run that is planned."""

    rows: list[ServersOf]
    evaluations: int
    """To be run; those of `finished` are not among them."""
    in_all: int
    """Evaluations of the config, run or not."""
    finished: int
    """Evaluations that an earlier run, which did not end in order, has left finished."""
    answered: int
    """Evaluations to be run that take all answers from their logs, and lease no server."""
    alone: int
    """Evaluations to be run that ask no server at all, such as activation patching."""
    limits_min: Mapping[str, float]
    """By benchmark to be run: the longest that one try may take."""
    site: Site | None
    at_once: int | None
    """Servers that may run at once; None: any number."""
    lasts_s: float
    """From start to end, of what is known."""

    @property
    def servers(self) -> int:
        """Servers of all models."""
        return sum(row.servers for row in self.rows)


def summarize(
    config: Config,
    site: Site | None,
    forecast: Forecast,
    planned: Iterable[tuple[str, str]],
    *,
    finished: int = 0,
    answered: Collection[tuple[str, str]] = (),
    in_all: int,
) -> Summary:
    """Returns the summary of the evaluations `planned`.

    Those finished are not among them; those `answered` are, and need no server, as those that ask nobody.
    """
    planned = list(planned)
    alone = sum(config.benchmarks[benchmark].asks_nobody for _, benchmark in planned)
    answered = {pair for pair in answered if not config.benchmarks[pair[1]].asks_nobody}
    asking = config.by_server(pair for pair in planned if pair not in answered)
    rows = [_servers_of(config, site, forecast, model, of_it) for model, of_it in asking.items()]
    at_once = config.server_jobs.max_at_once or (1 if site is None else None)
    return Summary(
        rows=rows,
        evaluations=sum(row.evaluations for row in rows) + len(answered) + alone,
        in_all=in_all,
        finished=finished,
        answered=len(answered),
        alone=alone,
        limits_min={name: forecast.time_limit_min(name) for name in dict.fromkeys(b for _, b in planned)},
        site=site,
        at_once=at_once,
        lasts_s=_lasts_s(rows, at_once),
    )


def _servers_of(
    config: Config, site: Site | None, forecast: Forecast, model: str, pairs: Sequence[tuple[str, str]]
) -> ServersOf:
    server = config.servers[config.models[model].server]
    uptime = forecast.uptime(model, pairs)
    longest = None if site is None else site.servers.of(server.pool).max_time_min
    return ServersOf(
        model,
        server.replicas if server.url is None else 0,
        server.gpus,
        server.nodes,
        min(server.time_limit_min, longest or server.time_limit_min),
        len(pairs),
        uptime,
    )


def _lasts_s(rows: Iterable[ServersOf], at_once: int | None) -> float:
    """Until the last server ends, the shortest first, so many at once."""
    rows = list(rows)
    times = sorted((row.uptime.seconds, row.servers) for row in rows if row.servers)
    slots = [0.0] * (at_once or sum(servers for _, servers in times) or 1)
    for seconds, servers in times:
        taken = [heapq.heappop(slots) for _ in range(min(servers, len(slots)))]
        for _ in taken:
            heapq.heappush(slots, max(taken) + seconds)
    return max([*slots, *(row.uptime.seconds for row in rows if not row.servers)])


def lines(summary: Summary) -> list[str]:
    """The summary as text, at most WIDTH columns wide where names are not very long."""
    if not summary.rows:
        return _headline(summary)
    return [*_headline(summary), "", *_table(summary), "", *_expected(summary)]


def _headline(summary: Summary) -> list[str]:
    count = summary.evaluations
    done = summary.in_all - count - summary.finished
    where = " on this machine" if summary.site is None else ""
    verb = "start" if summary.site is None else "submit"
    if count:
        servers = counted(summary.servers, "server") if summary.servers else "no server"
        text = f"Will {verb} {servers} and {counted(count, 'evaluation')}{where}"
        found = [f"{text}{_slurm_jobs(summary)}."]
        if done:
            found.append(f"Of {summary.in_all} evaluations, {_are(done)} done already.")
    else:
        found = [f"Will {verb} no server and no evaluation{where}."]
        if done:
            found.append(f"Of {summary.in_all} evaluations, {_are(done)} done.")
    if summary.answered:
        noun = counted(summary.answered, "evaluation")
        found.append(f"Without a server, from stored answers: {noun}.")
    if summary.alone:
        found.append(f"Without a server, by themselves: {counted(summary.alone, 'evaluation')}.")
    if summary.finished:
        found.append(f"An earlier run has left {counted(summary.finished, 'evaluation')} finished.")
    return found


def _are(count: int) -> str:
    return f"{count} {'is' if count == 1 else 'are'}"


def _slurm_jobs(summary: Summary) -> str:
    """`: 4 Slurm jobs`."""
    site = summary.site
    if site is None:
        return ""
    own = site.evaluations.where == "jobs"
    total = summary.servers + (summary.evaluations if own else 0)
    pools = (site.servers, *(site.servers.of(name) for name in site.servers.pools))
    most = "at most " if any(jobs.gpus_per_job for jobs in pools) else ""
    return f": {most}{counted(total, 'Slurm job')}"


def _table(summary: Summary) -> list[str]:
    with_gpus = any(row.gpus for row in summary.rows)
    header = ["model", "servers", "GPUs", "time limit", "evaluations", "up for", "GPU-hours"]
    table = [header, *(_cells(row) for row in summary.rows[:MOST_ROWS])]
    if len(summary.rows) > 1:
        total = [str(summary.servers), str(sum(row.all_gpus for row in summary.rows)), ""]
        hours = sum(row.gpu_hours for row in summary.rows)
        table.append(
            ["all", *total, str(summary.evaluations), "", _partly(hours_text(hours), *_all(summary))]
        )
    if not with_gpus:
        table = [[*row[:2], *row[3:6]] for row in table]
    text = _aligned(table)
    if len(summary.rows) > MOST_ROWS:
        more = len(summary.rows) - MOST_ROWS
        text.insert(-1, f"… and {counted(more, 'further model')}")
    return text


def _cells(row: ServersOf) -> list[str]:
    known, some = row.uptime.known, row.uptime.seconds > 0
    gpus = str(row.gpus) if row.nodes == 1 else f"{row.nodes} × {row.gpus}"
    hours = _partly(hours_text(row.gpu_hours), known, some) if row.gpus else "–"
    time_limit, up = duration(row.time_limit_min * 60), _partly(duration(row.uptime.seconds), known, some)
    return [row.model, str(row.servers), gpus, time_limit, str(row.evaluations), up, hours]


def _aligned(table: list[list[str]]) -> list[str]:
    """Columns two spaces apart, figures to the right. A long name has a line for itself."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    first = max(12, min(widths[0], WIDTH - sum(widths[1:]) - 2 * len(widths[1:])))
    found = []
    for name, *figures in table:
        text = "".join(f"  {figure:>{width}}" for figure, width in zip(figures, widths[1:], strict=True))
        if len(name) > first:
            found.append(name)
            name = ""
        found.append(f"{name:<{first}}{text}".rstrip())
    return found


def _all(summary: Summary) -> tuple[bool, bool]:
    """Whether all, and whether some of what the servers take is known."""
    uptimes = [row.uptime for row in summary.rows]
    return all(each.known for each in uptimes), any(each.seconds > 0 for each in uptimes)


def _partly(figure: str, known: bool, some: bool) -> str:
    return figure if known else f"> {figure}" if some else "unknown"


def _expected(summary: Summary) -> list[str]:
    known, some = _all(summary)
    gpus = any(row.gpus for row in summary.rows)
    if some:
        least = "" if known else "more than "
        hours = hours_text(sum(row.gpu_hours for row in summary.rows))
        work = f"{least}{hours} GPU-hours, " if gpus else ""
        text = f"{work}{least or 'about '}{duration(summary.lasts_s)} from start to end"
        if summary.at_once is not None and summary.servers:
            text += f", at most {counted(summary.at_once, 'server')} at once"
        text += "" if summary.site is None else ", not counting the queue"
        found = [*wrapped(f"Expected: {text}."), *wrapped(_sources(summary))]
    else:
        work = "GPU-hours and time are" if gpus else "time is"
        found = [f"Expected: {work} unknown, nothing of it has run here before."]
    if gpus:
        most = sum(row.all_gpus * row.time_limit_min / 60 for row in summary.rows)
        found.append(f"At most {hours_text(most)} GPU-hours, if each server ran to its time limit once.")
    limits = sorted(summary.limits_min.values())
    span = " to ".join(duration(minutes * 60) for minutes in dict.fromkeys((limits[0], limits[-1])))
    return [*found, f"One try of an evaluation may take {span}."]


def _sources(summary: Summary) -> str:
    """How much of the figures is known."""
    known = summary.evaluations - sum(row.uptime.unknown for row in summary.rows)
    other = sum(row.uptime.other_model for row in summary.rows)
    seen = sum(row.uptime.starting for row in summary.rows)
    lent = f" ({other} of them on another model)" if other else ""
    evaluations = f"{known} of {counted(summary.evaluations, 'evaluation')}{lent}"
    return (
        f"Earlier runs tell of {evaluations}, and of {seen} of {counted(len(summary.rows), 'server start')}."
    )


def wrapped(line: str) -> list[str]:
    """A sentence as lines of WIDTH columns, the further ones indented."""
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    return textwrap.wrap(
        line, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `1 h 05 min`, `30 h`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes % 60 == 0 or minutes >= 24 * 60:
        return f"{minutes / 60:.0f} h"
    return f"{minutes // 60} h {minutes % 60:02} min"


def hours_text(hours: float) -> str:
    """Returns hours with as many digits as matter."""
    return f"{hours:.2f}" if hours < 1 else f"{hours:.1f}" if hours < 100 else f"{hours:.0f}"
