"""Which flags and variables of an engine a config may set, and where.

What a server has (`servers.<id>`) alters no answer, so it is no part of the key under which answers are kept.
A list of what is known to be harmless says what may stand there; what is new in a later version is refused
until it is known. What a model has (`models.<id>`) is part of that key, and may be anything but what
slurmeval sets itself: engines take the last of two equal flags, and nobody would notice.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True)
class FlagRules:
    """What is known of an engine's flags and variables."""

    engine: str
    """The engine's name, for messages."""
    ours: Mapping[str, str | None] = field(default_factory=dict)
    """Set by slurmeval, each with the key of the config that says it."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Never to be set, and why."""
    harmless: frozenset[str] = frozenset()
    """Alter no answer."""
    short: Mapping[str, str] = field(default_factory=dict)
    """Short forms, as `tp`, of which flag."""
    names: frozenset[str] = frozenset()
    """All of them."""
    reasoning_parsers: frozenset[str] = frozenset()
    """Known names of `models.<id>.reasoning.parser`."""
    quantizations: frozenset[str] = frozenset()
    """Known names of `models.<id>.quantization`."""
    shares: tuple[str, ...] = ()
    """Flags that take a share of a device's memory, 0 to 1."""
    counts: tuple[str, ...] = ()
    """Flags that take a whole number from 1."""
    our_variables: tuple[str, ...] = ()
    """Variables that slurmeval sets."""
    variables: re.Pattern[str] = re.compile("")
    """Matches the variables that may alter answers, unless `harmless_variables` does too."""
    harmless_variables: re.Pattern[str] = re.compile("(?!)")

    @classmethod
    def from_file(cls, engine: str, file: Path, **further: Any) -> FlagRules:
        """Returns the rules in a YAML file with the keys of `vllm_flags.yaml`; `further` fields are given."""
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        harmless = frozenset(content["harmless"] + content["harmless_before"])
        names = harmless.union(content["ours"], content["refused"], content["other"])
        return cls(
            engine,
            content["ours"],
            content["refused"],
            harmless,
            content["short"],
            names,
            frozenset(content["reasoning_parsers"]),
            frozenset(content["quantizations"]),
            **further,
        )


def canonical(name: str) -> str:
    """Returns a flag as rules name it: `max-model-len` for `max_model_len`."""
    first, dot, inner = name.partition(".")
    return first.replace("_", "-") + dot + inner


def flag_problems(rules: FlagRules, flags: Collection[str], *, of_model: bool) -> Iterator[tuple[str, str]]:
    """Yields each flag that may not stand among a model's or a server's, with the reason."""
    seen: dict[str, str] = {}
    for given in flags:
        name = canonical(given).partition(".")[0]
        other = seen.setdefault(canonical(given), given)
        problem = _named_otherwise(rules, name) or (None if of_model else _not_harmless(rules, name))
        if problem is None and other != given:
            problem = f"is the same flag as {other}"
        if problem is not None:
            yield given, problem


def _named_otherwise(rules: FlagRules, name: str) -> str | None:
    """Returns what is wrong with a flag wherever it stands; None: nothing."""
    bare = name.lstrip("-")
    bare = rules.short.get(bare, bare)
    positive = bare.removeprefix("no-")
    said = bare if bare in rules.ours or bare in rules.refused else positive
    if said in rules.refused:
        return f"cannot be set: {rules.refused[said]}"
    if said in rules.ours:
        key = rules.ours[said]
        return f"{said} belongs to {key}" if key else f"slurmeval sets {said} itself"
    if bare != name:
        return f"write it as {bare}"
    if bare not in rules.names and positive not in rules.names:
        longer = sorted(flag for flag in rules.names if positive and flag.startswith(positive))
        if longer:  # argparse would take an abbreviation for the flag itself
            more = ", …" if len(longer) > 3 else ""
            return f"no flag of {rules.engine}; in full it may be: {', '.join(longer[:3])}{more}"
    return None


def _not_harmless(rules: FlagRules, name: str) -> str | None:
    if name in rules.harmless or name.removeprefix("no-") in rules.harmless:
        return None
    near = [] if name in rules.names else difflib.get_close_matches(name, rules.harmless, n=1, cutoff=0.8)
    hint = f" (or did you mean {near[0]}?)" if near else ""
    return f"may alter answers; put it into models.<id>.flags{hint}"


def misspelt(rules: FlagRules, given: str, names: Collection[str]) -> str | None:
    """Returns what is wrong with a name that is nearly one of `names`.

    None where it is one, or far from all: another version may have it.
    """
    if given in names:
        return None
    plain = {re.sub(r"[-_.]", "", name).lower(): name for name in names}
    near = plain.get(re.sub(r"[-_.]", "", given).lower())
    found = [near] if near else difflib.get_close_matches(given, sorted(names), n=1, cutoff=0.8)
    return f"'{given}' is not known to {rules.engine}; did you mean '{found[0]}'?" if found else None


def value_problems(rules: FlagRules, flags: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Yields each flag whose value the engine would refuse only once the server runs, with the reason."""
    for name, value in flags.items():
        number = value if isinstance(value, int | float) and not isinstance(value, bool) else None
        if canonical(name) in rules.shares and (number is None or not 0 < number <= 1):
            yield name, f"{value!r} is no share; expected a number above 0, at most 1"
        elif canonical(name) in rules.counts and (not isinstance(number, int) or number < 1):
            yield name, f"{value!r} is no count; expected a whole number, at least 1"


def variable_problems(
    rules: FlagRules, names: Collection[str], *, of_model: bool
) -> Iterator[tuple[str, str]]:
    """Yields each environment variable that may not stand among a model's or a server's, with the reason."""
    for name in names:
        if name in rules.our_variables:
            yield name, "slurmeval sets it itself"
        elif not of_model and rules.variables.match(name) and not rules.harmless_variables.match(name):
            yield name, "may alter answers; put it into models.<id>.env"
