"""Leases on a real disk, with real processes racing for them."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slurmeval.errors import ServerFailed, ServerStopped
from slurmeval.files import read_json, write_json
from slurmeval.processes import identity
from slurmeval.servers.folder import ServerFolder
from slurmeval.servers.leases import (
    LocalDisk,
    acquire,
    close_if_unused,
    counts,
    holds,
    is_leased,
    release,
)
from slurmeval.state.lease import Lease
from slurmeval.state.owner import Owner
from slurmeval.state.records import load, read, write
from slurmeval.state.server import ServerJob
from tests.unit.servers.conftest import Bench

DEAD = Owner(identity().host, 1, -1, token="run-0")


def note_job(folder: Path) -> None:
    """A submission without a job behind it: this process stands for the job."""
    with (folder / "submissions").open("a") as stream:
        stream.write("x")
    write(ServerFolder(folder).job, ServerJob("7", process=identity()))


def take(bench: Bench, benchmark: str = "arc", timeout_s: float = 20, **changed: Any) -> Path:
    lease = acquire(replace(bench.spec, **changed), benchmark, bench.controller, note_job, timeout_s)
    assert lease.server is not None
    return lease.server


def test_many_lessees_at_once_share_one_submission(bench: Bench) -> None:
    with ThreadPoolExecutor(16) as pool:
        folders = set(pool.map(lambda number: take(bench, f"b{number}"), range(40)))
    assert folders == {bench.folder(1).path}
    assert (bench.folder(1).path / "submissions").read_text() == "x"
    assert all(counts(bench.lease_path(f"b{number}"), bench.controller_path) for number in range(40))
    assert len([*Path(bench.spec.leases).rglob("*.json")]) == 40
    assert sorted(path.name for path in Path(bench.spec.servers).iterdir()) == ["0001"]
    lease = read(bench.lease_path("b0"), Lease)
    assert lease == Lease(bench.folder(1).path, "smol", "b0", "7", bench.controller)


def test_a_server_that_was_stopped_on_purpose_is_not_replaced_in_the_same_run(bench: Bench) -> None:
    take(bench)
    bench.folder(1).stop.touch()
    with pytest.raises(ServerStopped, match="slurmeval stop"):
        take(bench, "gsm8k")
    bench.begin_run("run-2")
    assert take(bench, "gsm8k") == bench.folder(2).path


@pytest.mark.parametrize("marker", ["closing", "closed"])
def test_closing_server_is_never_used(bench: Bench, marker: str) -> None:
    take(bench)
    (bench.folder(1).path / marker).touch()
    assert take(bench, "gsm8k") == bench.folder(2).path


def test_changed_spec_is_another_server(bench: Bench) -> None:
    take(bench)
    assert take(bench, "gsm8k", dtype="float16") == bench.folder(2).path


def test_server_whose_job_died_before_it_said_anything_is_not_used(bench: Bench) -> None:
    take(bench)
    write(bench.folder(1).job, ServerJob("7", process=DEAD))
    assert take(bench, "gsm8k") == bench.folder(2).path


def test_lessee_that_died_before_it_submitted_is_not_waited_for(bench: Bench) -> None:
    folder = bench.folder(1)
    write(folder.spec, bench.spec)
    write(folder.submitter, DEAD)
    assert take(bench) == bench.folder(2).path


def test_wait_for_another_lessees_submission_is_bounded(bench: Bench) -> None:
    folder = bench.folder(1)
    write(folder.spec, bench.spec)
    write(folder.submitter, bench.controller)
    with pytest.raises(ServerFailed, match=r"not submitted within 0 s"):
        take(bench, timeout_s=0.1)
    assert read_json(bench.lease_path())["released"] is True


def test_submission_that_fails_is_told_to_all_lessees_of_the_run(bench: Bench) -> None:
    def refuse(_folder: Path) -> None:
        raise ServerFailed("no such partition")

    for benchmark in ("arc", "gsm8k"):
        with pytest.raises(ServerFailed, match="no such partition"):
            acquire(bench.spec, benchmark, bench.controller, refuse)
    assert not bench.folder(2).path.exists()


def test_leased_server_does_not_close_and_an_unleased_one_does(bench: Bench) -> None:
    server, leases = take(bench), Path(bench.spec.leases)
    assert not close_if_unused(server, leases, bench.controller_path)
    assert not ServerFolder(server).closing.exists()
    release(bench.lease_path())
    release(bench.lease_path("never taken"))
    assert not is_leased(server, leases, bench.controller_path)
    assert close_if_unused(server, leases, bench.controller_path)
    assert ServerFolder(server).closed.exists()


def test_lease_counts_while_its_evaluation_is_alive(bench: Bench) -> None:
    server, leases = take(bench), Path(bench.spec.leases)
    lease = replace(load(bench.lease_path(), Lease), controller=DEAD)
    write(bench.lease_path(), lease)
    assert not is_leased(server, leases, bench.controller_path)
    write(bench.lease_path(), replace(lease, evaluation=bench.root / "owner.json"))
    assert not is_leased(server, leases, bench.controller_path)
    write(bench.root / "owner.json", identity())
    assert is_leased(server, leases, bench.controller_path)


def test_lease_of_an_earlier_run_does_not_count_though_a_later_one_has_a_heartbeat(bench: Bench) -> None:
    server, leases = take(bench), Path(bench.spec.leases)
    earlier = replace(bench.controller, token="run-0")
    write(bench.lease_path(), replace(load(bench.lease_path(), Lease), controller=earlier))
    assert not is_leased(server, leases, bench.controller_path)


def test_a_server_whose_job_is_gone_is_replaced(bench: Bench) -> None:
    server = take(bench)
    write_json(ServerFolder(server).gone, {"state": "CANCELLED", "reason": "by hand"})
    assert not holds(bench.spec, "arc", bench.controller)
    assert take(bench).name == "0002"


def test_a_successor_has_a_higher_number_though_the_server_is_there(bench: Bench) -> None:
    assert take(bench).name == "0001"
    spec = bench.spec
    above = acquire(spec, "~renewal", bench.controller, bench.submit, above=1)
    assert above.server is not None and above.server.name == "0002"
    assert holds(spec, "arc", bench.controller)


def test_run_knows_whether_it_holds_a_lease(bench: Bench) -> None:
    spec = bench.spec
    assert not holds(spec, "arc", bench.controller)
    server = take(bench)
    assert holds(spec, "arc", bench.controller)
    assert not holds(spec, "arc", replace(bench.controller, token="run-2"))
    (server / "closed").touch()
    assert not holds(spec, "arc", bench.controller)
    failed = {"status": "failed", "reason": "no memory", "owner": None}
    write_json(ServerFolder(server).state, failed)
    with pytest.raises(ServerFailed, match="no memory"):
        holds(spec, "arc", bench.controller)


def test_folder_is_made_once_and_whole(tmp_path: Path) -> None:
    disk = LocalDisk(note_job)
    made = [disk.make(tmp_path / "servers" / "0001", {"spec.json": Owner("host", n)}) for n in range(3)]
    assert made == [True, False, False]
    assert read(tmp_path / "servers" / "0001" / "spec.json", Owner) == Owner("host", 0)
    assert len(list((tmp_path / "servers").iterdir())) == 1


def test_lease_module_imports_little() -> None:
    code = "import sys; import slurmeval.servers.leases; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    heavy = {"submitit", "pydantic", "subprocess", "asyncio", "logging", "http", "yaml", "slurmeval.config"}
    assert heavy.isdisjoint(loaded.split())


def test_lease_without_submission_imports_nothing_heavy(bench: Bench) -> None:
    take(bench)
    code = (
        "import sys; from pathlib import Path; from slurmeval.servers.leases import acquire; "
        "from slurmeval.state.owner import Owner; from slurmeval.state.records import load; "
        "from slurmeval.state.server_spec import ServerSpec; "
        "spec, owner = load(Path(sys.argv[1]), ServerSpec), load(Path(sys.argv[2]), Owner); "
        "print(acquire(spec, 'gsm8k', owner).job_id, *sys.modules)"
    )
    argv = [sys.executable, "-c", code, str(bench.folder(1).spec), str(bench.controller_path)]
    job_id, *modules = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()
    assert job_id == "7"
    assert not {"submitit", "pydantic", "aiohttp", "asyncio", "subprocess"} & set(modules)
