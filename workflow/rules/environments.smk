# One locked virtual environment per harness, and one for the server.


rule environment:
    input:
        lock=ancient("containers/locks/{environment}.lock"),
    output:
        record=PLAN.environment_record("{environment}"),
    params:
        lock=lambda wildcards: PLAN.lock_sha(wildcards.environment),
    log:
        PATHS.log("environment", "{environment}"),
    priority: 100
    message:
        "Making the environment {wildcards.environment}"
    shell:
        "{SLURMEVAL} environment {RUN_FILE:q} {wildcards.environment} 2>&1 | tee {log:q}"
