"""`slurmeval score`: stored answers against references, by metrics of texts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slurmeval.cli.naming import about_results
from slurmeval.cli.scores import aligned, printable

if TYPE_CHECKING:
    from slurmeval.results.text_scores import BenchmarkTexts

METRICS = ("bleu", "chrf", "chrf++", "ter", "rouge1", "rouge2", "rougeL")


@click.command()
@click.option("--benchmark", "benchmarks", multiple=True, required=True, help="The benchmark; also several.")
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    type=click.Choice(METRICS),
    default=("bleu", "chrf"),
    show_default=True,
    help="What to score by; may be given several times.",
)
@click.option("--model", "models", multiple=True, help="Only this one; may be given several times.")
@click.option(
    "--tokenize",
    type=click.Choice(["13a", "intl", "zh", "char", "none"]),
    default="13a",
    show_default=True,
    help="How BLEU finds words: zh for Chinese, char where no spaces are written.",
)
@click.option(
    "--test",
    type=click.Choice(["bootstrap", "randomisation"]),
    default="bootstrap",
    show_default=True,
    help="The paired test of BLEU, chrF and TER.",
)
@about_results
def score(
    benchmarks: tuple[str, ...],
    metrics: tuple[Any, ...],
    models: tuple[str, ...],
    tokenize: Any,
    test: Any,
    results: Path,
) -> None:
    """Scores stored answers against references, without a server.

    By sacrebleu's BLEU, chrF and TER, with their signatures, and ROUGE for every script; each pair of models
    is compared on the questions that both answered. Scores go to `texts` in the results' folder, and into the
    next report. docs/texts.md says what they mean.
    """
    from slurmeval.results.text_scores import score as scored
    from slurmeval.results.text_scores import write

    for benchmark in benchmarks:
        found = scored(results, benchmark, metrics, models, tokenize, test)
        for line in lines(found):
            click.echo(printable(line))
        click.echo(str(write(results, found)))


def lines(found: BenchmarkTexts) -> Iterator[str]:
    """Yields scores as lines for a terminal."""
    table = [["model", "metric", found.benchmark, "95 % interval", "n"]]
    for model in found.models:
        for each in model.scores:
            told = each.interval
            within = "–" if told is None else f"{told.low:.2f} … {told.high:.2f}"
            table.append([model.model, each.metric, f"{each.value:.2f}", within, str(each.n)])
    yield from aligned(table, 2)
    for name, signature in {each.metric: each.signature for m in found.models for each in m.scores}.items():
        yield f"{name}: {signature}"
    for model in found.models:
        if model.left_out:
            yield f"{model.model}: {model.left_out} samples without an answer or a reference are left out"
    for pair in found.compared:
        scores = pair.scores
        p = "" if pair.p_holm is None else f", p (Holm) {pair.p_holm:.3f}"
        people = "" if scores.people is None else f"; on translations, people agree in {scores.people:.0f} %"
        difference = f"{scores.difference:+.2f}".replace("-", "−")
        yield f"{scores.metric}, {pair.a} − {pair.b}: {difference} (n {pair.n}{p}, {scores.test}){people}"
