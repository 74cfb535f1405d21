"""Results of BFCL v3 (nvidia-bfcl 26.3), as metrics and samples.

`result/<model>/BFCL_v3_<category>_result.json` has one answer a line,
`score/<model>/BFCL_v3_<category>_score.json` the category's accuracy and then only the wrong answers.
Questions and right answers are in the package. Scores in results.yml are percentages with two decimals.
There, categories that did not run count as 0 in every average over them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from slurmeval.errors import ErrorClass, EvaluationFailed
from slurmeval.harnesses.base import Job, Metric, Sample, Score
from slurmeval.harnesses.json_lines import json_lines
from slurmeval.harnesses.nemo_readers.reading import conversation, laid_out_by, text_of
from slurmeval.harnesses.sample_checks import each_once, well_formed
from slurmeval.harnesses.scores import bad_result

_PYTHON_AST = ["simple", "multiple", "parallel", "parallel_multiple"]
_AST = ["simple", "java", "javascript", "multiple", "parallel", "parallel_multiple"]
_EXEC = ["exec_simple", "rest", "exec_multiple", "exec_parallel", "exec_parallel_multiple"]
_LIVE_AST = [f"live_{category}" for category in _PYTHON_AST]
_TURNS = ["base", "miss_func", "miss_param", "long_context"]
CATEGORIES: dict[str, list[str]] = {
    "non_live_overall_acc": [*_AST, *_EXEC, "irrelevance"],
    "live_overall_acc": [*_LIVE_AST, "live_irrelevance", "live_relevance"],
    "multi_turn_overall_acc": [f"multi_turn_{turn}" for turn in _TURNS],
    "ast_summary_non_live": _AST,
    "exec_summary_non_live": _EXEC,
    "ast_summary_live": _LIVE_AST,
    "simple_ast_non_live": ["simple", "java", "javascript"],
    "simple_exec_non_live": ["exec_simple", "rest"],
    "python_simple_ast_non_live": ["simple"],
    "java_simple_ast_non_live": ["java"],
    "javascript_simple_ast_non_live": ["javascript"],
    "multiple_ast_non_live": ["multiple"],
    "parallel_ast_non_live": ["parallel"],
    "parallel_multiple_ast_non_live": ["parallel_multiple"],
    "python_simple_exec_non_live": ["exec_simple"],
    "rest_simple_exec_non_live": ["rest"],
    "multiple_exec_non_live": ["exec_multiple"],
    "parallel_exec_non_live": ["exec_parallel"],
    "parallel_multiple_exec_non_live": ["exec_parallel_multiple"],
    "irrelevance_detection_non_live": ["irrelevance"],
    "irrelevance_detection_live": ["live_irrelevance"],
    "relevance_detection_live": ["live_relevance"],
    **{f"python_{category}_ast_live": [f"live_{category}"] for category in _PYTHON_AST},
    **{turn: [f"multi_turn_{turn}"] for turn in _TURNS},
}
"""The categories behind each score of results.yml, averages first (the first with a value leads)."""

_SCORE_OF = {categories[0]: name for name, categories in CATEGORIES.items() if len(categories) == 1}
"""The score of results.yml that is the mean over one category, by category."""

_NO_ANSWER = "Error during inference"
_TRANSPORT = re.compile(
    r"\b5\d\d Server Error|Error code: 5\d\d|Connection ?([Ee]rror|aborted|refused)|[Tt]imed out"
)


def read_bfcl(job: Job, written: list[Metric], output: Path) -> tuple[list[Metric], list[Sample], int | None]:
    """Returns the metrics, the samples, and how many questions were to be asked.

    `written` has the scores of results.yml.

    Raises:
        EvaluationFailed: bad_result, or server_lost where questions found no server.
    """
    data = _data_folder(job)
    samples: list[Sample] = []
    sizes: dict[str, int | None] = {}
    for path in sorted(output.glob("result/*/BFCL_v3_*_result.json")):
        category = path.name.removeprefix("BFCL_v3_").removesuffix("_result.json")
        questions = _lines(data / path.name.replace("_result", "")) if data else []
        sizes[category] = len(questions) or None
        with laid_out_by("BFCL", path):
            by_id = {question["id"]: question for question in questions}
            samples += each_once(well_formed(_category_samples(category, path, by_id, data), "BFCL"), path)
    if not samples:
        raise bad_result("BFCL wrote no answers (result/*/BFCL_v3_*_result.json)")
    n_requested = _check_counts(job, samples, sizes)
    return _metrics(written, samples), samples, n_requested


def _data_folder(job: Job) -> Path | None:
    return job.runtime.package_data("bfcl/data", job.folder / "package")


def _lines(path: Path) -> list[dict[str, Any]]:
    return json_lines(path) if path.exists() else []


def _category_samples(
    category: str, path: Path, questions: dict[str, dict[str, Any]], data: Path | None
) -> list[Sample]:
    score_name = path.name.replace("_result", "_score")
    scores = _lines(path.parents[2] / "score" / path.parent.name / score_name)
    answers = _lines(path)
    if not scores or scores[0].get("total_count") != len(answers):
        counted = scores[0].get("total_count") if scores else "nothing"
        raise bad_result(f"{score_name}: counts {counted}, but {len(answers)} were answered")
    wrong = _wrong(scores[1:], answers, score_name)
    if scores[0].get("correct_count") != len(answers) - len(wrong):
        raise bad_result(
            f"{score_name}: counts {scores[0].get('correct_count')} right, and lists {len(wrong)} wrong"
        )
    for name, entry in wrong.items():
        prompt = entry.get("prompt")
        if isinstance(prompt, dict) and prompt.get("id", name) != name:
            raise bad_result(
                f"{score_name}: the answer to {name} was compared with the question {prompt['id']}"
            )
    right = _lines(data / "possible_answer" / path.name.replace("_result", "")) if data else []
    references = {entry["id"]: entry["ground_truth"] for entry in right}
    unknown = [answer["id"] for answer in answers if questions and answer["id"] not in questions]
    if unknown:
        raise bad_result(f"{path.name}: {unknown[0]} is no question of BFCL's")
    return [_sample(category, answer, questions, references, wrong) for answer in answers]


def _wrong(entries: list[dict[str, Any]], answers: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """Returns the answers that BFCL lists as wrong, by id."""
    wrong = {entry["id"]: entry for entry in entries}
    if len(wrong) != len(entries):
        raise bad_result(f"{name}: lists {len(entries)} wrong answers, of {len(wrong)} questions")
    strange = sorted(wrong.keys() - {answer["id"] for answer in answers})
    if strange:
        raise bad_result(f"{name}: lists {strange[0]} as wrong, which was not answered")
    return wrong


def _sample(
    category: str,
    answer: dict[str, Any],
    questions: dict[str, dict[str, Any]],
    references: dict[str, Any],
    wrong: dict[str, dict[str, Any]],
) -> Sample:
    name = answer["id"]
    verdict = wrong.get(name)
    question = questions.get(name) or (verdict or {}).get("prompt") or {}
    reference = references.get(name, (verdict or {}).get("possible_answer"))
    output = text_of(answer["result"])
    sample = Sample(
        native_id=name,
        task="bfcl",
        category=category,
        input=_conversation(question.get("question", [])),
        reference=text_of(reference),
        output=output,
        scores=[
            Score(
                metric=_SCORE_OF.get(category, "accuracy"),
                value=0.0 if verdict else 1.0,
                correct=verdict is None,
                explanation=_explanation(verdict) if verdict else None,
            )
        ],
        metadata={"functions": question.get("function"), "latency_s": answer.get("latency")},
    )
    if output is None:
        # BFCL takes it for an answer without a call, which may be right.
        sample.status, sample.scores[0].value, sample.scores[0].correct = "error", None, None
        sample.scores[0].explanation = f"no answer, which BFCL counted as {'wrong' if verdict else 'right'}"
    elif output.startswith(_NO_ANSWER):
        if _TRANSPORT.search(output):
            raise EvaluationFailed(ErrorClass.SERVER_LOST, f"BFCL {name}: {output[:200]}")
        sample.output, sample.status = None, "error"
        sample.scores[0].explanation = output
    elif verdict and "decoder" in str(verdict.get("error_type")) and "relevance" not in category:
        sample.status = "unparsed"
    return sample


def _explanation(verdict: dict[str, Any]) -> str:
    error = verdict.get("error")
    text = "; ".join(map(str, error)) if isinstance(error, list) else text_of(error)
    return f"{verdict.get('error_type', 'wrong')}: {text}"


def _conversation(turns: list[list[dict[str, str]]]) -> str:
    return conversation([(message["role"], message["content"]) for turn in turns for message in turn])


def _check_counts(job: Job, samples: list[Sample], sizes: dict[str, int | None]) -> int | None:
    """Returns how many questions were to be asked.

    The limit holds for all categories together, sorted by name.
    """
    limit = job.benchmark.limit
    if None in sizes.values():
        wanted = limit
    else:
        everything = sum(size for size in sizes.values() if size is not None)
        wanted = everything if limit is None else min(limit, everything)
    if wanted is not None and wanted != len(samples):
        raise bad_result(f"BFCL: {wanted} questions were asked for, and there are samples of {len(samples)}")
    named = str(job.benchmark.extra.get("task", "")).split(",")
    known = {category for categories in CATEGORIES.values() for category in categories}
    absent = sorted(known.intersection(name.strip() for name in named) - sizes.keys())
    if absent and (limit is None or len(samples) < limit):
        raise bad_result(f"BFCL: no answers in the category {absent[0]}")
    return wanted


def _metrics(written: list[Metric], samples: list[Sample]) -> list[Metric]:
    """Returns the scores of categories that ran.

    An average over some categories that ran and some that did not keeps what the harness wrote, but has no
    value: the harness counts the others as 0.
    """
    counts: dict[str, int] = {}
    for sample in samples:
        counts[sample.category or ""] = counts.get(sample.category or "", 0) + 1
    order = list(CATEGORIES)
    kept = []
    for row in written:
        categories = CATEGORIES.get(row.metric)
        if categories is None:
            raise bad_result(f"results.yml: {row.metric} is no score of BFCL v3 that is known here")
        n_items = sum(counts.get(category, 0) for category in categories)
        if n_items == 0:
            continue
        row.n_items, row.higher_is_better, row.is_group = n_items, True, len(categories) > 1
        row.subset = None if row.is_group else categories[0]
        if any(category not in counts for category in categories):
            row.value = None
        kept.append(row)
    kept.sort(key=lambda row: order.index(row.metric))
    for row in [row for row in kept if all(each in counts for each in CATEGORIES[row.metric])][:1]:
        row.is_primary = True
    return kept
