#!/usr/bin/env bash
# Bring up a real SLURM on one Debian machine, for tests and for trying out voltscreen's jobs:
# one controller, two nodes of two fake GPUs each, a third node that is far away and down.
# Run it again whenever you like: what runs is left alone, what died is started.
#
#   slurm/test_cluster/up.sh                  without accounting: no sacct
#   ACCOUNTING=1 slurm/test_cluster/up.sh     with slurmdbd and MariaDB
#
# Everything lies in $CLUSTER (default /var/tmp/voltscreen-slurm), a munge daemon of its own
# included; nothing in /etc is touched. Needs root: nodes start jobs, and GPUs are device files.
# SLURM's commands find it by the variable that the last line says.
set -euo pipefail
CLUSTER=${CLUSTER:-/var/tmp/voltscreen-slurm}
ACCOUNTING=${ACCOUNTING:-0}
NODES=${NODES:-2} CPUS=${CPUS:-4} MEMORY=${MEMORY:-6000} GPUS=${GPUS:-2}

[ "$(id -u)" = 0 ] || { echo "up.sh must run as root" >&2; exit 2; }
programs=(slurmctld slurmd sbatch squeue munged)
[ "$ACCOUNTING" = 1 ] && programs+=(slurmdbd mariadbd)
for program in "${programs[@]}"; do
  command -v "$program" >/dev/null || {
    echo "$program is missing: apt-get install slurm-wlm slurmdbd mariadb-server munge" >&2
    exit 3
  }
done

alive() { [ -s "$1" ] && kill -0 "$(cat "$1")" 2>/dev/null; }
wait_for() { # seconds, command...
  local end=$((SECONDS + $1)); shift
  until timeout 10 "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$end" ] || { echo "still failing: $*" >&2; return 1; }
    sleep 0.2
  done
}

run=$CLUSTER/run log=$CLUSTER/log
mkdir -p "$CLUSTER" "$run" "$log" "$CLUSTER/state" "$CLUSTER/dev"
chmod 0755 "$CLUSTER" "$run"
for i in $(seq "$NODES"); do mkdir -p "$CLUSTER/spool.vs$i"; done
for i in $(seq 0 $((GPUS - 1))); do
  # The device numbers of /dev/null: SLURM wants a device file and never opens it.
  [ -c "$CLUSTER/dev/nvidia$i" ] || mknod "$CLUSTER/dev/nvidia$i" c 1 3
done

# --- munge: who a request comes from ----------------------------------------------------------
if ! alive "$run/munged.pid"; then
  [ -s "$CLUSTER/munge.key" ] || head -c 1024 /dev/urandom >"$CLUSTER/munge.key"
  chmod 0600 "$CLUSTER/munge.key"
  munged --force --num-threads=4 --socket="$run/munge.socket" --key-file="$CLUSTER/munge.key" \
    --pid-file="$run/munged.pid" --seed-file="$run/munged.seed" --log-file="$log/munged.log" \
    >>"$log/start.log" 2>&1
fi
wait_for 10 munge --no-input --socket="$run/munge.socket"

# A node is ill as long as a file says so: its prolog fails, as that of a node with a broken GPU.
cat >"$CLUSTER/prolog.sh" <<PROLOG
#!/bin/sh
[ ! -e "$CLUSTER/ill.\$SLURMD_NODENAME" ]
PROLOG
chmod 0755 "$CLUSTER/prolog.sh"

# --- configuration ----------------------------------------------------------------------------
accounting="AccountingStorageType=accounting_storage/none"
if [ "$ACCOUNTING" = 1 ]; then
  accounting="AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=16819
# For accounting SLURM takes the path of munge's socket from here.
AccountingStoragePass=$run/munge.socket
AccountingStorageTRES=gres/gpu"
fi
cat >"$CLUSTER/slurm.conf" <<CONF
ClusterName=voltscreen
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A requeued job waits until its credential has expired: two minutes by default.
AuthInfo=socket=$run/munge.socket,cred_expire=10
StateSaveLocation=$CLUSTER/state
SlurmdSpoolDir=$CLUSTER/spool.%n
SlurmctldPidFile=$run/slurmctld.pid
SlurmdPidFile=$run/slurmd.%n.pid
SlurmctldLogFile=$log/slurmctld.log
SlurmdLogFile=$log/slurmd.%n.log
SlurmctldPort=16817
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=5
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_interval=2,batch_sched_delay=0,sched_min_interval=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmdParameters=config_overrides
ReturnToService=2
SlurmdTimeout=10
KillWait=10
MinJobAge=300
JobRequeue=1
GresTypes=gpu
MailProg=/bin/true
Prolog=$CLUSTER/prolog.sh
$accounting
NodeName=DEFAULT CPUs=$CPUS RealMemory=$MEMORY Gres=gpu:$GPUS
$(for i in $(seq "$NODES"); do
    echo "NodeName=vs$i NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=$((17000 + i))"
  done)
# An address that is kept for documentation: nobody answers there.
NodeName=far1 NodeHostname=far1 NodeAddr=192.0.2.1 State=DOWN
PartitionName=DEFAULT Nodes=vs[1-$NODES] MaxTime=02:00:00 DefaultTime=00:10:00 DefMemPerCPU=100
PartitionName=gpu Default=YES PriorityTier=10
PartitionName=scavenge PriorityTier=1 PreemptMode=REQUEUE
PartitionName=far Nodes=far1
CONF
{
  echo "AutoDetect=off"
  for i in $(seq "$NODES"); do
    echo "NodeName=vs$i Name=gpu File=$CLUSTER/dev/nvidia[0-$((GPUS - 1))]"
  done
} >"$CLUSTER/gres.conf"
export SLURM_CONF=$CLUSTER/slurm.conf

# --- accounting -------------------------------------------------------------------------------
if [ "$ACCOUNTING" = 1 ]; then
  socket=$run/mariadb.socket
  if ! alive "$run/mariadb.pid"; then
    mkdir -p "$CLUSTER/mariadb" && chown mysql "$CLUSTER/mariadb"
    [ -d "$CLUSTER/mariadb/mysql" ] || mariadb-install-db --no-defaults --user=mysql \
      --datadir="$CLUSTER/mariadb" --skip-test-db >>"$log/start.log" 2>&1
    chmod 0777 "$run"
    setsid mariadbd --no-defaults --user=mysql --datadir="$CLUSTER/mariadb" --socket="$socket" \
      --bind-address=127.0.0.1 --port=16820 --pid-file="$run/mariadb.pid" \
      --innodb-buffer-pool-size=64M --innodb-lock-wait-timeout=900 \
      >"$log/mariadb.log" 2>&1 </dev/null &
  fi
  wait_for 60 mariadb-admin --no-defaults --socket="$socket" ping
  chmod 0755 "$run"
  mariadb --no-defaults --socket="$socket" -e "
    CREATE DATABASE IF NOT EXISTS slurm_accounting;
    CREATE USER IF NOT EXISTS 'slurm'@'127.0.0.1' IDENTIFIED BY 'slurm';
    CREATE USER IF NOT EXISTS 'slurm'@'localhost' IDENTIFIED BY 'slurm';
    GRANT ALL ON slurm_accounting.* TO 'slurm'@'127.0.0.1', 'slurm'@'localhost';"
  cat >"$CLUSTER/slurmdbd.conf" <<CONF
AuthType=auth/munge
AuthInfo=socket=$run/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=16819
SlurmUser=root
LogFile=$log/slurmdbd.log
PidFile=$run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=16820
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_accounting
CONF
  chmod 0600 "$CLUSTER/slurmdbd.conf"
  alive "$run/slurmdbd.pid" || slurmdbd >>"$log/start.log" 2>&1 </dev/null
  wait_for 60 sacctmgr -n -i show cluster
  sacctmgr -n show cluster format=cluster | grep -q voltscreen ||
    sacctmgr -i add cluster voltscreen >/dev/null
fi

# --- controller and nodes ---------------------------------------------------------------------
alive "$run/slurmctld.pid" || slurmctld >>"$log/start.log" 2>&1 </dev/null
wait_for 30 scontrol ping
for i in $(seq "$NODES"); do
  alive "$run/slurmd.vs$i.pid" || slurmd -N "vs$i" >>"$log/start.log" 2>&1 </dev/null
done
all_up() {
  # Those that respond: sinfo may call a node mixed that is down.
  [ "$(sinfo -h -r -N -p gpu -t idle,mixed,allocated,completing -o %N | sort -u | wc -l)" -ge "$NODES" ]
}
export -f all_up && export NODES
wait_for 60 bash -c all_up || {
  sinfo -N >&2
  tail -n 10 "$log"/slurm*.log >&2
  exit 1
}
echo "SLURM runs on $NODES nodes. Use it with:"
echo "export SLURM_CONF=$SLURM_CONF"
