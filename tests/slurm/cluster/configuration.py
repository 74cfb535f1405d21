"""Slurm's configuration, and what else the hosts see in place of the machine's: hosts, users."""

from __future__ import annotations

import os
import stat
from ipaddress import IPv4Network
from pathlib import Path

from tests.slurm.cluster import network
from tests.slurm.cluster.layout import CONTROLLERS, GPUS_PER_NODE, HOSTS, STRANGER, STRANGER_ID, Layout

PREEMPTION_GRACE_S = 10
KILL_WAIT_S = 5
NODE_TIMEOUT_S = 10
FUSE = Path("/dev/fuse")

# /etc/slurm is at the same place on every host, and every user may go there
AUTHENTICATION = """\
AuthType=auth/munge
AuthInfo=socket=/etc/slurm/munge.socket{more}
SlurmUser=root
"""

SLURM = """\
ClusterName=test
SlurmctldHost=head
SlurmdUser=root
StateSaveLocation={layout.state}
SlurmdSpoolDir={layout.spool}/%n
SlurmctldPidFile={layout.base}/run/slurmctld
SlurmdPidFile={layout.base}/run/slurmd-%n
SlurmctldLogFile={layout.logs}/slurmctld.log
SlurmdLogFile={layout.logs}/slurmd-%n.log
SlurmdDebug=verbose

# The nodes have more than the machine
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=gpu[1-2] CPUs=16 RealMemory=128000 Gres=gpu:h100:{gpus} State=UNKNOWN
NodeName=cpu[1-2] CPUs=8 RealMemory=64000 State=UNKNOWN

PartitionName=DEFAULT MaxTime=1-00:00:00 DefaultTime=00:30:00 State=UP PreemptMode=OFF
PartitionName=cpu Nodes=cpu[1-2] Default=YES
PartitionName=gpu Nodes=gpu[1-2] PriorityTier=1 PreemptMode=REQUEUE GraceTime={grace_s}
PartitionName=gpu-short Nodes=gpu[1-2] PriorityTier=1 PreemptMode=REQUEUE GraceTime={grace_s} \
MaxTime=00:05:00 DefaultTime=00:05:00
PartitionName=gpu-high Nodes=gpu[1-2] PriorityTier=10

SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=512
PriorityType=priority/basic
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_interval=2,batch_sched_delay=0
# What does not fit the partition's limits is refused, not left to wait
EnforcePartLimits=ALL
JobRequeue=1

ProctrackType={proctrack}
TaskPlugin={task}
MpiDefault=none
OverTimeLimit=0
KillWait={kill_wait_s}
SlurmctldTimeout=30
SlurmdTimeout={node_timeout_s}
# A preempted job has this and KillWait, or GraceTime if that is longer. A lost node is missed after
# SlurmdTimeout and about twice this
MessageTimeout=5
# 2 would bring back at once a node that a test set down
ReturnToService=1
MinJobAge=300

JobCompType=jobcomp/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=2
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=head
AccountingStoragePass=/etc/slurm/munge.socket
AccountingStorageTRES=gres/gpu
AccountingStorageEnforce=associations,qos,limits
AccountingStoreFlags=job_comment
"""

SLURMDBD = """\
DbdHost=head
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
LogFile={layout.logs}/slurmdbd.log
PidFile={layout.base}/run/slurmdbd
"""

CGROUP = """\
CgroupPlugin=cgroup/v1
CgroupMountpoint=/sys/fs/cgroup
CgroupAutomount=no
ConstrainRAMSpace=yes
ConstrainSwapSpace=no
ConstrainCores=no
ConstrainDevices=no
"""

GRES = """\
AutoDetect=off
NodeName=gpu[1-2] Name=gpu Type=h100 File={layout.devices}/nvidia[0-{last}]
"""


def cgroups_v1() -> bool:
    """Whether the machine mounts the controllers that Slurm 22.05 can limit memory with."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    mounted = {option for words in mounts if words[2] == "cgroup" for option in words[3].split(",")}
    return mounted.issuperset(CONTROLLERS)


def write(layout: Layout, subnet: IPv4Network, *, memory_limits: bool) -> None:
    """Writes all of it. Without memory limits a job may use more memory than it asked for."""
    proctrack, task = (
        ("proctrack/cgroup", "task/cgroup") if memory_limits else ("proctrack/linuxproc", "task/none")
    )
    # Else a job that was requeued waits for two minutes: as long as credentials are valid
    slurm = AUTHENTICATION.format(more=",cred_expire=5") + SLURM.format(
        layout=layout,
        gpus=GPUS_PER_NODE,
        grace_s=PREEMPTION_GRACE_S,
        kill_wait_s=KILL_WAIT_S,
        node_timeout_s=NODE_TIMEOUT_S,
        proctrack=proctrack,
        task=task,
    )
    files = {
        "slurm.conf": slurm,
        "slurmdbd.conf": AUTHENTICATION.format(more="") + SLURMDBD.format(layout=layout),
        "gres.conf": GRES.format(layout=layout, last=GPUS_PER_NODE - 1),
    }
    if memory_limits:
        files["cgroup.conf"] = CGROUP
    for name, text in files.items():
        (layout.etc / name).write_text(text)
    # It holds a password: slurmdbd insists
    (layout.etc / "slurmdbd.conf").chmod(0o600)
    for number in range(GPUS_PER_NODE):
        device = layout.devices / f"nvidia{number}"
        # /dev/null by another name: Slurm wants a device, nobody opens it
        os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        device.chmod(0o666)
    _make_fuse(layout)
    _write_hosts(layout, subnet)
    _write_users(layout)


def _make_fuse(layout: Layout) -> None:
    """A /dev/fuse for the hosts where the machine's is not for every user, as it is on clusters: containers
    need it."""
    try:
        status = FUSE.stat()
    except FileNotFoundError:
        return
    if status.st_mode & 0o006 != 0o006:
        os.mknod(layout.devices / "fuse", 0o666 | stat.S_IFCHR, status.st_rdev)
        (layout.devices / "fuse").chmod(0o666)


def _write_hosts(layout: Layout, subnet: IPv4Network) -> None:
    ours = "".join(f"{network.address(subnet, host)} {host}\n" for host in HOSTS)
    (layout.base / "hosts").write_text("127.0.0.1 localhost\n" + ours)
    # The login host goes to the internet by the names that the machine knows
    (layout.base / "hosts-login").write_text(ours + Path("/etc/hosts").read_text())


def _write_users(layout: Layout) -> None:
    """The machine's users and groups, and the stranger."""
    number = STRANGER_ID
    lines = {
        "passwd": f"{STRANGER}:x:{number}:{number}::/nonexistent:/bin/sh\n",
        "group": f"{STRANGER}:x:{number}:\n",
    }
    for name, line in lines.items():
        (layout.base / name).write_text(Path("/etc", name).read_text().rstrip("\n") + "\n" + line)
