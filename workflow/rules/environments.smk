# One locked virtual environment per harness, and one for the server.


rule environment:
    input:
        lock=ancient("containers/locks/{environment}.lock"),
    output:
        record=PATHS.environment_record("{environment}", "{key}"),
    log:
        PATHS.log("environment", "{environment}~{key}"),
    priority: 100
    conda:
        "../envs/slurmeval.yaml"
    message:
        "Making the environment {wildcards.environment}"
    shell:
        'slurmeval environment "$RUN_FILE" {wildcards.environment} {output.record:q} 2>&1 | tee -i {log:q}'
