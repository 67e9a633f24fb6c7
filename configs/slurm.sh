#!/bin/bash
# Draw a job file with an array of SLURM jobs, and put the parts together when all have ended:
#   bash slurm.sh jobs.yaml 16
# The parts lie in parts/, the result in all/. Submit it again after a failure: what is drawn is not drawn again.
# With GPUs, add --gpus-per-task=1. The threads must be the same everywhere: they change the last bits.
set -euo pipefail
jobs=$1
shards=${2:-8}

case ${STEP:-submit} in
submit)
    array=$(STEP=draw sbatch --parsable --job-name=sd --array=1-"$shards" --cpus-per-task=8 --mem=16G --time=4:00:00 \
        "$0" "$jobs" "$shards")
    STEP=merge sbatch --parsable --job-name=sd-merge --dependency=afterany:"$array" --mem=8G "$0" "$jobs" "$shards"
    ;;
draw)
    sd batch "$jobs" --shard "$SLURM_ARRAY_TASK_ID/$shards" -o "parts/$SLURM_ARRAY_TASK_ID" --threads 8
    ;;
merge)
    # shellcheck disable=SC2046
    sd batch "$jobs" --threads 8 $(printf -- '--merge %s ' parts/*) -o all \
        --sheet all/sheet.png --gallery all/gallery.html
    ;;
esac
