# Weights and datasets, verified and pinned before a server is asked for.


rule stage_model:
    input:
        environment=lambda wildcards: ancient(PLAN.staging_environments(wildcards.model)),
    output:
        manifest=PATHS.staged_model("{model}"),
    params:
        weights=lambda wildcards: PLAN.weights_params(wildcards.model),
    log:
        PATHS.log("stage_model", "{model}"),
    priority: 90
    message:
        "Staging the model {wildcards.model}"
    shell:
        "{SLURMEVAL} stage-model {RUN_FILE:q} {wildcards.model} 2>&1 | tee {log:q}"


rule stage_dataset:
    output:
        manifest=PATHS.staged_dataset("{dataset}"),
    params:
        source=lambda wildcards: PLAN.dataset_params(wildcards.dataset),
    log:
        PATHS.log("stage_dataset", "{dataset}"),
    priority: 90
    message:
        "Staging the dataset {wildcards.dataset}"
    shell:
        "{SLURMEVAL} stage-dataset {RUN_FILE:q} {wildcards.dataset} 2>&1 | tee {log:q}"
