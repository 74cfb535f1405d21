"""How far a run is, said now and then while it runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from slurmeval.progress import age_text
from slurmeval.servers.folder import ServerFolder
from slurmeval.state.evaluation import EvaluationProgress, GatewayProgress
from slurmeval.state.records import find, read
from slurmeval.state.run_document import RunDocument
from slurmeval.state.server import ServerState, ServerStatus

EVERY_S = 30.0

MOST_LINES = 5
"""Evaluations that are told of one by one; more are told of together."""

REASON_LENGTH = 200
"""Characters of what a server that starts has answered."""

NOT_READY = (ServerStatus.PENDING, ServerStatus.STARTING, ServerStatus.RESTARTING)
"""States of a server that answers nothing yet."""


@dataclass(frozen=True)
class Sight:
    """One evaluation that is under way."""

    model: str
    benchmark: str
    waits: bool
    answered: int
    expected: int | None
    tokens: int
    server: str
    """The model that is asked: itself, or its judge."""


class Telling:
    """Says every `EVERY_S` seconds what runs, from a thread of its own."""

    def __init__(self, run: RunDocument, say: Callable[[str], None]) -> None:
        self._run = run
        self._say = say
        self._paths = run.paths
        self._before: dict[tuple[str, str], tuple[float, int]] = {}
        self._end = threading.Event()

    def begin(self) -> None:
        """Begins to tell, in a thread."""
        threading.Thread(target=self._tell, name="telling", daemon=True).start()

    def end(self) -> None:
        """Ends the telling."""
        self._end.set()

    def _tell(self) -> None:
        while not self._end.wait(EVERY_S):
            for line in self.lines(time.monotonic()):
                self._say(line)

    def lines(self, now: float) -> list[str]:
        """What is said at a moment (monotonic clock): nothing where nothing is under way."""
        sights = list(self._look())
        rates = {(sight.model, sight.benchmark): self._rate(sight, now) for sight in sights}
        servers = {sight.server: self._server(sight.server) for sight in sights}
        # A harness may have begun, and got stored answers, while its server still loads
        waiting = {
            sight
            for sight in sights
            if sight.waits
            or (not rates[sight.model, sight.benchmark] and _is_not_ready(servers[sight.server]))
        }
        running = [sight for sight in sights if sight not in waiting]
        found = [_of_server(model, servers[model]) for model in sorted({s.server for s in waiting})][
            :MOST_LINES
        ]
        if len(running) <= MOST_LINES:
            for sight in running:
                rate = rates[sight.model, sight.benchmark]
                speed = "" if rate is None else f", {rate:.0f} tokens/s"
                found.append(f"{sight.model} on {sight.benchmark}: {_of(sight)}{speed}")
            return found
        total = sum(rate or 0.0 for rate in rates.values())
        answered = sum(sight.answered for sight in running)
        found.append(f"{len(running)} evaluations run: {answered:,} requests answered, {total:.0f} tokens/s")
        return found

    def _look(self) -> Iterator[Sight]:
        for model, benchmark in self._run.evaluations:
            if not self._run.lock_file(model, benchmark).exists():
                continue
            work = self._run.work(model, benchmark)
            progress, gateway = find(work / "progress.json", EvaluationProgress), _gateway(work)
            if progress is not None and progress.phase.startswith(("waiting", "running")):
                yield Sight(
                    model,
                    benchmark,
                    progress.phase.startswith("waiting"),
                    gateway.answered,
                    progress.requests_expected,
                    gateway.completion_tokens,
                    self._run.server_of(model, benchmark),
                )

    def _rate(self, sight: Sight, now: float) -> float | None:
        """Tokens per second since the last look; None at the first."""
        pair = (sight.model, sight.benchmark)
        before = self._before.get(pair)
        self._before[pair] = now, sight.tokens
        if before is None or now <= before[0] or sight.tokens < before[1]:
            return None
        return (sight.tokens - before[1]) / (now - before[0])

    def _server(self, model: str) -> ServerState | None:
        """Returns the state of a model's newest server; None: it has none."""
        folders = [folder for folder in self._paths.servers_of(model).glob("*") if folder.name.isdecimal()]
        if not folders:
            return None
        newest = max(folders, key=lambda folder: int(folder.name))
        return read(ServerFolder(newest).state, ServerState) or ServerState(ServerStatus.PENDING)


def _is_not_ready(server: ServerState | None) -> bool:
    return server is not None and server.status in NOT_READY


def _of_server(model: str, server: ServerState | None) -> str:
    if server is None:
        return f"{model}: waits for its server"
    # A server that is not slurmeval's own says what it likes
    reason = "".join(each if each.isprintable() else "�" for each in (server.reason or ""))
    age = age_text(server.changed_at)
    why = f" ({reason[:REASON_LENGTH]})" if reason else ""
    since = f" for {age}" if age else ""
    return f"{model}: its server is {server.status}{since}{why}"


def answers_kept(run: RunDocument) -> int:
    """Answers that are stored of the evaluations without a result: a later run does not ask for them."""
    kept = 0
    for model, benchmark in run.evaluations:
        if not run.paths.evaluation(model, benchmark).exists():
            kept += _gateway(run.work(model, benchmark)).answered_by_model
    return kept


def _of(sight: Sight) -> str:
    return (
        f"{sight.answered} of {sight.expected}" if sight.expected else f"{sight.answered} requests answered"
    )


def _gateway(work: Path) -> GatewayProgress:
    return find(work / "gateway" / "progress.json", GatewayProgress) or GatewayProgress()
