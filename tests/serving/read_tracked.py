"""Reads what trackers have written, by their own readers, and prints it as JSON: numbers and config."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path


def records(path: Path) -> Iterator[bytes]:
    """Yields the records of wandb's file: LevelDB's log format, after a head of 7 bytes."""
    data, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if (rest := 32768 - at % 32768) < 7:
            at += rest
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield whole
            whole = b""


def of_wandb(folder: str) -> dict[str, dict[str, object]]:
    from wandb.proto import wandb_internal_pb2

    found = {}
    for path in Path(folder).rglob("*.wandb"):
        name, numbers, config = "", {}, {}
        for data in records(path):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            if record.HasField("run"):
                name = record.run.display_name
                config |= {each.key: json.loads(each.value_json) for each in record.run.config.update}
            for each in record.summary.update:
                numbers[each.key or "/".join(each.nested_key)] = json.loads(each.value_json)
        found[name] = {"config": config, "numbers": numbers}
    return found


def of_trackio(folder: str) -> dict[str, dict[str, object]]:
    os.environ["TRACKIO_DIR"] = folder
    import trackio
    from trackio.sqlite_storage import SQLiteStorage

    found = {}
    for run in trackio.Api().runs("slurmeval"):
        (numbers,) = SQLiteStorage.get_logs("slurmeval", run.name)
        found[run.name] = {"config": run.config, "numbers": numbers}
    return found


def of_mlflow(place: str) -> dict[str, dict[str, object]]:
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=place)
    experiment = client.get_experiment_by_name("slurmeval")
    runs = client.search_runs([experiment.experiment_id])
    return {run.info.run_name: {"config": run.data.params, "numbers": run.data.metrics} for run in runs}


READERS = {"wandb": of_wandb, "trackio": of_trackio, "mlflow": of_mlflow}
print(json.dumps(READERS[sys.argv[1]](sys.argv[2])))
