# Weights and data, verified and pinned, and each benchmark rehearsed, before a server is asked for.


rule stage_model:
    input:
        place=lambda wildcards: ancient(PLAN.staging_places(wildcards.model)),
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
        slurmeval("stage-model {wildcards.model} {output.manifest:q}")


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
        slurmeval("stage-dataset {wildcards.dataset} {output.manifest:q}")


rule rehearse:
    input:
        needed=lambda wildcards: ancient(PLAN.rehearsal_inputs(wildcards.benchmark)),
    output:
        manifest=PATHS.rehearsal("{benchmark}", "{key}"),
    log:
        PATHS.log("rehearse", "{benchmark}~{key}"),
    priority: 85
    conda:
        "../envs/slurmeval.yaml"
    message:
        "Rehearsing {wildcards.benchmark}"
    shell:
        slurmeval("rehearse {wildcards.benchmark} {output.manifest:q}")


rule try_tokenizer:
    input:
        needed=lambda wildcards: ancient(
            PLAN.tokenizer_inputs(wildcards.model, wildcards.key)
        ),
    output:
        loaded=PATHS.tokenizer("{model}", "{key}"),
    log:
        PATHS.log("try_tokenizer", "{model}~{key}"),
    priority: 85
    conda:
        "../envs/slurmeval.yaml"
    message:
        "Loading the tokenizer of {wildcards.model}"
    shell:
        slurmeval("try-tokenizer {wildcards.model} {wildcards.key} {output.loaded:q}")


rule staged:
    input:
        PLAN.staged,
