#!/usr/bin/env bash
# Runs Snakemake so that the same command goes on after any interruption: a lock that a killed run left behind is
# removed, but only when nothing of that run is alive. Arguments are Snakemake's.
set -euo pipefail
cd "$(dirname "$0")/.."

# Processes of this graph: Snakemake itself, and scripts that outlived it (they stop by themselves, see _script.py).
alive() {
    local process
    for process in /proc/[0-9]*; do
        if [ "$(readlink "$process/cwd" 2>/dev/null)" = "$PWD" ] &&
            tr '\0' ' ' <"$process/cmdline" 2>/dev/null | grep -qE "$1"; then
            echo "${process#/proc/}"
            return 0
        fi
    done
    return 1
}

mkdir -p .snakemake
exec 9>.snakemake/run_graph.lock
if ! flock --nonblock 9 || pid=$(alive 'bin/snakemake '); then
    echo "error: another run of this graph is alive in $PWD${pid:+ (process $pid)}; wait for it or stop it" >&2
    exit 1
fi
for _ in $(seq 60); do
    alive '\.snakemake/scripts/' >/dev/null || break
    sleep 1
done
if [ -n "$(ls -A .snakemake/locks 2>/dev/null)" ]; then
    snakemake --unlock --quiet all
fi
exec snakemake "$@"
