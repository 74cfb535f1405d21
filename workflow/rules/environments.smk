# What servers and harnesses run in: locked virtual environments, and images.


rule environment:
    input:
        lock=lambda wildcards: ancient(
            PLAN.runtime_refs.lock_file(wildcards.environment)
        ),
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
        slurmeval("environment {wildcards.environment} {output.record:q}")


rule image:
    output:
        record=PATHS.image_record("{image}", "{key}"),
    log:
        PATHS.log("image", "{image}~{key}"),
    priority: 100
    conda:
        "../envs/slurmeval.yaml"
    message:
        "Pulling the image {wildcards.image}"
    shell:
        slurmeval("image {wildcards.image} {output.record:q}")
