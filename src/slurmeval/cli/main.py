"""Program `slurmeval`: finds the command, runs it, and turns failures into one line and an exit status.

Commands are imported when they are used: `--help` and a lease must start within milliseconds.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Sequence

import click

from slurmeval import __version__
from slurmeval.cli.naming import spread
from slurmeval.errors import SlurmevalError, UserError
from slurmeval.variables import forget_missing_certificates, shadowing

FOR_PEOPLE = {
    "anchors": ("slurmeval.cli.anchors", "Finds a few questions that stand for all of a benchmark."),
    "benchmark": ("slurmeval.cli.benchmark", "Writes, checks and shows benchmarks of one's own."),
    "check": ("slurmeval.cli.check", "Checks config files and says what they mean."),
    "compare": ("slurmeval.cli.compare", "Compares two models on the questions that both answered."),
    "doctor": ("slurmeval.cli.doctor", "Says what this machine or cluster lacks, and what to do."),
    "export": ("slurmeval.cli.export", "Writes results in the files of another program."),
    "gate": ("slurmeval.cli.gate", "Says whether scores drop by no more than allowed."),
    "humans": ("slurmeval.cli.humans", "Has people rate stored answers, and reads what they say."),
    "images": ("slurmeval.cli.images", "Locks, pulls, verifies and removes images."),
    "import-bundles": ("slurmeval.cli.imports", "Imports results of NeMo Evaluator 0.3 and later."),
    "import-helm": ("slurmeval.cli.imports", "Imports results of HELM."),
    "init": ("slurmeval.cli.init", "Writes a small project into FOLDER."),
    "judge": ("slurmeval.cli.judge", "Shows scores by judges, and each judge's card."),
    "plan": ("slurmeval.cli.plan", "Says what a run would do and take, without running anything."),
    "prune": (
        "slurmeval.cli.upkeep",
        "Removes environments that no lock and no live run uses.",
    ),
    "rescore": ("slurmeval.cli.rescore", "Writes results anew, without a server."),
    "runs": ("slurmeval.cli.runs", "Shows every evaluation that ended well, the latest first."),
    "samples": ("slurmeval.cli.samples", "Shows questions, a model's answers, references and scores."),
    "score": ("slurmeval.cli.score", "Scores stored answers against references, without a server."),
    "show": ("slurmeval.cli.show", "Shows the leaderboard: all scores, and how sure they are."),
    "signal": ("slurmeval.cli.signal", "Orders benchmarks by signal and noise over checkpoints."),
    "stage": ("slurmeval.cli.stage", "Resolves branches; carries what is staged to other machines."),
    "status": ("slurmeval.cli.status", "Shows the run: servers, evaluations, failures."),
    "stop": ("slurmeval.cli.stop", "Stops the servers of some models, or all."),
    "tasks": ("slurmeval.cli.tasks", "Lists what can be evaluated."),
    "verify": ("slurmeval.cli.upkeep", "Checks staged weights and datasets against their manifests."),
}
FOR_RULES = {
    "aggregate": ("slurmeval.cli.jobs", "Gathers the results of all evaluations."),
    "environment": ("slurmeval.cli.jobs", "Makes a locked environment, or finds it made."),
    "evaluate": ("slurmeval.cli.jobs", "Runs one benchmark on one model and writes its results."),
    "image": ("slurmeval.cli.jobs", "Pulls an image, or finds it pulled, and verifies it."),
    "lease": ("slurmeval.cli.jobs", "Leases a model's server for an evaluation."),
    "rehearse": (
        "slurmeval.cli.jobs",
        "Rehearses a benchmark without network.",
    ),
    "report": ("slurmeval.cli.jobs", "Writes the report."),
    "stage-dataset": ("slurmeval.cli.jobs", "Stages a dataset and writes its manifest."),
    "stage-model": ("slurmeval.cli.jobs", "Stages a model's weights and writes their manifest."),
    "try-tokenizer": ("slurmeval.cli.jobs", "Loads a model's tokenizer where harnesses run."),
}
"""Module and one line of each command; the function has the command's name."""

FILE_SYSTEM_ERRNOS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN),
    *(errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP),
)
"""Errors that a file system may give at any time: it is full, read-only, or away, or refuses a path."""

INTERRUPTED_STATUS = 130
"""Exit status after Ctrl-C, as shells have it."""


class LateCommands(click.Group):
    """Imports a command's module when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the names of all commands, in the order of the help."""
        return [*FOR_PEOPLE, *FOR_RULES]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Returns the command of a name, imported now; None: there is none."""
        entry = FOR_PEOPLE.get(cmd_name) or FOR_RULES.get(cmd_name)
        if entry is None:
            return None
        command = getattr(importlib.import_module(entry[0]), cmd_name.replace("-", "_"))
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes both lists of commands without importing any."""
        for title, commands in (("Commands", FOR_PEOPLE), ("Commands the workflow runs", FOR_RULES)):
            with formatter.section(title):
                formatter.write_dl([(name, line) for name, (_, line) in commands.items()])


@click.group(cls=LateCommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="slurmeval", message="%(prog)s %(version)s")
def commands() -> None:
    """Evaluates large language models: on one machine, or on a Slurm cluster.

    A run is started by Snakemake: `snakemake --profile profiles/local --configfile FILE`. These commands
    look at it and at this machine; run them in the project folder. Those that are about a config or its
    results all take `--configfile FILE...`, as Snakemake does, and `--results FOLDER`.
    """


def main() -> None:
    """Runs the program. Exits with 0, 1 (something failed), 2 (bad input) or 130 (Ctrl-C)."""
    forget_missing_certificates(os.environ)
    status = run(sys.argv[1:] or ["--help"])
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # `slurmeval status | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(status)


def run(arguments: Sequence[str]) -> int:
    """Runs one command and returns the exit status. A failure that is foreseen is one line on stderr."""
    try:
        own = arguments if arguments[:1] == ["plan"] else spread(arguments)  # plan's options are Snakemake's
        result = commands.main(list(own), prog_name="slurmeval", standalone_mode=False, color=_colour())
    except click.Abort:
        return INTERRUPTED_STATUS
    except click.ClickException as error:
        return _fail(error.format_message(), error.exit_code)
    except UserError as error:
        return _fail(str(error), 2)
    except SlurmevalError as error:
        return _fail(str(error), 1)
    except OSError as error:
        if error.errno not in FILE_SYSTEM_ERRNOS:
            raise
        return _fail(f"{error.filename or 'a file'}: {os.strerror(error.errno or 0)}", 1)
    except ImportError as error:
        if (folders := shadowing()) is None:
            raise
        return _fail(f"{error}: PYTHONPATH puts {folders} before slurmeval's own packages: unset it", 2)
    return result if isinstance(result, int) else 0


def _colour() -> bool | None:
    """Returns whether to write in colour; None: where a terminal reads (https://no-color.org)."""
    return False if os.environ.get("NO_COLOR") else None


def _fail(text: str, status: int) -> int:
    print(f"slurmeval: {' '.join(text.split())}", file=sys.stderr)
    return status
