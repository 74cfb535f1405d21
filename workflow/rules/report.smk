# What all evaluations gave, in a few tables and a page.


rule aggregate:
    input:
        evaluations=[PATHS.evaluation(*pair) for pair in PLAN.evaluations],
    output:
        metrics=PATHS.all_metrics,
        evaluations=PATHS.all_evaluations,
        servers=PATHS.all_servers,
    log:
        PATHS.log("aggregate", "all"),
    conda:
        "../envs/slurmeval.yaml"
    params:
        evaluations=PLAN.evaluations_params,
    message:
        "Gathering the results of all evaluations"
    shell:
        slurmeval("aggregate")


rule report:
    input:
        rules.aggregate.output,
    output:
        page=report(
            PATHS.report / "index.html",
            category="Results",
            caption="../report/page.rst",
            labels={"result": "report"},
        ),
        chart=report(
            PATHS.report / "scores.svg",
            category="Results",
            caption="../report/chart.rst",
            labels={"result": "chart of scores"},
        ),
        scores=report(
            PATHS.report / "metrics.csv",
            category="Results",
            caption="../report/scores.rst",
            labels={"result": "all scores"},
        ),
    log:
        PATHS.log("report", "page"),
    conda:
        "../envs/slurmeval.yaml"
    params:
        report=PLAN.report_params,
    message:
        "Writing the report"
    shell:
        slurmeval("report")
