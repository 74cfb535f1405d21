"""Weights & Biases: an offline run for each model, which `wandb sync` sends. Needs the package wandb."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

from slurmeval.results.exporting import tracked

if TYPE_CHECKING:
    from pathlib import Path

    from slurmeval.results.exporting import Run


def export(run: Run, folder: Path) -> Iterator[str]:
    """Writes `wandb/offline-run-<time>-<id>`. Exporting the same results again gives the same names."""
    import wandb  # type: ignore[import-not-found]

    quiet = wandb.Settings(
        console="off", silent=True, disable_git=True, disable_code=True, x_disable_meta=True
    )
    for model, config, numbers in tracked(run):
        ended = max(row["ended_at"] for row in run.ended if row["model"] == model)
        identifier = hashlib.sha256(f"{model} {ended}".encode()).hexdigest()[:12]
        known = {"project": "slurmeval", "name": model, "id": identifier, "config": config}
        tracker = wandb.init(dir=folder, mode="offline", settings=quiet, **known)
        tracker.summary.update(numbers)
        tracker.finish()
        (made,) = (folder / "wandb").glob(f"offline-run-*-{identifier}")
        shutil.rmtree(made / "logs")
        made.rename(made.with_name(f"offline-run-{ended:%Y%m%d_%H%M%S}-{identifier}"))
    for link in (path for path in (folder / "wandb").iterdir() if path.is_symlink()):
        link.unlink()
    yield "no samples and no parts of benchmarks: --to parquet has them"
