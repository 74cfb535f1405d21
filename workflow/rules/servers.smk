# A lease is an evaluation's claim on its model's server, which lives while it has leases.


rule lease:
    input:
        environments=lambda wildcards: ancient(
            PLAN.environments_for(wildcards.model, wildcards.benchmark)
        ),
        model=ancient(PATHS.staged_model("{model}")),
        datasets=lambda wildcards: ancient(PLAN.datasets_for(wildcards.benchmark)),
    output:
        lease=temp(PATHS.lease("{model}", "{benchmark}")),
    log:
        PATHS.log("lease", "{model}", "{benchmark}"),
    priority: 80
    conda:
        "../envs/slurmeval.yaml"
    message:
        "Leasing a server of {wildcards.model} for {wildcards.benchmark}"
    shell:
        'slurmeval lease "$RUN_FILE" {wildcards.model} {wildcards.benchmark} 2>&1 | tee -i {log:q}'
