"""Labels of an image, as `apptainer inspect --json` prints them."""

import json

import pytest

from slurmeval.containers.check import labels_of

PRINTED = json.dumps(
    {"data": {"attributes": {"labels": {"slurmeval.lock": "vllm-cpu"}}}, "type": "container"}
)


@pytest.mark.parametrize("before", ["", "WARNING: a cgroup is missing\n"])
def test_labels_are_read_behind_warnings(before: str) -> None:
    assert labels_of(before + PRINTED + "\n") == {"slurmeval.lock": "vllm-cpu"}


@pytest.mark.parametrize(
    "output", ["", "no JSON", "{", "{}", '{"data": []}', '{"data": {"attributes": {"labels": null}}}']
)
def test_image_without_labels_has_none(output: str) -> None:
    assert labels_of(output) == {}
