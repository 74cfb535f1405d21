# The unit that is fanned out, fails, is rerun and is reported: one benchmark on one model.


rule evaluate:
    input:
        lease=lambda wildcards: ancient(
            PLAN.lease(wildcards.model, wildcards.benchmark)
        ),
        judged=lambda wildcards: PLAN.judged(wildcards.model, wildcards.benchmark),
    output:
        metrics=PATHS.metrics("{model}", "{benchmark}"),
        samples=PATHS.samples("{model}", "{benchmark}"),
        requests=PATHS.requests("{model}", "{benchmark}"),
        evaluation=PATHS.evaluation("{model}", "{benchmark}"),
    log:
        PATHS.log("evaluate", "{model}", "{benchmark}"),
    retries: PLAN.retries
    conda:
        "../envs/slurmeval.yaml"
    threads: evaluation_threads(PLAN)
    # Filled from the site file; --set-resources, --set-threads and --default-resources count
    resources:
        **evaluation_resources(PLAN),
    params:
        model=lambda wildcards: PLAN.model_params[
            PLAN.config.server_of(wildcards.model, wildcards.benchmark)
        ],
        benchmark=lambda wildcards: PLAN.benchmark_params[wildcards.benchmark],
    message:
        "Evaluating {wildcards.model} on {wildcards.benchmark}"
    shell:
        slurmeval("evaluate {wildcards.model} {wildcards.benchmark}")
