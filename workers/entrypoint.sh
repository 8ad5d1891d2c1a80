#!/bin/sh
# A container's share of the processors is a quota, which Python does not see: without this a worker with 2 of 64 cores starts 64 processes.
set -eu

if [ -z "${HARKLINE_WORKER_PROCESSES:-}" ]; then
    quota=max
    period=100000
    if [ -r /sys/fs/cgroup/cpu.max ]; then
        read -r quota period < /sys/fs/cgroup/cpu.max
    elif [ -r /sys/fs/cgroup/cpu/cpu.cfs_quota_us ]; then # cgroup v1, where -1 is no quota
        read -r quota < /sys/fs/cgroup/cpu/cpu.cfs_quota_us
        read -r period < /sys/fs/cgroup/cpu/cpu.cfs_period_us
    fi
    if [ "$quota" != max ] && [ "$quota" -gt 0 ]; then
        HARKLINE_WORKER_PROCESSES=$(((quota + period - 1) / period))
        export HARKLINE_WORKER_PROCESSES
    fi
fi

exec harkline "$@"
