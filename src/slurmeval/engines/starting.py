"""How long the parts of an engine's start took, by the lines of its own log."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence


def start_parts(lines: Mapping[str, Sequence[str]], log: str) -> dict[str, float]:
    """Returns seconds by part; a part that the log does not tell of is left out.

    lines: by part, patterns whose group is seconds; the first that is found counts. Processes work side by
    side: of lines that differ in numbers alone the longest time counts, and those of other kinds are added.
    """
    found: dict[str, float] = {}
    for part, patterns in lines.items():
        for pattern in patterns:
            longest: dict[str, float] = {}
            for line in re.finditer(pattern, log):
                kind = re.sub(r"[\d.]+", "", line[0])
                with contextlib.suppress(ValueError):  # two processes wrote into one line
                    longest[kind] = max(longest.get(kind, 0.0), float(line[1]))
            if longest:
                found[part] = round(sum(longest.values()), 3)
                break
    return found
