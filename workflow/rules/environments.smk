# One locked virtual environment per harness, and one for the server.


rule environment:
    input:
        lock=ancient("containers/locks/{environment}.lock"),
    output:
        record=PLAN.environment_record("{environment}"),
    log:
        PATHS.log("environment", "{environment}"),
    priority: 100
    conda:
        "../envs/slurmeval.yaml"
    params:
        lock=lambda wildcards: PLAN.lock_sha(wildcards.environment),
    message:
        "Making the environment {wildcards.environment}"
    shell:
        'slurmeval environment "$RUN_FILE" {wildcards.environment} 2>&1 | tee -i {log:q}'
