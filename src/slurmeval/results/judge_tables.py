"""The tables of judges: scores with what they leave open, and each judge's card."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from slurmeval.paths import Paths
from slurmeval.results.partitions import read_rows
from slurmeval.results.schema import Table

Row = dict[str, Any]
_TEXT, _INT, _FLOAT, _FLAG = pa.string(), pa.int64(), pa.float64(), pa.bool_()

JUDGED = Table(
    "judged",
    "one model's score by one judge in one dimension",
    ("model", "benchmark", "dimension"),
    (
        ("model", _TEXT, "", "The model whose answers were judged."),
        ("benchmark", _TEXT, "", "The judge's benchmark."),
        ("dimension", _TEXT, "", "What was judged; of comparisons `win_rate`."),
        ("judge", _TEXT, "", "The model that judged; null: a jury."),
        ("against", _TEXT, "", "The model it was compared with; null: it was graded."),
        ("n_answers", _INT, "verdicts", "Verdicts that were asked for."),
        ("n_scored", _INT, "verdicts", "Verdicts that could be read."),
        ("n_unreadable", _INT, "verdicts", "Verdicts that could not be read: they are in no score."),
        ("n_unjudged", _INT, "verdicts", "Answers without a verdict: too long for the judge, refused, none."),
        ("n_questions", _INT, "questions", "Questions with a verdict that could be read."),
        ("value_judge", _FLOAT, "0–1", "What the judge says: the mean over questions."),
        ("ci_lo", _FLOAT, "0–1", "Lower end of its 95 % interval, over questions; null: too few."),
        ("ci_hi", _FLOAT, "0–1", "Upper end."),
        ("judge_se", _FLOAT, "0–1", "Its error, were the judge asked again; null: it was asked once."),
        ("rerun_se", _FLOAT, "0–1", "The same, were the model asked again too; null: it was asked once."),
        ("bound_lo", _FLOAT, "0–1", "The score were all without a verdict of the worst grade."),
        ("bound_hi", _FLOAT, "0–1", "The score were they all of the best."),
        ("n_labelled", _INT, "answers", "Answers that people graded; if some were drawn at random, those."),
        ("value_corrected", _FLOAT, "0–1", "What people would say of all (PPI++); null: see `uncorrected`."),
        ("corrected_lo", _FLOAT, "0–1", "Lower end of its 95 % interval."),
        ("corrected_hi", _FLOAT, "0–1", "Upper end."),
        ("weight", _FLOAT, "0–1", "How much the judge counts in it (λ); 0: only people do."),
        ("value_rogan_gladen", _FLOAT, "0–1", "The same by the judge's sensitivity and specificity."),
        ("rogan_gladen_lo", _FLOAT, "0–1", "Lower end of its 95 % interval."),
        ("rogan_gladen_hi", _FLOAT, "0–1", "Upper end."),
        ("uncorrected", _TEXT, "", "Why there is no corrected score; null: there is one."),
        ("value_controlled", _FLOAT, "0–1", "The win rate at equal length; null: no comparison."),
        ("controlled_lo", _FLOAT, "0–1", "Lower end of its 95 % interval, by bootstrap over prompts."),
        ("controlled_hi", _FLOAT, "0–1", "Upper end."),
        ("value_style", _FLOAT, "0–1", "The win rate at equal length, headers, lists and bold text."),
        ("style_lo", _FLOAT, "0–1", "Lower end of its 95 % interval, by bootstrap over prompts."),
        ("style_hi", _FLOAT, "0–1", "Upper end."),
        ("strength", _FLOAT, "", "Bradley–Terry's log strength, where `against` is 0."),
        ("strength_lo", _FLOAT, "", "Lower end of its 95 % interval, by bootstrap over prompts."),
        ("strength_hi", _FLOAT, "", "Upper end."),
    ),
)  # fmt: skip

JUDGE_CARD = Table(
    "judge_card",
    "one measure of one judge",
    ("benchmark", "dimension", "measure"),
    (
        ("benchmark", _TEXT, "", "The judge's benchmark."),
        ("judge", _TEXT, "", "The model that judged; null: a jury."),
        ("dimension", _TEXT, "", "What was judged."),
        ("measure", _TEXT, "", "What was measured; docs/judges.md explains each."),
        ("value", _FLOAT, "", "Its value; null: it cannot be told."),
        ("ci_lo", _FLOAT, "", "Lower end of its 95 % interval; null: none."),
        ("ci_hi", _FLOAT, "", "Upper end."),
        ("n", _INT, "", "How many verdicts, answers or pairs it is of."),
    ),
)  # fmt: skip


def read_judged(paths: Paths) -> list[Row]:
    """Returns the scores by judges; none where nothing was judged. Raises SchemaDrift."""
    rows: list[Row] = read_rows(paths.judged, JUDGED).to_pylist() if paths.judged.exists() else []
    return rows


def read_cards(paths: Paths) -> list[Row]:
    """Returns the measures of all judges' cards; none where nothing was judged. Raises SchemaDrift."""
    found = paths.judge_card
    rows: list[Row] = read_rows(found, JUDGE_CARD).to_pylist() if found.exists() else []
    return rows
