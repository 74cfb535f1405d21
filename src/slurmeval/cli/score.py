"""`slurmeval score`: stored answers against references, by metrics of texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slurmeval.cli.naming import about_results
from slurmeval.cli.scores import aligned, printable
from slurmeval.errors import UserError
from slurmeval.progress import to_stderr

if TYPE_CHECKING:
    from slurmeval.results.text_scores import BenchmarkTexts, Embedded

METRICS = ("bleu", "chrf", "chrf++", "ter", "rouge1", "rouge2", "rougeL", "bertscore", "similarity")


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
@click.option(
    "--embedding-model",
    metavar="MODEL",
    help="Of bertscore and similarity: a folder with weights, or owner/name as staged in HF_HOME.",
)
@click.option(
    "--layer", type=click.IntRange(min=0), help="Of bertscore: whose tokens are matched.  [default: the last]"
)
@click.option(
    "--baseline",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Of bertscore: bert-score's file for this model, LAYER,P,R,F, to rescale by.",
)
@about_results
def score(
    benchmarks: tuple[str, ...],
    metrics: tuple[Any, ...],
    models: tuple[str, ...],
    tokenize: Any,
    test: Any,
    embedding_model: str | None,
    layer: int | None,
    baseline: Path | None,
    results: Path,
) -> None:
    """Scores stored answers against references, without a server.

    By sacrebleu's BLEU, chrF and TER, with their signatures, ROUGE for every script, and by an embedding
    model of yours BERTScore and similarity, in a locked environment; each pair of models is compared on the
    questions that both answered. Scores go to `texts` in the results' folder, and into the
    next report. docs/texts.md says what they mean.
    """
    from slurmeval.results.text_scores import EMBEDDED, write
    from slurmeval.results.text_scores import score as scored

    wanted = [metric for metric in metrics if metric in EMBEDDED]
    embedded = _embedded(wanted, embedding_model, layer, baseline)
    for benchmark in benchmarks:
        found = scored(results, benchmark, metrics, models, tokenize, test, embedded)
        for line in lines(found):
            click.echo(printable(line))
        click.echo(str(write(results, found)))


def _embedded(
    metrics: Sequence[str], name: str | None, layer: int | None, baseline: Path | None
) -> Embedded | None:
    """Returns what scores answers by a model; None: no metric needs one. Raises UserError."""
    from slurmeval.config.models import Staging
    from slurmeval.paths import hf_home
    from slurmeval.texts.embedding import EmbeddingModel, found_model, of_answers, read_baseline

    if not metrics:
        if name or layer is not None or baseline:
            raise UserError("--embedding-model, --layer, --baseline go with bertscore and similarity")
        return None
    if name is None:
        raise UserError(f"--metric {metrics[0]} needs --embedding-model: a folder, or a model in HF_HOME")
    if baseline is not None and layer is None:
        raise UserError("--baseline needs --layer: each layer has its own")
    staging, project = Staging(), Path.cwd()
    weights = found_model(name, hf_home(staging.hf_home, project))
    base = None if baseline is None or layer is None else read_baseline(baseline, layer)
    model = EmbeddingModel(name, weights, layer, base)
    environments = project / staging.environments
    return lambda metric, answers: of_answers(metric, model, answers, environments, to_stderr)


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
