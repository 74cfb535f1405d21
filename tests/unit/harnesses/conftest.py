"""Jobs on real outputs, without running a harness."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from slurmeval.config.models import Benchmark
from slurmeval.harnesses import Job
from slurmeval.harnesses.runtimes import EnvironmentRuntime

FIXTURES = Path(__file__).parent / "fixtures"
TASKS = Path(__file__).parents[3] / "config" / "tasks"
KEY = "gateway-key-that-must-not-leak"


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A folder that looks like an environment with all harnesses."""
    root = tmp_path / "environment"
    packages = root / "lib" / "python3.11" / "site-packages"
    for name in ("nemo_evaluator-0.2.8", "nvidia_lm_eval-26.3", "nvidia_bfcl-26.3", "lm_eval-0.4.13"):
        (packages / f"{name}.dist-info").mkdir(parents=True)
    shutil.copytree(FIXTURES / "bfcl_data", packages / "bfcl" / "data")
    (root / "bin").mkdir()
    for program in ("nemo-evaluator", "lm_eval"):
        (root / "bin" / program).touch()
    return root


MakeJob = Callable[..., Job]


@pytest.fixture
def make_job(tmp_path: Path, environment: Path) -> MakeJob:
    """A job in a folder with a hostile name. `output`: the fixture that its attempt has left."""

    def make(output: str | None = None, task_file: str | None = None, **benchmark: Any) -> Job:
        folder = tmp_path / "my results; $HOME 'x' é" / "harness"
        if output is not None:
            (folder / "0001").mkdir(parents=True)
            shutil.copytree(FIXTURES / output, folder / "0001" / "output")
        datasets = {name: tmp_path / "staged data, =" / name for name in benchmark.get("datasets", [])}
        for dataset in datasets.values():
            dataset.mkdir(parents=True, exist_ok=True)
        tokenizer = tmp_path / "weights of, a=model"
        tokenizer.mkdir(exist_ok=True)
        return Job(
            model="small",
            benchmark_id="bench",
            benchmark=Benchmark(task_file=task_file, **benchmark),
            runtime=EnvironmentRuntime(environment),
            folder=folder,
            base_url="http://127.0.0.1:12345",
            api_key=KEY,
            served_name="small",
            tokenizer=tokenizer,
            datasets=datasets,
            task_file=None if task_file is None else TASKS / task_file,
        )

    return make


@pytest.fixture
def edit(make_job: MakeJob) -> Callable[[Job, str, str, str], None]:
    """Replaces text in the one file of the job's output that matches a pattern."""

    def change(job: Job, pattern: str, old: str, new: str) -> None:
        (path,) = sorted((job.folder / "0001" / "output").rglob(pattern))
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return change


class Model(BaseHTTPRequestHandler):
    """Answers chats and completions as `answer` says; `(status, text)` for errors."""

    answer: Any
    requests: list[dict[str, Any]]
    keys: set[str | None]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.requests.append({"path": self.path, **body})
        self.keys.add(self.headers["Authorization"])
        found = type(self).answer(body)
        status, reply = 200, {"choices": [{"message": {"content": found}, "text": found}]}
        if isinstance(found, tuple):
            status, reply = found[0], {"error": {"type": "server_lost", "message": found[1]}}
        data = json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Nothing."""


class Server(ThreadingHTTPServer):
    request_queue_size = 256  # many come at once


@pytest.fixture
def model() -> Iterator[tuple[type[Model], str]]:
    class Own(Model):
        requests: list[dict[str, Any]] = []  # noqa: RUF012
        keys: set[str | None] = set()  # noqa: RUF012

    with Server(("127.0.0.1", 0), Own) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Own, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
