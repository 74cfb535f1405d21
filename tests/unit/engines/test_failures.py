"""Reasons from vLLM's own logs. `vllm/` holds what vLLM 0.32 on CPU printed, cut short."""

from __future__ import annotations

from pathlib import Path

import pytest

from slurmeval.engines import failures
from slurmeval.engines.failures import MAX_REASON_CHARACTERS, Failure
from slurmeval.engines.vllm import Vllm
from slurmeval.errors import ErrorClass
from slurmeval.servers import engine_process
from slurmeval.servers.engine_process import EngineProcess, killed_for_memory

RECORDED = Path(__file__).parent / "vllm"
LOST, MEMORY = ErrorClass.SERVER_LOST, ErrorClass.OUT_OF_MEMORY


def classify(log_tail: str, returncode: int | None) -> Failure:
    return failures.classify(
        log_tail,
        returncode,
        engine=Vllm.name,
        known_failures=Vllm.known_failures,
        consequences=Vllm.consequences,
    )


@pytest.mark.parametrize(
    ("log", "reason", "error_class"),
    [
        ("bad_flag", "vLLM refuses its command line: unrecognized arguments: --no-such-flag", LOST),
        (
            "bad_value",
            "vLLM refuses its command line: argument --max-model-len: "
            "invalid human_readable_int_or_auto value: 'banana'",
            LOST,
        ),
        (
            "ambiguous_flag",
            "vLLM refuses its command line: ambiguous option: --ma=3 could match --max-lo",
            LOST,
        ),
        ("bad_dtype", "vLLM refuses its command line: argument --dtype: invalid choice: 'int4'", LOST),
        ("missing_folder", "the model's folder does not exist", LOST),
        (
            "unknown_architecture",
            "this version of vLLM does not know the model's architecture 'FrobnicatorForCausalLM'",
            LOST,
        ),
        (
            "unknown_model_type",
            "the environment's transformers does not know the model type 'frobnicator'",
            LOST,
        ),
        (
            "max_model_len",
            "max_model_len 1000000 is greater than the 8192 tokens that the model was made for",
            LOST,
        ),
        ("not_staged", "the model's weights are not on this machine and the hub is not asked", LOST),
        ("no_weights", "the model's folder has no weights", LOST),
        (
            "kv_cache_too_small",
            "the KV cache is too small for max_model_len 100000: 4.3 GiB are needed, 0.99 GiB are there",
            MEMORY,
        ),
        (
            "too_little_memory",
            "too little memory is free for the KV cache: 18.97/23.54 GiB; "
            "set VLLM_CPU_KVCACHE_SPACE in servers.<id>.env",
            MEMORY,
        ),
        ("kv_cache_out_of_memory", "the KV cache does not fit into memory: 999.0 GiB asked for", MEMORY),
        ("unknown_quantization", "vLLM does not know the quantization method nonsense", LOST),
        ("missing_chat_template", "the chat template's file does not exist", LOST),
    ],
)
def test_recorded_failure_is_told_in_one_sentence(log: str, reason: str, error_class: ErrorClass) -> None:
    failure = classify((RECORDED / f"{log}.log").read_text(), 1)
    assert failure.reason.startswith(reason)
    assert "\n" not in failure.reason and len(failure.reason) <= MAX_REASON_CHARACTERS
    assert failure.error_class is error_class
    assert not failure.retryable


def test_taken_port_is_worth_another_try() -> None:
    failure = classify((RECORDED / "port_in_use.log").read_text(), 1)
    assert failure.port_taken and failure.retryable


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", "out of GPU memory"),
        ("RuntimeError: DefaultCPUAllocator: can't allocate memory: you tried", "out of memory on the host"),
        (
            "ValueError: Free memory on device cuda:0 (3.2/79.1 GiB) on startup is less than desired",
            "too little GPU memory is free: 3.2/79.1 GiB",
        ),
        ("ValueError: No available memory for the cache blocks.", "no memory is left for the KV cache"),
    ],
)
def test_lack_of_memory_has_its_class(line: str, reason: str) -> None:
    """These lines need a GPU: they are as vLLM's and torch's sources print them, not recorded."""
    failure = classify(f"(EngineCore pid=7) ERROR 01-01 00:00:00 [core.py:1] {line}\n", 1)
    assert failure.reason.startswith(reason)
    assert failure.error_class is MEMORY
    assert not failure.retryable


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (
            "ValueError: invalid literal for int() with base 10: 'MIG-5c89852c-d268-c3f3-1b07-005d5ae1dc3f'",
            "this vLLM does not take a GPU by its name MIG-5c89852c",
        ),
        (
            "RuntimeError: The NVIDIA driver on your system is too old (found version 12020). Please update",
            "this node's NVIDIA driver (CUDA 12020) is too old for the environment's torch",
        ),
        (
            "ImportError: /lib64/libc.so.6: version `GLIBC_2.32' not found (required by /env/x.so)",
            "this node's system is too old for the environment: GLIBC_2.32 is missing",
        ),
        (
            "ValueError: Total number of attention heads (14) must be divisible by tensor parallel size (4).",
            "the model's 14 attention heads cannot be divided among 4 GPUs",
        ),
        (
            "OSError: Can't load tokenizer for '/hf/m'. If you were trying to load it from",
            "the model's folder has no tokenizer that can be loaded",
        ),
        (
            "FileNotFoundError: [Errno 2] No such file or directory: '/m/model-00002-of-00004.safetensors'",
            "the model's folder has no model-00002-of-00004.safetensors",
        ),
        (
            'zmq.error.ZMQError: ipc path "/scratch/a/b" is longer than 107 characters (sizeof(sockaddr))',
            "the path of vLLM's sockets is too long",
        ),
        (
            "OSError: [Errno 122] Disk quota exceeded: '/home/u/.triton/cache'",
            "the disk is full or over quota at /home/u/.triton/cache",
        ),
        (
            "PermissionError: [Errno 13] Permission denied: '/home/u/.nv'",
            "/home/u/.nv cannot be written or read on this node",
        ),
    ],
)
def test_what_is_wrong_with_the_machine_is_not_tried_again(line: str, reason: str) -> None:
    """As vLLM's, torch's and the system's sources print them, not recorded."""
    failure = classify(f"(EngineCore pid=7) ERROR 01-01 00:00:00 [core.py:1] {line}\n", 1)
    assert failure.reason.startswith(reason)
    assert not failure.retryable


def test_warning_of_a_full_disk_is_not_why_vllm_was_killed() -> None:
    log = "WARNING usage.py: not written: OSError: [Errno 122] Disk quota exceeded: '/home/u/.config'\n"
    assert classify(log, -9).reason == "vLLM was killed by SIGKILL"


@pytest.mark.parametrize(
    ("line", "folder", "file"),
    [
        ("0::/job_7/step_0", "job_7/step_0", "memory.events"),
        ("3:cpu:/\n4:memory:/slurm/uid_0/job_7", "memory/slurm/uid_0/job_7", "memory.oom_control"),
    ],
)
def test_what_the_kernel_killed_at_the_jobs_memory_limit_is_counted(
    tmp_path: Path, line: str, folder: str, file: str
) -> None:
    (tmp_path / "groups").write_text(f"{line}\n")
    assert killed_for_memory(tmp_path / "groups", tmp_path) == 0
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / file).write_text("low 0\nunder_oom 0\noom_kill 3\n")
    assert killed_for_memory(tmp_path / "groups", tmp_path) == 3


def test_kill_at_the_jobs_memory_limit_is_a_lack_of_memory_and_names_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = iter([1, 2])
    monkeypatch.setattr(engine_process, "killed_for_memory", lambda: next(counts))
    engine = EngineProcess(Vllm(), ["/bin/sh", "-c", "kill -9 $$"], {}, tmp_path / "engine.log")
    assert engine.wait(10)
    failure = engine.failure()
    assert failure.error_class is MEMORY and failure.retryable
    assert "servers.<id>.memory_gb" in failure.reason


def test_gated_weights_and_a_gpu_without_bfloat16_are_told() -> None:
    gated = classify("huggingface_hub.errors.GatedRepoError: 401 Client Error.\n", 1)
    assert gated.reason == "the weights are gated: ask for access on the hub"
    text = "ValueError: Bfloat16 is only supported on GPUs with compute capability of at least 8.0. Your T4"
    assert classify(text, 1).reason.endswith("set dtype to float16")


def test_unknown_failure_shows_the_cause_and_not_its_consequence() -> None:
    log = (
        "(Worker pid=1) ERROR 01-01 00:00:00 [a.py:1] ZeroDivisionError: the cause\n"
        "Exception: WorkerProc initialization failed due to an exception in a background process.\n"
        "RuntimeError: Engine core initialization failed. See root cause above.\n"
    )
    failure = classify(log, 1)
    assert failure.reason == "vLLM ended: ZeroDivisionError: the cause"
    assert failure.retryable
    broken = classify((RECORDED / "broken_weights.log").read_text(), 1)
    assert broken.reason.startswith("vLLM ended: Unterminated string")


@pytest.mark.parametrize(
    ("returncode", "reason"),
    [
        (-9, "vLLM was killed by SIGKILL"),
        (-45, "vLLM was killed by signal 45"),
        (3, "vLLM ended with status 3 and no error in its log"),
    ],
)
def test_end_without_a_word_is_told_by_its_status(returncode: int, reason: str) -> None:
    failure = classify("", returncode)
    assert failure.retryable
    assert failure.reason == reason


@pytest.mark.parametrize("log", ["api_server.py: error: expected one argument\n", ""])
def test_a_refused_command_line_is_not_tried_again(log: str) -> None:
    assert classify(log, 2).retryable is False
    assert classify(log, 1).retryable is True


def test_a_refusal_in_new_words_is_the_reason() -> None:
    reason = "vLLM refuses its command line: expected one argument"
    assert classify("usage: x\napi_server.py: error: expected one argument\n", 2).reason == reason
