# A lease is an evaluation's right to its model's server, which lives while it has leases.


rule lease:
    input:
        places=lambda wildcards: ancient(
            PLAN.places_for(wildcards.model, wildcards.benchmark)
        ),
        model=lambda wildcards: ancient(PLAN.staged_model(wildcards.model)),
        datasets=lambda wildcards: ancient(PLAN.datasets_for(wildcards.benchmark)),
        rehearsal=lambda wildcards: ancient(PLAN.rehearsal(wildcards.benchmark)),
        tokenizer=lambda wildcards: ancient(
            PLAN.tokenizers(wildcards.model, wildcards.benchmark)
        ),
        judged=lambda wildcards: PLAN.judged(wildcards.model, wildcards.benchmark),
    output:
        lease=temp(PATHS.lease("{model}", "{benchmark}")),
    log:
        PATHS.log("lease", "{model}", "{benchmark}"),
    priority: 80
    # On a cluster the executor leases without starting a process for it
    localrule: PLAN.site is None
    conda:
        "../envs/slurmeval.yaml"
    message:
        "Taking the lease of {wildcards.benchmark} on {wildcards.model}"
    shell:
        slurmeval("lease {wildcards.model} {wildcards.benchmark}")


# A judge's server is leased once the answers are there that it is to judge. The lease stands among those of
# the judge's model; model and benchmark are those of the evaluation.
use rule lease as lease_judge with:
    input:
        places=lambda wildcards: ancient(
            PLAN.places_for(wildcards.model, wildcards.benchmark)
        ),
        model=lambda wildcards: ancient(PLAN.staged_model(wildcards.judge)),
        rehearsal=lambda wildcards: ancient(PLAN.rehearsal(wildcards.benchmark)),
        judged=lambda wildcards: PLAN.judged(wildcards.model, wildcards.benchmark),
    output:
        lease=temp(PATHS.lease("{judge}", "{benchmark}~{model}")),
    log:
        PATHS.log("lease_judge", "{judge}", "{benchmark}~{model}"),
    message:
        "Taking the lease of {wildcards.benchmark} on {wildcards.model}, whom {wildcards.judge} judges"
