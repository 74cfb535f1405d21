"""What is refused before anything starts."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from slurmeval.errors import UserError
from slurmeval.evaluations.beforehand import need_plain_paths
from slurmeval.paths import Paths


def plan(project: str, results: str = "results") -> Any:
    paths = Paths(Path(results), Path(".environments"), Path("/hf"), Path(".images"))
    return SimpleNamespace(project=Path(project), paths=paths)


@pytest.mark.parametrize(
    "odd",
    ["50%j test", "a {x}", "pro\\ject", "a\nb", "a\rb"],
    ids=["percent", "braces", "backslash", "lf", "cr"],
)
def test_path_that_slurm_or_snakemake_would_read_otherwise_is_refused_in_one_line(odd: str) -> None:
    with pytest.raises(UserError, match=r"^the project folder: ") as refused:
        need_plain_paths(plan(f"/p/{odd}"))
    assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match=r"^results: "):
        need_plain_paths(plan("/p", odd))


def test_blanks_quotes_and_umlauts_are_fine_in_a_path() -> None:
    need_plain_paths(plan("/my project/ünï 日 it's $HOME #1 *?", "my results"))
