"""Writes the tables of judges over all evaluations of a run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from slurmeval.config.models import Config
from slurmeval.errors import UserError
from slurmeval.harnesses.judge.labels import Labelled, read_labels
from slurmeval.harnesses.judge.rubrics import rubric_of
from slurmeval.judges.card import card_rows
from slurmeval.judges.reading import stored_verdicts
from slurmeval.judges.scores import score_rows
from slurmeval.paths import Paths
from slurmeval.progress import Progress
from slurmeval.results.judge_tables import JUDGE_CARD, JUDGED
from slurmeval.results.partitions import replace_table

Row = dict[str, Any]


def gather_judges(
    paths: Paths, config: Config, project: Path, pairs: Iterable[tuple[str, str]], say: Progress
) -> None:
    """Writes `judged.parquet` and `judge_card.parquet`; removes them where nothing is judged.

    Args:
        paths: Of the results.
        config: The run's.
        project: The folder that files in the config are relative to.
        pairs: Model and benchmark of each evaluation of the run.
        say: Is told what could not be read.
    """
    judged: list[Row] = []
    cards: list[Row] = []
    asked = list(pairs)
    for name in dict.fromkeys(benchmark for _, benchmark in asked):
        judging = config.benchmarks[name].judging
        ended = [(model, paths.samples(model, name)) for model, other in asked if other == name]
        ended = [(model, path) for model, path in ended if paths.evaluation(model, name).exists()]
        if judging is None or not ended:
            continue
        juror = config.benchmarks[judging.jury[0]].judging if judging.jury else judging
        assert juror is not None, "checked with the config"
        rubric = rubric_of(juror, project)
        labelled = Labelled()
        try:
            labels = juror.model_copy(update={"labels": judging.labels})
            labelled = read_labels(labels, rubric, project, paths.humans)
        except UserError as error:
            say(f"{name}: not held against people: {error}")
        verdicts = list(stored_verdicts(ended))
        same = {"benchmark": name, "judge": judging.judge}
        judged += [same | {"against": juror.against} | row for row in score_rows(verdicts, labelled, rubric)]
        cards += [same | row for row in card_rows(verdicts, judging.judge, labelled, rubric)]
    for path, table, rows in ((paths.judged, JUDGED, judged), (paths.judge_card, JUDGE_CARD, cards)):
        if not rows:
            path.unlink(missing_ok=True)
            continue
        replace_table(path, table, rows)
