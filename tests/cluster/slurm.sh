# A Slurm cluster of one node with two processors in a folder, started by hand, for tests: source it.
#   start_slurm FOLDER     as root on Debian, with the packages slurm-wlm and munge; stop_slurm ends what it started.
# No control groups and no accounting, which a test machine may not have: memory is watched every second instead.

SLURM_PROCESSES=()

start_slurm() {
    local folder=$1 host
    host=$(hostname -s)
    mkdir -p "$folder"/{state,spool,munge,log}
    chmod 755 "$folder"
    export SLURM_CONF=$folder/slurm.conf

    dd if=/dev/urandom of="$folder/munge/key" bs=1 count=1024 status=none
    chmod 400 "$folder/munge/key"
    chown -R munge: "$folder/munge"
    chmod 755 "$folder/munge"
    runuser -u munge -- munged --foreground --key-file="$folder/munge/key" --socket="$folder/munge/socket" \
        --pid-file="$folder/munge/pid" --log-file="$folder/munge/log" --seed-file="$folder/munge/seed" &
    SLURM_PROCESSES=($!)
    for _ in $(seq 20); do
        [ -S "$folder/munge/socket" ] && break
        kill -0 $! 2>/dev/null || break
        sleep 0.5
    done
    [ -S "$folder/munge/socket" ] || { echo "munged did not start; may its user enter $folder?" >&2; return 1; }

    cat >"$SLURM_CONF" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmctldPort=${SLURM_PORT:-16817}
SlurmdPort=$((${SLURM_PORT:-16817} + 1))
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/log/slurmctld
SlurmdLogFile=$folder/log/slurmd
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill,UsePss
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
AccountingStorageType=accounting_storage/none
ReturnToService=2
SchedulerParameters=batch_sched_delay=0,sched_interval=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 RealMemory=${SLURM_MEMORY_MB:-8000} State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
    slurmctld -D -c &
    SLURM_PROCESSES+=($!)
    slurmd -D &
    SLURM_PROCESSES+=($!)
    for _ in $(seq 60); do
        [ "$(sinfo --noheader --format=%T 2>/dev/null)" = idle ] && return 0
        sleep 1
    done
    echo "The cluster did not start; see $folder/log." >&2
    tail -n 5 "$folder"/log/* >&2
    return 1
}

stop_slurm() {
    [ ${#SLURM_PROCESSES[@]} -gt 0 ] || return 0
    scancel --quiet --partition=main 2>/dev/null || true
    sleep 2
    kill "${SLURM_PROCESSES[@]}" 2>/dev/null || true
    for _ in $(seq 10); do
        kill -0 "${SLURM_PROCESSES[@]}" 2>/dev/null || break
        sleep 1
    done
    kill -KILL "${SLURM_PROCESSES[@]}" 2>/dev/null || true
    wait "${SLURM_PROCESSES[@]}" 2>/dev/null || true
}
