"""Checks of judges: what they judge is there, they do not judge themselves, and a jury has jurors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from slurmeval.config.judging import Judging
from slurmeval.config.messages import Problem, nearest
from slurmeval.config.models import Config

ALONE = ("of", "judge", "against", "rubric", "rubric_file", "reference", "instructions", "allow_self_judging")
"""Keys that a jury does not have: its jurors do."""


def unknown(key: tuple[str | int, ...], noun: str, name: str, known: Mapping[str, object]) -> Problem:
    """Returns the problem of a name that is none of those known."""
    return Problem(key, f"unknown {noun} '{name}'; {nearest(name, known)}")


def judging_problems(config: Config, benchmark: str, project: Path) -> Iterator[Problem]:
    """Yields what is wrong with a benchmark's section `judging`."""
    judging, place = config.benchmarks[benchmark].judging, ("benchmarks", benchmark, "judging")
    if judging is None:
        return
    labels = judging.labels
    files: list[tuple[tuple[str, ...], str | None]] = [(("rubric_file",), judging.rubric_file)]
    if labels is not None:
        files += [(("labels", "study"), labels.study), (("labels", "file"), labels.file)]
        if (labels.study is None) == (labels.file is None):
            yield Problem((*place, "labels"), "expected either study or file")
    for keys, file in files:
        if file is not None and not (project / file).is_file():
            yield Problem((*place, *keys), f"'{file}': no such file")
    if judging.jury:
        yield from _jury(config, judging, place)
        return
    if judging.of is None or judging.judge is None:
        key = "of" if judging.of is None else "judge"
        yield Problem((*place, key), "is missing")
        return
    if judging.judge not in config.models:
        yield unknown((*place, "judge"), "model", judging.judge, config.models)
    if judging.of not in config.benchmarks:
        yield unknown((*place, "of"), "benchmark", judging.of, config.benchmarks)
    elif config.benchmarks[judging.of].judging is not None:
        yield Problem((*place, "of"), f"'{judging.of}' is a judge's; answers are judged, not verdicts")
    yield from _against(config, judging, place)
    evaluated = [model for model in config.evaluated_models if model != judging.against]
    if evaluated == [judging.judge] and not judging.allow_self_judging:
        text = f"'{judging.judge}' would judge only itself: take another, or set allow_self_judging: true"
        yield Problem((*place, "judge"), text)


def _against(config: Config, judging: Judging, place: tuple[str, ...]) -> Iterator[Problem]:
    """Yields what is wrong with the model that others are compared with."""
    if judging.mode == "direct":
        if judging.against is not None:
            yield Problem((*place, "against"), "goes with mode: pairwise")
        return
    evaluated = dict.fromkeys(config.evaluated_models)
    if judging.against is None:
        yield Problem((*place, "against"), "is missing; it is the model that the others are compared with")
    elif judging.against not in config.models:
        yield unknown((*place, "against"), "model", judging.against, config.models)
    elif judging.against not in evaluated:
        yield Problem((*place, "against"), f"'{judging.against}' is not among the models that are evaluated")
    elif list(evaluated) == [judging.against]:
        yield Problem((*place, "against"), "no other model is evaluated")
    elif judging.against == judging.judge and not judging.allow_self_judging:
        text = f"'{judging.against}' would judge its own answers: take another, or allow_self_judging: true"
        yield Problem((*place, "against"), text)


def _jury(config: Config, judging: Judging, place: tuple[str, ...]) -> Iterator[Problem]:
    """Yields what is wrong with a jury."""
    for key in sorted({*ALONE} & judging.model_fields_set):
        yield Problem((*place, key), "does not go with jury: each juror has its own")
    kinds = set()
    for index, juror in enumerate(judging.jury):
        entry = config.benchmarks.get(juror)
        if entry is None:
            yield unknown((*place, "jury", index), "benchmark", juror, config.benchmarks)
        elif entry.judging is None or entry.judging.jury:
            yield Problem((*place, "jury", index), f"'{juror}' is no benchmark with a judge")
        elif juror in judging.jury[:index]:
            yield Problem((*place, "jury", index), f"'{juror}' is there twice")
        else:
            kinds.add((entry.judging.of, entry.judging.mode, entry.judging.against))
    if len(kinds) > 1:
        yield Problem((*place, "jury"), "its jurors judge different answers, or in different modes")
    if len(judging.jury) < 2:
        yield Problem((*place, "jury"), "expected two jurors or more")
