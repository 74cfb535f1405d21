"""Runs of HELM (crfm-helm), as `helm-run` leaves them: a folder for each, with four files.

`run_spec.json` says what was asked of which model, `scenario_state.json` has every request with its instance
and answer, `per_instance_stats.json` the scores of each instance, `stats.json` their means, over instances
and then over trials. Source: `RunSpec`, `ScenarioState`, `PerInstanceStats`, `Stat` in crfm-helm 0.5.16.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from slurmeval.errors import UserError
from slurmeval.files import sha256_of_file
from slurmeval.harnesses import scales
from slurmeval.harnesses.base import HarnessOutput, Metric, Sample, Score
from slurmeval.harnesses.nemo_bundles import Bundle
from slurmeval.harnesses.nemo_readers.reading import json_value, laid_out_by, mean_of
from slurmeval.harnesses.sample_checks import each_once, well_formed
from slurmeval.harnesses.scores import bad_result, mark_primary, number, proportion

HARNESS = "helm"
FILES = ("run_spec.json", "scenario_state.json", "per_instance_stats.json", "stats.json")
GROUPS = Path(__file__).with_name("helm_groups.yaml")
_OF_THE_MODEL = ("model", "model_deployment")
_BOOKKEEPING = re.compile(
    r"num_.*|max_num_.*|inference_.*|training_.*|finish_reason_.*|batch_size|prompt_truncated|logprob.*|max_prob"
    r"|estimated_num_tokens_cost|.*_runtime"
)
_VERDICTS = re.compile(r".*(exact_match|accuracy|equiv|correctness|pass)(_.*)?")
"""Scores of an instance that are right or wrong where they are 1 or 0."""
_PROPORTIONS = re.compile(
    r"((chr_f|bleu|rouge|ndcg|rr|recall|success|squad).*|.*(f1|frac|equiv|correctness|_match|refusal_rate)(_.*)?"
    r"|final_number_exact_match|exact_match_indicator|.*_accuracy|accuracy|pass)",
    re.IGNORECASE,
)
"""HELM's own names: BLEU and ROUGE are 0 to 1 there."""
_Key = tuple[str, int]


def find(place: Path) -> list[Path]:
    """Returns the runs in a folder (a run, a suite, or `benchmark_output`), each by its run_spec.json.

    Raises:
        UserError: There is none.
    """
    if not place.is_dir():
        raise UserError(f"{place}: no such folder")
    found = sorted(place.rglob(FILES[0]))
    if not found:
        raise UserError(f"{place}: no {FILES[0]} in it; expected what helm-run writes, such as runs/<suite>")
    for spec in found:
        if lacking := [name for name in FILES[1:] if not spec.with_name(name).is_file()]:
            raise UserError(f"{spec.parent}: has no {' and no '.join(lacking)}: the run did not end")
    return found


def read(spec_file: Path) -> Bundle:
    """Reads a run.

    Raises:
        EvaluationFailed: Something is not laid out as HELM writes it, or samples and scores are not of the
            same instances (bad_result).
    """
    folder = spec_file.parent
    spec, state, per_instance, stats = (json_value(folder / name) for name in FILES)
    with laid_out_by("HELM", spec_file):
        name, adapter, groups = str(spec["name"]), spec["adapter_spec"], list(spec.get("groups") or [])
        model, trials = str(adapter["model"]), operator.index(adapter["num_train_trials"])
        task = name.partition(":")[0]
        known = {"task": task, **_known(spec, adapter), "ended_at": _ended(folder, state)}
    with laid_out_by("HELM", folder / FILES[1]):
        split = _split(state["request_states"], groups)
        perturbed = any(each["instance"].get("perturbation") for each in state["request_states"])
        asked = list(_requests(state["request_states"], split))
    with laid_out_by("HELM", folder / FILES[2]):
        scores = _by_instance(per_instance, split)
        _same_instances(folder, {_key(each) for each in asked}, set(scores))
        samples = _samples(task, asked, scores)
    with laid_out_by("HELM", folder / FILES[3]):
        # HELM writes scores of perturbed instances also where there are none
        own = [stat for stat in stats if perturbed or stat["name"].get("perturbation") is None]
        metrics = list(_metrics(task, own, split, samples, trials))
    if not metrics:
        raise bad_result(f"{folder / FILES[3]}: has no score of the split {split}")
    _lead(metrics, task, groups)
    leading = {each.metric for each in metrics if each.is_primary}
    metrics = [each for each in metrics if each.subset is None or each.metric in leading]
    each_once(well_formed(samples, "HELM"), folder / FILES[1])
    identity = {"run_id": name} | {f"{file}_sha256": sha256_of_file(folder / file) for file in FILES}
    known["parameters"] = {"bundle": identity, "config": {"model": model, "run_spec": spec, "split": split}}
    output = HarnessOutput(metrics, samples, len(samples), "crfm-helm", None)
    return Bundle(spec_file, identity, _benchmark(name), model, output, known)


@cache
def _groups() -> tuple[dict[str, tuple[str, str]], frozenset[str]]:
    """Returns score and split that lead a group, and the scores of which less is better."""
    content = yaml.safe_load(GROUPS.read_text("utf-8"))
    main = {group: tuple(lead.rsplit("@", 1)) for lead, groups in content["main"].items() for group in groups}
    return main, frozenset(content["lower_is_better"])


def _benchmark(name: str) -> str:
    """Returns a run's name without its model: `mmlu:subject=anatomy` of `mmlu:subject=anatomy,model=…`."""
    task, _, rest = name.partition(":")
    kept = [part for part in rest.split(",") if part and part.partition("=")[0] not in _OF_THE_MODEL]
    return f"{task}:{','.join(kept)}" if kept else task


def _known(spec: dict[str, Any], adapter: dict[str, Any]) -> dict[str, Any]:
    return {
        "attempt": 1,
        "started_at": None,
        "harness": HARNESS,
        "endpoint": None,
        "limit": adapter.get("max_eval_instances"),
        "few_shot": adapter.get("max_train_instances"),
        "n_repeats": operator.index(adapter["num_train_trials"]),
        "temperature": number(adapter.get("temperature")),
        "max_tokens": adapter.get("max_tokens"),
    }


def _ended(folder: Path, state: dict[str, Any]) -> datetime:
    """Returns when the last request was answered; where none says so, when the file was written."""
    times = [(each.get("result") or {}).get("request_datetime") for each in state["request_states"]]
    last = max((time for time in times if isinstance(time, int)), default=None)
    return datetime.fromtimestamp((folder / FILES[1]).stat().st_mtime if last is None else last, UTC)


def _split(states: list[dict[str, Any]], groups: list[str]) -> str:
    """Returns the split that HELM reports: the group's, else `test`, else the only one."""
    there = {each["instance"].get("split") for each in states}
    wanted = [_groups()[0][group][1] for group in groups if group in _groups()[0]]
    found = [split for split in (*wanted, "test", "valid") if split in there]
    if not found:
        raise bad_result(f"{FILES[1]}: has no request in the splits test and valid")
    return found[0]


def _requests(states: list[dict[str, Any]], split: str) -> Iterator[dict[str, Any]]:
    """Yields the requests of a split's own instances: no perturbed one, and no calibration of choices."""
    for each in states:
        instance = each["instance"]
        own = instance.get("split") == split and instance.get("perturbation") is None
        if own and each.get("request_mode") != "calibration":
            yield each


def _key(request: dict[str, Any]) -> _Key:
    return str(request["instance"]["id"]), operator.index(request["train_trial_index"])


def _by_instance(entries: list[dict[str, Any]], split: str) -> dict[_Key, list[dict[str, Any]]]:
    found: dict[_Key, list[dict[str, Any]]] = {}
    for entry in entries:
        if entry.get("perturbation") is None:
            key = str(entry["instance_id"]), operator.index(entry["train_trial_index"])
            own = [stat for stat in entry["stats"] if stat["name"].get("split") in (split, None)]
            if own:
                found.setdefault(key, []).extend(own)
    return found


def _same_instances(folder: Path, asked: set[_Key], scored: set[_Key]) -> None:
    if asked != scored:
        (name, trial), *more = sorted(asked ^ scored)
        rest = f" and {len(more)} more" if more else ""
        where = FILES[1] if (name, trial) in asked else FILES[2]
        raise bad_result(f"{folder}: instance {name}, trial {trial},{rest} are in {where} only")


def _samples(
    task: str, asked: list[dict[str, Any]], scores: dict[_Key, list[dict[str, Any]]]
) -> list[Sample]:
    """Returns one sample for each instance and trial; choices that are asked one by one make one."""
    by_key: dict[_Key, list[dict[str, Any]]] = {}
    for each in asked:
        by_key.setdefault(_key(each), []).append(each)
    return [_sample(task, key, requests, scores[key]) for key, requests in by_key.items()]


def _sample(task: str, key: _Key, requests: list[dict[str, Any]], stats: list[dict[str, Any]]) -> Sample:
    first = requests[0]
    instance, options = first["instance"], first.get("output_mapping")
    references = instance.get("references") or []
    right = [one["output"]["text"] for one in references if "correct" in one["tags"]]
    separate = first.get("reference_index") is not None
    result = first.get("result") or {}
    completions = result.get("completions") or []
    answered = all((each.get("result") or {}).get("completions") for each in requests)
    texts = [one["output"]["text"] for one in references]
    notes = {"error": result.get("error"), "sub_split": instance.get("sub_split")}
    return Sample(
        native_id=key[0],
        repeat_idx=key[1],
        task=task,
        input=instance["input"]["text"],
        output=completions[0]["text"] if completions and not separate else None,
        reference=" | ".join(right) or None,
        choices=texts if separate else [str(text) for text in options.values()] if options else None,
        scores=list({score.metric: score for stat in stats if (score := _score(stat)) is not None}.values()),
        status="ok" if answered else "error",
        cut=bool(first.get("prompt_truncated")),
        metadata={"prompt": first["request"]["prompt"]}
        | {name: value for name, value in notes.items() if value is not None},
    )


def _score(stat: dict[str, Any]) -> Score | None:
    name = stat["name"]["name"]
    if _BOOKKEEPING.fullmatch(name) or not stat.get("count"):
        return None
    mean = mean_of(stat)
    right = bool(mean) if mean in (0.0, 1.0) and _VERDICTS.fullmatch(name) else None
    return Score(metric=name, value=mean, correct=right)


def _metrics(
    task: str, stats: list[dict[str, Any]], split: str, samples: list[Sample], trials: int
) -> Iterator[Metric]:
    """Yields the means over all instances, then those over perturbed ones (`subset`)."""
    lower = _groups()[1]
    scored = {
        name: {each.native_id for each in samples for score in each.scores if score.metric == name}
        for name in {score.metric for each in samples for score in each.scores}
    }
    seen = set()  # two metric specs may give one score twice
    for stat in sorted(stats, key=lambda stat: stat["name"].get("perturbation") is not None):
        name, perturbation = stat["name"]["name"], stat["name"].get("perturbation")
        of_split = stat["name"].get("split") == split and stat["name"].get("sub_split") is None
        if not of_split or _BOOKKEEPING.fullmatch(name) or not stat.get("count"):
            continue
        mean, scale = mean_of(stat), _scale(task, name)
        of = None if perturbation is None else f"{perturbation['name']} ({perturbation['computed_on']})"
        if (name, of) in seen:
            continue
        seen.add((name, of))
        yield Metric(
            task=task,
            metric=name,
            subset=of,
            value=proportion(mean, scale),
            harness_value=mean,
            harness_scale=scale,
            n_items=len(scored.get(name, ())) or None if of is None else None,
            n_repeats=trials,
            higher_is_better=name not in lower,
        )


def _scale(task: str, name: str) -> int | None:
    return 1 if _PROPORTIONS.fullmatch(name) else scales.scale(task, name)


def _lead(metrics: list[Metric], task: str, groups: list[str]) -> None:
    """Marks the score that HELM's leaderboard shows for the group, or what leads by its name."""
    for group in groups:
        name = _groups()[0].get(group, ("", ""))[0]
        own = [each for each in metrics if each.metric == name and each.subset is None]
        if own:
            own[0].is_primary = True
            return
    mark_primary([each for each in metrics if each.subset is None], task)


__all__ = ["FILES", "HARNESS", "find", "read"]
