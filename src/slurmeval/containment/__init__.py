"""Containment: commands and programs that see only what they are shown, by Linux namespaces without root.

`command` contains a harness's command, `program` a single program that a model wrote. Both use the script
`contained`, which needs `namespaces`, `root` and `seccomp`. Images are contained by Apptainer, and
`seccomp` and `loopback` run inside.
"""
