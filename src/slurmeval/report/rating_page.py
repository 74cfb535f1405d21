"""The page that a rater fills in: one HTML file, without a server or a network."""

from __future__ import annotations

import base64
import json
from typing import Any

from slurmeval.config.study import CONFIDENCE, PREFERENCE
from slurmeval.humans.batch import Batch
from slurmeval.humans.formats import PAGE_FORMAT
from slurmeval.report import rendering

TEMPLATE = "rate.html.j2"


def page(batch: Batch, rater: str) -> str:
    """Returns a rater's page. It holds no model's name, and neither the key nor anybody else's ratings."""
    study = batch.declared
    title = study.title or study.name
    content = {
        "format": PAGE_FORMAT,
        "batch": batch.id,
        "key_sha256": batch.sha256,
        "rater": rater,
        "kind": study.kind,
        "scales": _scales(batch),
        "flags": [{"name": name, "text": rendering.visible(text)} for name, text in study.flags.items()],
        "items": [
            {"item": item.id, "sha256": item.sha256, **_visible(batch.shown(item))}
            for item in batch.raters[rater]
        ],
    }
    data = base64.b64encode(json.dumps(content, ensure_ascii=False).encode()).decode()
    return rendering.render(TEMPLATE, title=title, rater=rater, study=study, data=data)


def _scales(batch: Batch) -> list[dict[str, Any]]:
    """Returns what is asked of each item: name, question, and the words beside each value."""
    study = batch.declared
    if study.kind == "direct":
        return [
            {
                "name": name,
                "question": rendering.visible(dimension.question),
                "values": [
                    {"value": grade, "key": str(grade), "text": rendering.visible(text)}
                    for grade, text in enumerate(dimension.grades, 1)
                ],
            }
            for name, dimension in study.dimensions.items()
        ]
    choices = [("A", "a", "answer A"), ("B", "b", "answer B"), ("tie", "t", "no difference")]
    sure = ["a guess", "", "fairly sure", "", "certain"]
    return [
        {
            "name": PREFERENCE,
            "question": "Which answer is better?",
            "values": [{"value": value, "key": key, "text": text} for value, key, text in choices],
        },
        {
            "name": CONFIDENCE,
            "question": "How sure are you?",
            "values": [
                {"value": grade, "key": str(grade), "text": text} for grade, text in enumerate(sure, 1)
            ],
        },
    ]


def _visible(shown: dict[str, Any]) -> dict[str, Any]:
    """Returns texts in which characters that act show themselves."""
    return {
        "question": rendering.visible(shown["question"]),
        "choices": shown["choices"] and [rendering.visible(each) for each in shown["choices"]],
        "reference": shown["reference"] and rendering.visible(shown["reference"]),
        "answers": [rendering.visible(each) for each in shown["answers"]],
    }
