# Weights and datasets, verified and pinned before a server is asked for.


rule stage_model:
    input:
        environment=lambda wildcards: ancient(
            PLAN.staging_environments(wildcards.model)
        ),
    output:
        manifest=PATHS.staged_model("{model}"),
    log:
        PATHS.log("stage_model", "{model}"),
    priority: 90
    conda:
        "../envs/slurmeval.yaml"
    params:
        weights=lambda wildcards: PLAN.weights_params(wildcards.model),
    message:
        "Staging the model {wildcards.model}"
    shell:
        'slurmeval stage-model "$RUN_FILE" {wildcards.model} 2>&1 | tee -i {log:q}'


rule stage_dataset:
    output:
        manifest=PATHS.staged_dataset("{dataset}"),
    log:
        PATHS.log("stage_dataset", "{dataset}"),
    priority: 90
    conda:
        "../envs/slurmeval.yaml"
    params:
        source=lambda wildcards: PLAN.dataset_params(wildcards.dataset),
    message:
        "Staging the dataset {wildcards.dataset}"
    shell:
        'slurmeval stage-dataset "$RUN_FILE" {wildcards.dataset} 2>&1 | tee -i {log:q}'
