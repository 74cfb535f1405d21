"""Turns data into HTML.

Whatever a model or a harness wrote stays text: templates escape everything, the page's policy lets only its
own script and style run, and no data is in a script but as base64.
"""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from slurmeval.wording import p_value, signed

MAX_TEXT = 20_000
"""Characters of one field on a sample page; longer ones are cut, with a note of how many are left out."""

# Characters that are invisible, or reorder the text around them.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\U000e0000-\U000e007f]"
)


_SCRIPTS = {"samples.html.j2": "samples.js", "rate.html.j2": "rate.js"}
"""Scripts of pages; the others have `page.js`."""


def render(template: str, **values: Any) -> str:
    """Returns a page from `templates/<template>`."""
    name = _SCRIPTS.get(template, "page.js")
    script, style = asset(name), asset("style.css")
    # Its further scripts lie beside the page
    loading = " 'self' file:" if template == "samples.html.j2" else ""
    policy = (
        f"default-src 'none'; style-src {_source(style)}; script-src {_source(script)}{loading}; "
        "base-uri 'none'; form-action 'none'"
    )
    own = {"script": Markup(script), "style": Markup(style), "policy": Markup(policy)}
    return _environment().get_template(template).render(**own, **values)


def fragment(template: str, **values: Any) -> Markup:
    """Returns a part of a page from `templates/<template>`."""
    return Markup(_environment().get_template(template).render(**values))


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("slurmeval.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        visible=visible,
        shortened=shortened,
        number=number,
        score=score,
        signed=signed,
        p_value=p_value,
        duration=duration,
        hours=hours,
        share=share,
        moment=moment,
        size=size,
        href=href,
    )
    return environment


@cache
def asset(name: str) -> str:
    """Returns a file of `templates/`, as it stands."""
    return (resources.files("slurmeval.report") / "templates" / name).read_text(encoding="utf-8")


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def visible(text: str | None) -> str:
    """Returns text with control and direction characters shown as `⟨U+202E⟩`, so that they do not act."""
    normal = (text or "").replace("\r\n", "\n")
    return _UNSEEN.sub(lambda match: f"⟨U+{ord(match[0]):04X}⟩", normal)


def shortened(text: str | None, limit: int = MAX_TEXT) -> str:
    """Returns `visible` text of at most `limit` characters, and a note of what is left out."""
    text = text or ""
    if len(text) <= limit:
        return visible(text)
    return f"{visible(text[:limit])}\n⟨{len(text) - limit} more characters in the samples table⟩"


def href(*segments: str) -> str:
    """Returns a relative link. Each segment is quoted: a file name cannot become a path or a scheme."""
    return "/".join(segment if segment == ".." else quote(segment, safe="") for segment in segments)


def score(value: float | None, digits: int = 3) -> str:
    """Returns a score or its error with fixed digits, so that columns line up."""
    return "–" if value is None else f"{value:.{digits}f}"


def number(value: float | None) -> str:
    """Returns a count or quantity with thin spaces between thousands."""
    if value is None:
        return "–"
    text = f"{value:,.0f}" if abs(value) >= 100 or float(value).is_integer() else f"{value:.1f}"
    return text.replace(",", "\u2009")


def duration(seconds: float | None) -> str:
    """Returns a time span for a reader; a dash if it is not known."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def hours(seconds: float | None) -> str:
    """Returns a sum of times in its largest unit, so that the figures of a column can be compared."""
    if seconds is None:
        return "–"
    if seconds >= 3600:
        return f"{seconds / 3600:,.1f} h".replace(",", "\u2009")
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.1f} s"


def share(part: float, whole: float) -> str:
    """Returns a part in per cent; nothing if there is no whole."""
    return f"{100 * part / whole:.0f} %" if whole > 0 else ""


def moment(time: datetime | None) -> str:
    """Returns a time in UTC, to the second; a dash if it is not known."""
    return "–" if time is None else time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def size(n_bytes: int | None) -> str:
    """Returns a number of bytes for a reader; a dash if it is not known."""
    if n_bytes is None:
        return "–"
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= factor:
            return f"{n_bytes / factor:.1f} {unit}"
    return f"{n_bytes} B"
