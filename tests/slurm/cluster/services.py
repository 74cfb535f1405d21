"""The cluster's services, all of its own: munge, MariaDB, slurmdbd and slurmctld, on the head."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.slurm.cluster import processes
from tests.slurm.cluster.commands import run, start_daemon, succeeds, wait_until
from tests.slurm.cluster.layout import STRANGER, Layout

ACCOUNT = "acct1"
DATABASE_PORT = 3306  # in the head's network: no other server is there


def prepare_database(layout: Layout) -> None:
    """Makes MariaDB's files. Needs no host yet."""
    run(
        [
            "mariadb-install-db",
            "--no-defaults",
            "--user=root",
            f"--datadir={layout.database}",
            "--auth-root-authentication-method=socket",
            "--skip-test-db",
            "--skip-name-resolve",
        ]
    )


def start_munge(layout: Layout) -> None:
    """A munge of the cluster's own: its key and socket are nobody else's."""
    key = layout.base / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(128))
    places = {
        "key-file": key,
        "socket": "/etc/slurm/munge.socket",
        "pid-file": layout.base / "run" / "munged",
        "seed-file": layout.base / "munge.seed",
    }
    # Forced: it warns of folders that others may write to, and /tmp is one
    options = [f"--{name}={place}" for name, place in places.items()]
    _start(layout, "munged", "--foreground", "--force", *options)
    wait_until(lambda: (layout.etc / "munge.socket").exists(), "munge's socket", 10)


def start_database(layout: Layout) -> None:
    setup = layout.base / "database.sql"
    setup.write_text(
        "create database slurm_acct_db;\n"
        "create user slurm@127.0.0.1 identified by 'slurm';\n"
        "grant all on slurm_acct_db.* to slurm@127.0.0.1;\n"
    )
    # Durability is of no use here, speed is
    _start(
        layout,
        "mariadbd",
        "--no-defaults",
        "--user=root",
        f"--datadir={layout.database}",
        f"--init-file={setup}",
        # Relative to the data: the base folder may be too deep for a socket's name
        "--socket=socket",
        f"--pid-file={layout.base}/run/mariadbd",
        "--bind-address=127.0.0.1",
        f"--port={DATABASE_PORT}",
        "--skip-name-resolve",
        "--skip-log-bin",
        "--innodb-buffer-pool-size=64M",
        "--innodb-lock-wait-timeout=900",
        "--innodb-flush-log-at-trx-commit=0",
        "--innodb-doublewrite=0",
        "--performance-schema=0",
    )
    # Its port opens last
    knock = f": </dev/tcp/127.0.0.1/{DATABASE_PORT}"
    _wait_for(layout, ["bash", "-c", knock], "MariaDB")


def start_slurmdbd(layout: Layout) -> None:
    _start(layout, "slurmdbd", "-D")
    _wait_for(layout, ["sacctmgr", "-n", "show", "cluster"], "slurmdbd")


def register_users(layout: Layout) -> None:
    """The cluster, an account and its users, known to accounting: others are refused."""
    manage: list[str | Path] = [layout.on, "head", "sacctmgr", "--immediate"]
    run([*manage, "add", "cluster", "test"])
    run([*manage, "add", "qos", "high", "Priority=10"])
    run([*manage, "add", "account", ACCOUNT, "cluster=test", "qos=normal,high"])
    run([*manage, "add", "user", f"root,{STRANGER}", f"account={ACCOUNT}"])
    run([*manage, "modify", "user", "root", "set", f"DefaultAccount={ACCOUNT}"])


def start_slurmctld(layout: Layout) -> None:
    _start(layout, "slurmctld", "-D")
    _wait_for(layout, ["scontrol", "ping"], "slurmctld")


def running(layout: Layout, service: str) -> bool:
    return bool(processes.named(layout, service))


def stop(layout: Layout, service: str, how: signal.Signals) -> None:
    """Ends it with that signal, and waits until it is gone."""
    for process in processes.named(layout, service):
        os.kill(process.pid, how)
    wait_until(lambda: not running(layout, service), f"{service} to end", 30)


def _start(layout: Layout, *argv: str) -> None:
    start_daemon([layout.on, "head", *argv], layout.logs / f"{Path(argv[0]).name}.out")


def _wait_for(layout: Layout, question: list[str], service: str) -> None:
    wait_until(lambda: succeeds([layout.on, "head", *question]), f"{service} to answer", 60)
