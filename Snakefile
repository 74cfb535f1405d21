# Evaluates language models: stage, serve, evaluate, aggregate, report. Start with README.md.
from snakemake.utils import min_version

min_version("9.27")


report: "workflow/report/workflow.rst"


include: "workflow/rules/plan.smk"
include: "workflow/rules/environments.smk"
include: "workflow/rules/staging.smk"
include: "workflow/rules/servers.smk"
include: "workflow/rules/evaluations.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        page=rules.report.output.page,
        tables=rules.aggregate.output,
        missing=PLAN.missing,


onstart:
    begin_run()


onsuccess:
    end_run_well()


onerror:
    report_failures()
    end_run()
