"""Trackio: a database with a run for each model, which `trackio show` opens. Needs the package trackio."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from slurmeval.results.exporting import tracked

if TYPE_CHECKING:
    from pathlib import Path

    from slurmeval.results.exporting import Run

PROJECT = "slurmeval"


def export(run: Run, folder: Path) -> Iterator[str]:
    """Writes `slurmeval.db`."""
    # Read when trackio is imported. The user's own may name a server, and nothing is sent anywhere
    for name in [name for name in os.environ if name.startswith("TRACKIO_")]:
        del os.environ[name]
    os.environ["TRACKIO_DIR"] = str(folder)
    import trackio  # type: ignore[import-not-found]

    silent = {"embed": False, "auto_log_gpu": False, "auto_log_cpu": False}
    with contextlib.redirect_stdout(io.StringIO()):  # it names the folder, which is not the last one
        for model, config, numbers in tracked(run):
            trackio.init(project=PROJECT, name=model, config=config, **silent)
            trackio.log(numbers)
            trackio.finish()
    (folder / f"{PROJECT}.lock").unlink(missing_ok=True)
    yield "no samples and no parts of benchmarks: --to parquet has them"
