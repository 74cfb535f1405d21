"""LaTeX takes the table of scores."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from slurmeval.results.exports import latex
from tests.lacking import lacking
from tests.unit.results.exports.test_tables import SPECIAL, run_of

DOCUMENT = r"\documentclass{article}\usepackage{booktabs}\begin{document}%s\end{document}"


def test_table_of_scores_compiles_whatever_the_names(tmp_path: Path) -> None:
    if shutil.which("pdflatex") is None:
        lacking("pdflatex is not installed")
    names = {(f"a{SPECIAL}", f"b{SPECIAL}"): {"ci_lo": 0.1, "ci_hi": 0.4}, ("c", "d"): {}}
    (tmp_path / "a.tex").write_text(DOCUMENT % latex.text(run_of(names)))
    done = subprocess.run(
        ["pdflatex", "-halt-on-error", "a.tex"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "a.pdf").exists()
