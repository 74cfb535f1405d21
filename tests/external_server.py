"""A server that slurmeval did not start, for tests of whole runs: as in life, someone else keeps it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.waiting import wait_for

ROOT = Path(__file__).parents[1]
KEY = "the-key-of-the-course"


class Course:
    """A server that someone else keeps: it serves `their-model` to who has the key."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.seen = folder, folder / "asked of the course"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self, **variables: str) -> None:
        env = {**os.environ, "VLLM_API_KEY": KEY, "STAND_IN_SEEN": str(self.seen), "PYTHONPATH": str(ROOT)}
        flags = ["--model", "x", "--served-model-name", "their-model", "--host", "127.0.0.1"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.stand_ins.stand_in_engine", *flags, "--port", str(self.port)],
            env=env | variables,
            cwd=self._folder,
        )
        wait_for(self._answers, "the course's server")

    def _answers(self) -> bool:
        try:
            requests.get(f"http://127.0.0.1:{self.port}/health", timeout=5)
        except requests.ConnectionError:
            return False
        return True

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def asked(self) -> list[str]:
        """A hash of each request that was answered."""
        return self.seen.read_text().split() if self.seen.exists() else []


@pytest.fixture
def course(tmp_path: Path) -> Iterator[Course]:
    made = Course(tmp_path)
    yield made
    made.stop()


def keep_to(course: Course, config: dict[str, Any]) -> None:
    """Has a config's one model at the course's server."""
    config["servers"] = {"course": {"url": course.url, "api_key": "COURSE_KEY"}}
    config["secrets"] = {"COURSE_KEY": {}}
    config["models"] = {"tiny": {"server": "course", "served_name": "their-model"}}
