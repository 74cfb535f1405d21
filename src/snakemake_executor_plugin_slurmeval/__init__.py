"""Snakemake finds its executor `slurmeval` by this module's name. The code: slurmeval.scheduling.executor."""

from dataclasses import dataclass, field
from typing import Optional

from snakemake_interface_executor_plugins.settings import CommonSettings, ExecutorSettingsBase

from slurmeval.scheduling.executor import SlurmExecutor as Executor

__all__ = ["Executor", "ExecutorSettings", "common_settings"]


@dataclass
class ExecutorSettings(ExecutorSettingsBase):  # type: ignore[misc]
    """Settings of the executor."""

    site: Optional[str] = field(  # noqa: UP045 - Snakemake reads no other form
        default=None,
        metadata={"help": "The file that says how jobs are asked for on this cluster.", "required": True},
    )


common_settings = CommonSettings(
    non_local_exec=True,
    implies_no_shared_fs=False,
    job_deploy_sources=False,
    pass_default_storage_provider_args=False,
    pass_default_resources_args=False,
    pass_envvar_declarations_to_cmd=False,
    auto_deploy_default_storage_provider=False,
    init_seconds_before_status_checks=1,
)
