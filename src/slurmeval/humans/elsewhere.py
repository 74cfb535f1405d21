"""Files for raters who use another program: Label Studio, Potato, a spreadsheet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any
from xml.sax.saxutils import quoteattr

import yaml

from slurmeval.config.study import CHOICES, CONFIDENCE, PREFERENCE, SCALE, HumanStudy
from slurmeval.humans.batch import Batch
from slurmeval.humans.formats import COMMENT, FLAGS, ITEM, RATER, SKIPPED, TEXTS

CANNOT = "cannot be rated"


def files(form: str, batch: Batch, rater: str) -> dict[str, str]:
    """Returns the texts of a rater's files by their names: `csv`, `label-studio` or `potato`."""
    items = list(_items(batch, rater))
    if form == "csv":
        return {f"{rater}.csv": _csv(batch.declared, _texts(batch), items)}
    if form == "label-studio":
        texts = _texts(batch)
        empty = dict.fromkeys(texts, "")  # Label Studio takes no task without a text that is shown
        tasks = [{"data": empty | item} for item in items]
        return {
            "label-studio.xml": _label_studio(batch.declared, texts),
            f"{rater}.label-studio.json": json.dumps(tasks, indent=1, ensure_ascii=False),
        }
    for item in items:
        item["id"] = f"{rater}/{batch.id}/{item[ITEM]}"
        item["text"] = "\n\n".join(f"{name.upper()}\n{item[name]}" for name in TEXTS if name in item)
    lines = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items)
    return {f"{rater}.potato.jsonl": lines, f"{rater}.potato.yaml": _potato(batch.declared, rater)}


def _items(batch: Batch, rater: str) -> Iterator[dict[str, Any]]:
    """Yields a rater's items as flat mappings of texts."""
    for item in batch.raters[rater]:
        shown = batch.shown(item)
        names = ("answer",) if len(shown["answers"]) == 1 else ("answer_a", "answer_b")
        texts = {"question": shown["question"]}
        if shown["choices"]:
            texts["choices"] = "\n".join(shown["choices"])
        if shown["reference"]:
            texts["reference"] = shown["reference"]
        texts |= dict(zip(names, shown["answers"], strict=True))
        yield {RATER: rater, "batch": batch.id, ITEM: item.id, "sha256": item.sha256, **texts}


def _texts(batch: Batch) -> list[str]:
    """Returns the names of the texts that any rater is shown."""
    names = {name for rater in batch.raters for item in _items(batch, rater) for name in item}
    return [name for name in TEXTS if name in names]


def _csv(study: HumanStudy, texts: list[str], items: list[dict[str, Any]]) -> str:
    stream = io.StringIO()
    names = [RATER, "batch", ITEM, *texts, *study.names, FLAGS, COMMENT, SKIPPED]
    writer = csv.DictWriter(stream, names, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: harmless(text) for name, text in item.items()} for item in items)
    return stream.getvalue()


def harmless(text: str) -> str:
    """Returns a text that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _scales(study: HumanStudy) -> Iterator[tuple[str, str, list[str]]]:
    """Yields name, question and values of each thing that is asked."""
    if study.kind == "pairwise":
        yield PREFERENCE, "Which answer is better?", list(CHOICES)
        yield CONFIDENCE, "How sure are you?", [str(grade) for grade in SCALE]
        return
    for name, dimension in study.dimensions.items():
        said = [f"{grade}: {text}" for grade, text in enumerate(dimension.grades, 1) if text]
        question = " ".join([dimension.question, *([f"({', '.join(said)})"] if said else [])])
        yield name, question, [str(grade) for grade in SCALE]


def _label_studio(study: HumanStudy, texts: list[str]) -> str:
    """Returns a labeling interface (labelstud.io/tags)."""
    about = "answer" if study.kind == "direct" else "answer_a"
    parts = ["<View>"]
    if study.guidelines:
        parts.append(f"  <Header value={quoteattr(study.guidelines)}/>")
    for name in texts:
        parts.append(f"  <Header value={quoteattr(name.replace('_', ' '))}/>")
        parts.append(f'  <Text name="{name}" value="${name}"/>')
    for name, question, values in _scales(study):
        parts.append(f"  <Header value={quoteattr(question)}/>")
        parts.append(f'  <Choices name="{name}" toName="{about}" choice="single" showInline="true">')
        parts += [f"    <Choice value={quoteattr(value)}/>" for value in values]
        parts.append("  </Choices>")
    parts.append(f'  <Choices name="{FLAGS}" toName="{about}" choice="multiple" showInline="true">')
    for flag, text in {**study.flags, SKIPPED: CANNOT}.items():
        parts.append(f"    <Choice value={quoteattr(text)} alias={quoteattr(flag)}/>")
    parts += [
        "  </Choices>",
        f'  <TextArea name="{COMMENT}" toName="{about}" maxSubmissions="1"/>',
        "</View>",
        "",
    ]
    return "\n".join(parts)


def _potato(study: HumanStudy, rater: str) -> str:
    """Returns a config of Potato (potato-annotation) for one rater's file beside it."""
    schemes: list[dict[str, Any]] = [
        {"annotation_type": "radio", "name": name, "description": question, "labels": values}
        for name, question, values in _scales(study)
    ]
    marks = {"annotation_type": "multiselect", "name": FLAGS, "labels": [*study.flags, SKIPPED]}
    told = "; ".join(f"{name}: {text}" for name, text in {**study.flags, SKIPPED: CANNOT}.items())
    schemes += [
        marks | {"description": told},
        {"annotation_type": "text", "name": COMMENT, "description": "Comment", "textarea": {"on": True}},
    ]
    config = {
        "annotation_task_name": study.title or study.name,
        "task_dir": ".",
        "data_files": [f"{rater}.potato.jsonl"],
        "item_properties": {"id_key": "id", "text_key": "text"},
        "output_annotation_dir": f"annotation_output-{rater}",
        "output_annotation_format": "jsonl",
        "annotation_schemes": schemes,
        "html_layout": "default",
        "user_config": {"allow_all_users": True, "users": []},
        "alert_time_each_instance": 10_000_000,
    }
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
