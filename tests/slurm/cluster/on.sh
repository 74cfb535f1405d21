#!/usr/bin/env bash
# on HOST COMMAND...: runs a command on a host of the test cluster: login, head, gpu1, gpu2, cpu1, cpu2.
# It sees the host's name, network, mounts and, on a node, its processes, and ends with the node.
set -eu
base=$(dirname "$(readlink -f "$0")")
if [ $# -lt 2 ] || [ "$1" = --help ]; then
    sed -n '2,3s/^# //p' "$0" >&2
    exit 2
fi
host=$1
shift
pid=$(cat "$base/run/$host.pid" 2>/dev/null) || pid=none
# The number may have gone to another process since
if ! [ "/proc/$pid/root/etc/slurm" -ef "$base/etc" ]; then
    echo "on: $host is down, or is no host of the cluster" >&2
    exit 69
fi
case $host in
login) namespaces=() ;;
head) namespaces=(--net) ;;
*)
    namespaces=(--net --pid)
    # nsenter waits as the command's parent then: the command ends with it
    set -- setpriv --pdeathsig KILL "$@"
    ;;
esac
exec nsenter --target "$pid" --mount --uts ${namespaces[@]+"${namespaces[@]}"} --wdns="$PWD" "$@"
