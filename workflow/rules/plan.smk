# The config, checked before anything is planned, and what all rules call.
import shlex
import sys

from slurmeval.errors import UserError
from slurmeval.planning.resources import evaluation_resources, evaluation_threads
from slurmeval.workflow.snakefile import Workflow

try:
    RUN = Workflow(workflow)
    RUN_FILE = str(RUN.plan.run_file)  # what jobs read
except UserError as error:
    sys.exit(f"slurmeval: {error}")

PLAN, PATHS = RUN.plan, RUN.plan.paths


def slurmeval(command):
    """Returns the shell command of a rule: slurmeval's `command` on this run, its output shown and logged."""
    name, _, arguments = command.partition(" ")
    program = f"{RUN.program} {name} {shlex.quote(RUN_FILE)}".replace(
        "{", "{{"
    ).replace("}", "}}")
    return f"{program} {arguments} 2>&1 | tee -i {{log:q}}"


def begin_run():
    try:
        RUN.begin()
    except UserError as error:
        sys.exit(f"slurmeval: {error}")


def end_run_well():
    try:
        RUN.end_well()
    except UserError as error:
        sys.exit(f"slurmeval: {error}")


end_run = RUN.end
report_failures = RUN.report_failures


wildcard_constraints:
    model="[A-Za-z0-9_.-]+",
    judge="[A-Za-z0-9_.-]+",
    benchmark="[A-Za-z0-9_.-]+",
    dataset="[A-Za-z0-9_.-]+",
    environment="[A-Za-z0-9_.-]+",
    image="[A-Za-z0-9_.-]+",
    key="[0-9a-f]+",


localrules:
    all,
    environment,
    image,
    stage_model,
    stage_dataset,
    rehearse,
    try_tokenizer,
    staged,
    aggregate,
    report,
