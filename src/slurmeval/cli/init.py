"""`slurmeval init`: a small project folder that takes the workflow from the installed package."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from slurmeval.cli.known_sites import FOLDER, SITES, site_here

EXAMPLE = {"repo": "Qwen/Qwen2.5-0.5B-Instruct", "revision": "7ae557604adf67be50417f59c2c2f167def9a775"}
"""Weights where none are named: a small model, at a commit."""

SNAKEFILE = """\
# The workflow of the installed slurmeval. Rules of your own may follow.
from slurmeval.project_files import DATA


include: str(DATA / "Snakefile")


rule project:
    default_target: True
    localrule: True
    input:
        rules.all.input,
"""

CONFIG = """\
# What to evaluate: `slurmeval check` says what it means, `slurmeval tasks` what else there is.
version: 1
{include}{staging}models:
  {name}:
    weights: {weights}
servers:
  default: {server}
{benchmarks}"""

EXAMPLE_BENCHMARK = """\
benchmarks:
  gsm8k: {harness: lm-eval, task: gsm8k, limit: 100, temperature: 0}
evaluate:
  benchmarks: [gsm8k]
"""

NOT_PINNED = "staging: {pinned: false} # `slurmeval stage lock` writes down which commit a branch is\n"

IGNORED = (".cache/", ".environments/", ".images/", ".snakemake/", "results/")
"""What git ignores in a project."""

SERVER_GB = 64
"""Memory of a server with GPUs in the example."""


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--site",
    type=click.Choice(SITES),
    help="Where it runs: on one machine, on any Slurm cluster, or on one that is known.  [default: the one "
    "that this is, if that can be told]",
)
@click.option("--model", help="A repository of the hub, or a folder with weights.")
@click.option("--revision", help="The repository's commit, branch or tag.  [default: main]")
@click.option(
    "--suite",
    "suites",
    multiple=True,
    help="Benchmarks of this suite (docs/tasks.md) in place of the example; may be given several times.",
)
@click.option("--gpus", type=click.IntRange(0), help="GPUs of a server.  [default: 1 on a cluster, else 0]")
def init(
    folder: Path,
    site: str | None,
    model: str | None,
    revision: str | None,
    suites: tuple[str, ...],
    gpus: int | None,
) -> None:
    """Writes a small project into FOLDER: config, site profile and Snakefile.

    The workflow, locks and suites stay in the package; a file of the same name in FOLDER takes their place.
    """
    from slurmeval.errors import UserError
    from slurmeval.files import write_atomically

    weights, of_suites = _weights(model, revision), _suites(suites)
    if site is None:
        site, reason = site_here()
        click.echo(f"site: {site} ({reason}; --site says otherwise)")
    files = {
        "Snakefile": SNAKEFILE,
        "config/config.yaml": _config(
            weights, (0 if site == "local" else 1) if gpus is None else gpus, suites, list(of_suites)
        ),
        **{f"config/{name}": text for name, text in of_suites.items()},
        ".gitignore": "".join(f"{line}\n" for line in IGNORED),
        **_profile(site),
    }
    there = [name for name in files if (folder / name).exists()]
    if there:
        raise UserError(f"{folder / there[0]}: is there already; nothing was written")
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / name, text)
        click.echo(f"wrote {folder / name}")
    edit = ", profiles/default/site.yaml" if site != "local" else ""
    click.echo(f"Next: cd {shlex.quote(str(folder))}, look at config/config.yaml{edit}, and then:")
    for command in (
        *(["slurmeval stage lock"] if _is_branch(weights) else []),
        *(["slurmeval doctor --site profiles/default"] if site != "local" else []),
        "slurmeval plan",
        "snakemake",
    ):
        click.echo(f"  {command}")


def _weights(model: str | None, revision: str | None) -> dict[str, str]:
    """Returns the entry `weights` of the config."""
    from slurmeval.errors import UserError

    if model is None:
        return EXAMPLE
    if Path(model).is_dir():
        return {"folder": str(Path(model).absolute())}
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", model):
        raise UserError(f"--model {model}: expected OWNER/NAME, as the hub has it, or a folder")
    return {"repo": model, "revision": revision or "main"}


def _is_branch(weights: dict[str, str]) -> bool:
    return "repo" in weights and re.fullmatch("[0-9a-f]{40}", weights["revision"]) is None


def _suites(names: Sequence[str]) -> dict[str, str]:
    """Returns the package's files that have these suites: text by the name that `include` gives."""
    import yaml

    from slurmeval.errors import UserError
    from slurmeval.project_files import DATA

    texts = {file.name: file.read_text("utf-8") for file in sorted(DATA.glob("config/suites/*.yaml"))}
    homes = {suite: name for name, text in texts.items() for suite in yaml.safe_load(text)["suites"]}
    if unknown := [suite for suite in names if suite not in homes]:
        raise UserError(f"--suite {unknown[0]}: no such suite; expected one of {', '.join(sorted(homes))}")
    return {f"suites/{homes[suite]}": texts[homes[suite]] for suite in names}


def _config(weights: dict[str, str], gpus: int, suites: Sequence[str], included: list[str]) -> str:
    source = weights.get("repo") or weights["folder"]
    name = re.sub(r"[^a-z0-9.-]+|\.(?=\.)", "-", Path(source).name.lower()).strip("-.") or "model"
    server = {"gpus": gpus, "memory_gb": SERVER_GB} if gpus else {}
    named = f"evaluate:\n  suites: [{', '.join(dict.fromkeys(suites))}]\n"
    return CONFIG.format(
        include=f"include: [{', '.join(included)}]\n" if included else "",
        benchmarks=named if suites else EXAMPLE_BENCHMARK,
        staging=NOT_PINNED if _is_branch(weights) else "",
        name=name,
        weights=_inline(weights),
        server=_inline(server),
    )


def _inline(values: dict[str, Any]) -> str:
    """Returns a mapping as YAML on one line."""
    import yaml

    return yaml.safe_dump(values, default_flow_style=True, sort_keys=False, width=1000).strip()


def _profile(site: str) -> dict[str, str]:
    """Returns the files of the profile that Snakemake reads by itself: what all share, and the site's."""
    from slurmeval.project_files import DATA

    profiles = DATA / "profiles"
    own = profiles / site if site in ("local", "slurm") else FOLDER / site
    shared, its = ((folder / "config.yaml").read_text() for folder in (profiles / "default", own))
    text = f"# The profile that Snakemake reads by itself.\n{_without_heading(its)}{_without_heading(shared)}"
    found = {"profiles/default/config.yaml": text}
    if site != "local":
        site_file = (own / "site.yaml").read_text()
        found["profiles/default/site.yaml"] = re.sub(r"\A# yaml-language-server:.*\n#\n", "", site_file)
    return found


def _without_heading(text: str) -> str:
    """Returns a file without the comment that it begins with."""
    return re.sub(r"\A(#.*\n)+", "", text)
