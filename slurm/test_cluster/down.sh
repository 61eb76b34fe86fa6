#!/usr/bin/env bash
# Cancel every job of the test cluster and stop what up.sh started, by the pids that it left.
# State and logs stay in $CLUSTER; WIPE=1 removes them. Running it twice does no harm.
set -uo pipefail
CLUSTER=${CLUSTER:-/var/tmp/voltscreen-slurm}
[ -d "$CLUSTER" ] || exit 0
export SLURM_CONF=$CLUSTER/slurm.conf
run=$CLUSTER/run

stop() { # pid file
  [ -s "$1" ] || return 0
  local pid
  pid=$(cat "$1")
  kill "$pid" 2>/dev/null
  for _ in $(seq 100); do
    kill -0 "$pid" 2>/dev/null || { rm -f "$1"; return 0; }
    sleep 0.1
  done
  kill -9 "$pid" 2>/dev/null
  rm -f "$1"
}

if [ -s "$run/slurmctld.pid" ] && kill -0 "$(cat "$run/slurmctld.pid")" 2>/dev/null; then
  timeout 10 scancel --user="$(id -un)"
  # Nodes that stop first would leave their jobs behind.
  for _ in $(seq 75); do
    [ -n "$(timeout 5 squeue -h -o %i)" ] || break
    sleep 0.2
  done
fi
for file in "$run"/slurmd.*.pid "$run/slurmctld.pid" "$run/slurmdbd.pid" "$run/mariadb.pid" \
  "$run/munged.pid"; do
  stop "$file"
done
[ "${WIPE:-0}" = 1 ] && rm -rf "$CLUSTER"
exit 0
