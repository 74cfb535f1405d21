"""What is found out of staged models before a server is asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slurmeval.config.models import Model
from slurmeval.config.sources import Weights
from slurmeval.engines.vllm import Vllm
from slurmeval.errors import UserError
from slurmeval.planning.preflight import need_servable


def need(folder: Path, config: dict[str, Any], **model: Any) -> None:
    (folder / "config.json").write_text(json.dumps(config))
    manifest = folder / "m.json"
    manifest.write_text(json.dumps({"folder": str(folder), "source": {"repo": "own/name"}}))
    need_servable("m", Model(weights=Weights(folder="w"), server="s", **model), manifest, Vllm())


def test_more_context_than_a_staged_model_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"models\.m\.max_model_len: 200000 is greater than the 8192 tokens"):
        need(tmp_path, {"max_position_embeddings": 8192}, max_model_len=200000)
    need(tmp_path, {"max_position_embeddings": 8192}, max_model_len=8192)


def test_code_in_another_repository_is_refused_where_code_is_run(tmp_path: Path) -> None:
    config = {"auto_map": {"AutoModel": "other-org/other-repo--modeling_x.X"}}
    with pytest.raises(
        UserError, match="its code is in another repository, other-org/other-repo, which is not"
    ):
        need(tmp_path, config, trust_remote_code=True)
    need(tmp_path, config)
    need(tmp_path, {"auto_map": {"AutoModel": "modeling_x.X"}}, trust_remote_code=True)
    need(tmp_path, {"auto_map": {"AutoModel": "own/name--modeling_x.X"}}, trust_remote_code=True)


def test_what_is_not_staged_yet_is_not_judged(tmp_path: Path) -> None:
    model = Model(weights=Weights(folder="w"), server="s", max_model_len=200000)
    need_servable("m", model, tmp_path / "none.json", Vllm())
