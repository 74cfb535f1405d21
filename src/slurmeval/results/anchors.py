"""A few questions of a benchmark that stand for all, found in the answers of one's own models."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slurmeval.errors import UserError
from slurmeval.files import write_json
from slurmeval.results import frames
from slurmeval.results.comparison import MIN_PAIRED, ended_well, primary_metrics
from slurmeval.results.questions import QuestionScores, read_questions
from slurmeval.statistics import irt

if TYPE_CHECKING:
    import numpy as np

FORMAT = 1


@dataclass(frozen=True)
class AnchorQuestion:
    """One question of a benchmark."""

    sample_uid: str
    task: str
    native_id: str
    """The harness's own id."""
    slope: float
    """How sharply it tells good models from bad ones."""
    ease: float
    """Log-odds that a model of average ability has it right."""
    weight: float
    """The share of all questions that it stands for; 0: it is no anchor."""


@dataclass(frozen=True)
class AnchorSet:
    """The anchors of one benchmark, and how far they are to be trusted."""

    benchmark: str
    metric: str
    size: int
    models: tuple[str, ...]
    others: tuple[str, ...]
    """Models that answered too few of the questions."""
    error: float
    """Root mean square error of the score of a model that was left out."""
    largest: float
    """The largest of these errors."""
    random_error: float
    """The standard error of the plain mean of as many questions, chosen at random."""
    questions: tuple[AnchorQuestion, ...]

    @property
    def anchors(self) -> list[AnchorQuestion]:
        """The questions to ask."""
        return [question for question in self.questions if question.weight]


def find(folders: Sequence[Path], benchmark: str, size: int) -> AnchorSet:
    """Returns the anchors of a benchmark, fitted to all models and checked by leaving each of them out.

    Args:
        folders: Results folders, or project folders; more folders, more models.
        benchmark: The benchmark's id, the same in all.
        size: How many questions are to stand for all.

    Raises:
        UserError: There are fewer than four models, or the scores will not do.
        SchemaDrift: Results are of another version.
    """
    import numpy as np

    metric, tables, names = _tables(folders, benchmark)
    most = max((len(table) for table in tables.values()), default=0)
    kept = {model: table for model, table in tables.items() if len(table) >= MIN_PAIRED * most and most}
    if len(kept) < irt.FEWEST_MODELS:
        raise UserError(
            f"{benchmark}: {len(kept)} models answered the same questions; "
            f"anchors need at least {irt.FEWEST_MODELS} (--also adds other results)"
        )
    uids, answers = _matrix(list(kept.values()))
    if answers.size and (answers.min() < 0 or answers.max() > 1):
        raise UserError(f"{benchmark}: its {metric} is not between 0 and 1, so no anchors stand for it")
    if not 1 <= size < len(uids):
        raise UserError(
            f"{benchmark}: all models answered {len(uids):,} of its questions; "
            f"expected fewer anchors, not {size}"
        )
    checked = irt.left_out(answers, size)
    errors = np.array([[estimate - value for estimate in estimates] for value, estimates in checked])
    spread = float(np.mean(answers.var(axis=1)))
    fitted = irt.fit(answers)
    anchors = irt.choose(fitted, size)
    weights = np.zeros(len(uids))
    weights[anchors.chosen] = anchors.weights
    told = zip(uids, fitted.slopes.tolist(), fitted.eases.tolist(), weights.tolist(), strict=True)
    return AnchorSet(
        benchmark=benchmark,
        metric=metric,
        size=size,
        models=tuple(kept),
        others=tuple(model for model in tables if model not in kept),
        error=math.sqrt(float((errors**2).mean())),
        largest=float(np.abs(errors).max()),
        random_error=math.sqrt(spread / size * (1 - size / len(uids))),
        questions=tuple(AnchorQuestion(uid, *names[uid], *rest) for uid, *rest in told),
    )


def benchmarks_of(folders: Sequence[Path]) -> list[str]:
    """Returns the benchmarks that ended well in any of the folders. Raises as `find` does."""
    ended = [benchmark for folder in folders for _, benchmark in ended_well(frames.results_folder(folder))]
    return list(dict.fromkeys(ended))


def _tables(
    folders: Sequence[Path], benchmark: str
) -> tuple[str, dict[str, QuestionScores], dict[str, tuple[str, str]]]:
    """Returns the metric, each model's scored questions, and task and native id of every question."""
    tables: dict[str, QuestionScores] = {}
    names: dict[str, tuple[str, str]] = {}
    wanted: tuple[str, str | None] | None = None
    for folder in map(frames.results_folder, folders):
        primary = primary_metrics(folder)
        for model, of in ended_well(folder):
            metric = primary.get((model, of)) if of == benchmark else None
            if metric is None or (wanted or (metric["metric"], metric["filter"])) != (
                metric["metric"],
                metric["filter"],
            ):
                continue
            wanted = metric["metric"], metric["filter"]
            rows = read_questions(folder, metric)
            tables[model if model not in tables else f"{model} ({folder})"] = rows.only(~rows.errored)
            path = folder / "samples" / model / f"{of}.parquet"
            ids = frames.read_samples(path, ["sample_uid", "task", "native_id"])
            names |= dict(
                zip(ids[0].to_pylist(), zip(*(ids[n].to_pylist() for n in (1, 2)), strict=True), strict=True)
            )
    if wanted is None:
        known = ", ".join(benchmarks_of(folders)) or "none"
        raise UserError(f"unknown benchmark '{benchmark}'; with scores there are: {known}")
    return wanted[0], tables, names


def _matrix(
    tables: Sequence[QuestionScores],
) -> tuple[list[str], np.ndarray[tuple[int, int], np.dtype[np.float64]]]:
    """Returns the questions that all answered, and the scores, shape (models, questions)."""
    import numpy as np

    scores = [dict(zip(table.uids.tolist(), table.scores.tolist(), strict=True)) for table in tables]
    common = sorted(set.intersection(*map(set, scores)))
    return common, np.array([[each[uid] for uid in common] for each in scores], float)


def write(found: AnchorSet, path: Path) -> None:
    """Writes anchors as JSON: what `estimate` needs, with the ids by which a harness knows the questions."""
    write_json(path, {"format": FORMAT, **asdict(found)})


def estimate(path: Path, scores: Mapping[str, float]) -> float:
    """Returns the score on a whole benchmark of a model that was asked the anchors alone.

    Args:
        path: What `write` wrote.
        scores: The model's score on each anchor, by `sample_uid`; others are not looked at.

    Raises:
        UserError: The file is none, or an anchor has no score of 0 to 1.
    """
    import numpy as np

    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}, not {FORMAT}")
        questions = [AnchorQuestion(**each) for each in content["questions"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: expected anchors as `slurmeval anchors --to` writes them ({error})"
        ) from error
    chosen = [place for place, question in enumerate(questions) if question.weight]
    missing = [questions[place].sample_uid for place in chosen if questions[place].sample_uid not in scores]
    if missing:
        raise UserError(f"{len(missing)} of {len(chosen)} anchors have no score, such as {missing[0]}")
    answers = np.array([scores[questions[place].sample_uid] for place in chosen], float)
    if not ((answers >= 0) & (answers <= 1)).all():
        raise UserError("expected scores between 0 and 1")
    parameters = irt.ItemParameters(
        np.array([question.slope for question in questions]),
        np.array([question.ease for question in questions]),
    )
    weights = np.array([questions[place].weight for place in chosen])
    return irt.score(parameters, irt.Anchors(np.array(chosen), weights), answers)
