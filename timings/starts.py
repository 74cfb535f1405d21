"""How long the real vLLM takes to start, by parts: with nothing compiled, and once more.

    python timings/starts.py --weights FOLDER [--python PYTHON] [--strategy lazy,eager,prefetch]

The server's supervisor starts it, as in a run; each start is one server. FOLDER is a staged model's, as
`results/demo/staged/models/*.json` names it; PYTHON that of an environment with vLLM. `--strategy` compares
how weights are read, with all other things as in the demo. Weights are in the page cache."""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.waiting import wait_for

from slurmeval.files import read_json
from slurmeval.processes import identity, is_alive
from slurmeval.servers.folder import ServerFolder
from slurmeval.servers.leases import acquire, release
from slurmeval.state.engine_run import EngineRunRecord, read_engine_runs
from slurmeval.state.records import load, write
from slurmeval.state.server import ServerJob
from slurmeval.state.server_spec import ServerSpec

EAGER: dict[str, Any] = {"flags": {"enforce-eager": True}, "env": {"TORCHDYNAMO_DISABLE": "1"}}
DEADLINE_S = 1200.0


def start(root: Path, **changed: Any) -> EngineRunRecord:
    """Returns what a server told of a start; it is ended again."""
    controller = replace(identity(), token="timing")
    write(root / "controller.json", controller)
    places = {name: str(root / name) for name in ("servers", "leases", "slots", "cache")}
    spec = ServerSpec(
        model="model",
        served_name="model",
        manifest=str(root / "none.json"),
        controller=str(root / "controller.json"),
        dtype="float32",
        max_model_len=2048,
        ready_timeout_s=DEADLINE_S,
        **places,
        **changed,
    )
    server = acquire(spec, "timing", controller).server
    assert server is not None
    folder = ServerFolder(server)

    def ready_or_failed() -> bool:
        state = read_json(folder.state) or {}
        if state.get("status") == "failed":
            sys.exit(f"the server failed: {state['reason']}")
        return state.get("status") == "ready"

    wait_for(ready_or_failed, "the server", DEADLINE_S)
    release(root / "leases" / "timing.json")
    process = load(folder.job, ServerJob).process
    assert process is not None
    wait_for(lambda: not is_alive(process), "the server's end", 60)
    return read_engine_runs(folder.engine_runs)[-1]


def tell(what: str, told: EngineRunRecord) -> None:
    parts = {"weights": told.weights_s, "compile": told.compile_s, "first answer": told.first_answer_s}
    words = ", ".join(f"{name} {'?' if s is None else f'{s:.1f}'}" for name, s in parts.items())
    print(f"  {what}: {told.starting_s:.1f} s ({words})", flush=True)


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="slurmeval-starts-") as made:
        yield Path(made)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", required=True)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--strategy", default="")
    given = parser.parse_args()
    common = {"weights": given.weights, "python": given.python}
    env = {"VLLM_CPU_KVCACHE_SPACE": "1"}
    small = {"max-num-seqs": 8}
    for strategy in filter(None, given.strategy.split(",")):
        with folder() as root:
            flags = small | EAGER["flags"] | {"safetensors-load-strategy": strategy}
            tell(
                f"as the demo, weights read {strategy}",
                start(root, **common, env=env | EAGER["env"], flags=flags),
            )
    for what, flags, more in (("as the demo", EAGER["flags"], EAGER["env"]), ("compiled", {}, {})):
        with folder() as root:
            for time in ("with empty caches", "once more"):
                tell(f"{what}, {time}", start(root, **common, env=env | more, flags=small | flags))


if __name__ == "__main__":
    main()
