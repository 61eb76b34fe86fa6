#!/bin/bash
%%{directives}

# Written by voltscreen. A task of the array is a job with workers that take batches until none is
# ready or the wall time is nearly over. Requeued, it starts again and finds its batch.

%%{setup}
%%{environment}
export VOLTSCREEN_JOB_END=$(($(date +%s) + %%{wall_seconds}))

# Each worker sees one GPU of the allocation, in turn.
IFS=, read -ra gpus <<<"${CUDA_VISIBLE_DEVICES:-}"
workers=()
for ((i = 0; i < %%{workers}; i++)); do
  ((${#gpus[@]})) && export CUDA_VISIBLE_DEVICES=${gpus[i % ${#gpus[@]}]}
  %%{command} &
  workers+=($!)
done

# SLURM tells this shell alone that the wall time nears (--signal=B:USR1).
trap 'kill -USR1 "${workers[@]}" 2>/dev/null' USR1
trap 'kill -TERM "${workers[@]}" 2>/dev/null' TERM
code=0
for worker in "${workers[@]}"; do
  wait "$worker"
  ended=$?
  # A signal ends the waiting, not the worker.
  while kill -0 "$worker" 2>/dev/null; do
    wait "$worker"
    ended=$?
  done
  ((ended > code)) && code=$ended
done
exit "$code"
