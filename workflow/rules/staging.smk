# Weights and datasets, verified and pinned before a server is asked for.


rule stage_model:
    input:
        environment=lambda wildcards: ancient(
            PLAN.staging_environments(wildcards.model)
        ),
    output:
        manifest=PATHS.staged_model("{model}", "{key}"),
    log:
        PATHS.log("stage_model", "{model}~{key}"),
    priority: 90
    conda:
        "../envs/slurmeval.yaml"
    message:
        "Staging the model {wildcards.model}"
    shell:
        'slurmeval stage-model "$RUN_FILE" {wildcards.model} {output.manifest:q} 2>&1 | tee -i {log:q}'


rule stage_dataset:
    output:
        manifest=PATHS.staged_dataset("{dataset}", "{key}"),
    log:
        PATHS.log("stage_dataset", "{dataset}~{key}"),
    priority: 90
    conda:
        "../envs/slurmeval.yaml"
    message:
        "Staging the dataset {wildcards.dataset}"
    shell:
        'slurmeval stage-dataset "$RUN_FILE" {wildcards.dataset} {output.manifest:q} 2>&1 | tee -i {log:q}'
