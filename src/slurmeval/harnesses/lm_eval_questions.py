"""Question of lm-eval, made from its lines: the prompt, the model's answer, the scores."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import operator
import os.path
import re
from collections.abc import Collection
from typing import Any

from slurmeval.harnesses import scales
from slurmeval.harnesses.base import Sample, Score
from slurmeval.harnesses.json_lines import MALFORMED
from slurmeval.harnesses.lm_eval_lines import NO_FILTER
from slurmeval.harnesses.nemo_readers.reading import text_of
from slurmeval.harnesses.scales import PROPORTION
from slurmeval.harnesses.scores import number, unquoted

NOT_MEASURED = "bypass"
"""lm-eval's metric for "nothing was scored"; its value, 999, means nothing."""
_RIGHT_OR_WRONG = re.compile(r"(.*_)?acc|acc_.*|(.*_)?exact_match|em|pass@.*|contains|pct_stereotype")
"""Metrics that say of one answer whether it is right, where they are 0 or 1."""
_INVALID = "[invalid]"
"""What a filter returns that found no answer."""
_ENDS = (0.0, 1.0)
_BITS = "bits_per_byte"
_PER_UNIT = ("word_perplexity", "byte_perplexity", _BITS)
_CHOICE = "multiple_choice"
_PASSAGES = (
    *("passage", "context", "article", "story", "paragraph", "document", "flores_passage", "document_str"),
    *("template", "template_id"),
)
"""Names under which data sets have the text that several of their questions are about."""
_SUBJECTS = ("subject", "subject_name", "category", "domain")
SUBJECT_LENGTH = 100
"""Characters of a subject's name; what is longer is a text."""
_PARTED = frozenset(_PASSAGES + _SUBJECTS)
_LIKELIHOODS = ("loglikelihood", "loglikelihood_rolling")


def sample(task: str, kind: str | None, cut: Collection[str] | None, lines: list[dict[str, Any]]) -> Sample:
    """Returns the sample of one question, with the scores of all filters.

    `kind` is the task's output_type; `cut` has the questions whose prompt was cut, None: not known.
    """
    for line in lines:
        _check(kind, line)
    first, doc = lines[0], lines[0]["doc"]
    arguments = first["arguments"]
    requests = [arguments[name] for name in _names(len(arguments))]
    made = Sample(
        native_id=str(first["doc_id"]),
        task=task,
        input=_prompt(requests[0]["arg_0"]),
        output=None,
        reference=text_of(first.get("target")),
        scores=_scores(task, first),
        metadata={"doc": doc, "doc_hash": first.get("doc_hash")},
    )
    for line in lines[1:]:
        made.scores += _scores(task, line)
    if cut is not None:
        made.cut = made.native_id in cut
    if isinstance(doc, dict) and not _PARTED.isdisjoint(doc):
        made.category, made.cluster = _subject(doc), _passage(doc)
    if kind == _CHOICE:
        _fill_choice(made, requests, first)
    elif kind in _LIKELIHOODS:
        _fill_likelihood(made, requests, first)
    else:
        _fill_answer(made, first)
    return made


def _passage(doc: dict[str, Any]) -> str | None:
    """Returns a short name of the passage or template that a question is about."""
    for name in _PASSAGES:
        if (text := doc.get(name)) not in (None, "", []):
            return hashlib.sha256(json.dumps(text).encode()).hexdigest()[:16]
    return None


def _subject(doc: dict[str, Any]) -> str | None:
    for name in _SUBJECTS:
        if isinstance(text := doc.get(name), str) and 0 < len(text) <= SUBJECT_LENGTH:
            return text
    return None


def _check(kind: str | None, line: dict[str, Any]) -> None:
    """Checks what making a sample would not fall over."""
    arguments, answered = line["arguments"], line["resps"]
    if type(answered) is not list or len(answered) != len(arguments):
        raise ValueError(f"{len(arguments)} requests, and answers to {len(answered)}")
    if type(line.get("metrics", [])) is not list:
        raise TypeError("metrics is no list")
    for answers in answered:
        if type(answers) is not list or (kind == _CHOICE and type(answers[0]) is not list):
            raise TypeError("resps is no list of lists")


@functools.cache
def _names(n: int) -> list[str]:
    return [f"gen_args_{index}" for index in range(n)]


def _likelihood(answers: list[Any]) -> float:
    """Returns the log-likelihood in the first answer to a request.

    The answer may be a list that also says whether the text is the greedy one.
    """
    answer = answers[0]
    return float(answer[0] if type(answer) is list else answer)


def _fill_choice(made: Sample, requests: list[dict[str, Any]], line: dict[str, Any]) -> None:
    """Fills in a multiple-choice sample: choices, the likeliest one as output, the right one as reference."""
    contexts = [one["arg_0"] for one in requests]
    continuations = [one["arg_1"] for one in requests]
    # acc_mutual_info asks for each choice without the question too, behind the others.
    n_choices = contexts.count(contexts[0])
    unequal = contexts if n_choices < len(contexts) else contexts[:1]
    if not {str}.issuperset(map(type, unequal + continuations)):
        raise TypeError("a choice is no text")
    made.prompts = list(map(operator.add, contexts, continuations))
    in_contexts = n_choices == 1 < len(set(contexts)) and len(set(continuations)) == 1
    if in_contexts:
        n_choices = len(contexts)
    likelihoods = [float(answers[0][0]) for answers in line["resps"][:n_choices]]
    chosen = likelihoods.index(max(likelihoods))
    choices = contexts if in_contexts else [text.strip() for text in continuations[:n_choices]]
    made.choices, made.output = choices, choices[chosen]
    made.metadata["loglikelihoods"] = likelihoods
    if in_contexts:
        made.input = _gapped(contexts, continuations[0])
        made.reference = _right_context(made, chosen)
    else:
        target = str(line["target"])
        if target.isdecimal() and int(target) < n_choices:
            made.reference = choices[int(target)]
    for score in made.scores:
        # Normalised metrics may choose another answer than the likeliest.
        score.answer = made.output if score.metric == "acc" else None


def _gapped(contexts: list[str], continuation: str) -> str:
    """Returns the question of a task whose choices stand before one and the same text (WinoGrande).

    It is what all choices begin with, a gap, and that text.
    """
    shared = os.path.commonprefix(contexts)  # noqa: RUF071 (they are no paths)
    if shared and not shared[-1].isspace():
        shared = shared[: -len(shared.rsplit(None, 1)[-1])]
    return f"{shared}_{continuation}"


def _right_context(made: Sample, chosen: int) -> str | None:
    """Returns the right one of two contexts, by whether the likelier one is right.

    The target that lm-eval writes is the text that follows all contexts: of more than two the right one is
    unknown.
    """
    right = next((score.correct for score in made.scores if score.metric == "acc"), None)
    if right is None or len(made.choices or ()) != 2:
        return None
    return (made.choices or [])[chosen if right else 1 - chosen]


def _fill_likelihood(made: Sample, requests: list[dict[str, Any]], line: dict[str, Any]) -> None:
    """Fills in a sample whose text was scored.

    There is no output, unless the model would have written the same.
    """
    made.metadata["loglikelihoods"] = [_likelihood(answers) for answers in line["resps"]]
    if "arg_1" in requests[0]:
        made.prompts = [one["arg_0"] + one["arg_1"] for one in requests]
        if all(str(answers[0][-1]) == "True" for answers in line["resps"]):
            made.output = requests[0]["arg_1"].strip()


def _fill_answer(made: Sample, line: dict[str, Any]) -> None:
    """Fills in a generated sample: the first answer as output, and whether it could be read."""
    responses = [text_of(answer) for answers in line["resps"] for answer in answers]
    made.output = responses[0] if responses else None
    if len(responses) > 1:
        made.metadata["responses"] = responses
    if made.output is None:
        made.status = "error"
    elif made.scores and {score.answer for score in made.scores} == {_INVALID}:
        made.status = "unparsed"


def _scores(task: str, line: dict[str, Any]) -> list[Score]:
    name = line.get("filter", NO_FILTER)
    of_filter = None if name == NO_FILTER else name
    filtered = line.get("filtered_resps") or [None]
    answer = filtered[0] if isinstance(filtered[0], str) else None
    scores = []
    for metric, scale, says_right in _measured(task, tuple(line.get("metrics", ()))):
        raw = line.get(metric)
        if type(raw) is float and scale == PROPORTION and 0.0 <= raw <= 1.0:
            value: float | None = raw  # as nearly all are
        else:
            raw = unquoted(raw)
            value = _value(metric, raw, scale)
        correct = value == 1.0 if (says_right or type(raw) is bool) and value in _ENDS else None
        scores.append(Score(metric, value, of_filter, correct, answer))
    return scores


@functools.cache
def _measured(task: str, metrics: tuple[str, ...]) -> list[tuple[str, int | None, bool]]:
    """Returns the metrics that were measured, with their scale and whether a 1 means a right answer."""
    return [
        (metric, scales.scale(task, metric, metrics), _RIGHT_OR_WRONG.fullmatch(metric) is not None)
        for metric in metrics
        if metric != NOT_MEASURED
    ]


def _value(metric: str, raw: Any, scale: int | None) -> float | None:
    """Returns the score of one sample: 0 to 1 where the metric is a proportion, else on its own scale.

    Of perplexities lm-eval writes the log-likelihood, and the number of words or bytes.
    """
    if metric in _PER_UNIT and isinstance(raw, list):
        likelihood, units = map(unquoted, raw)
        per_unit = -likelihood / units if units else math.nan
        return _finite_exp(per_unit) if metric != _BITS else number(per_unit / math.log(2))
    if metric == "perplexity":
        likelihood = number(raw)
        return None if likelihood is None else _finite_exp(-likelihood)
    value = float(raw) if isinstance(raw, bool) else number(raw)
    if value is None or scale is None:
        return value
    # -1: a question that does not count (NVIDIA's means of what is not negative).
    return None if value == -1 else value / scale


def _finite_exp(exponent: float) -> float | None:
    try:
        return number(math.exp(exponent))
    except OverflowError:
        return None


def _prompt(argument: Any) -> str:
    """Returns the prompt as a person reads it: lm-eval wraps chats as JSON in a list."""
    text = argument[0] if isinstance(argument, list) and argument else argument
    if not isinstance(text, str):
        return json.dumps(text, ensure_ascii=False)
    if not text.startswith("[{"):
        return text
    try:
        messages = [(message["role"], message.get("content")) for message in json.loads(text)]
    except MALFORMED:
        return text
    if len(messages) == 1:
        return str(messages[0][1])
    return "\n\n".join(f"{role}: {content}" for role, content in messages)
