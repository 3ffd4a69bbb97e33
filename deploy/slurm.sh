#!/usr/bin/env bash
#SBATCH --job-name=swarm
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --requeue
#SBATCH --signal=B:USR1@300
#SBATCH --open-mode=append
#SBATCH --output=swarm-%A-%a.log
#
# The service on a Slurm cluster. From a checkout, where `swarm` is in the PATH:
#
#   sbatch --time=7-0 --mem=8G deploy/slurm.sh service
#   sbatch --time=12:00:00 --array=1-8 --gpus-per-node=4 --cpus-per-task=16 --mem=0 deploy/slurm.sh workers
#
# The first is one job for scheduler and master. The second is one job for each of 8 nodes, which joins when its turn
# comes, with all GPUs that Slurm gives it; options of `swarm worker` may follow: `workers --slots 16` where there are none.
# Five minutes before its time is over, Slurm tells it (SIGUSR1): its trainings save and go on elsewhere, and the
# job goes back into the queue, to come again, as that of the service does; `scancel` ends one for good. Both meet in a
# folder that all nodes see, $SWARM_FOLDER, or shared/ where they are submitted. It holds certificates as well: other
# users of the cluster reach these nodes, too. You submit as yourself:
#
#   export DASK_CONFIG=shared/certificates/$USER/tls.yaml
#   swarm submit job.yaml --scheduler "$(deploy/slurm.sh address)"
#
# The store is SQLite in that folder, which only the master opens. SWARM_STORE names another, such as one in PostgreSQL.
set -euo pipefail

root=${SLURM_SUBMIT_DIR:-$PWD} # Slurm runs a copy of this file that lies elsewhere
folder=${SWARM_FOLDER:-$root/shared}
scheduler_file=$folder/scheduler.json
certificates=$folder/certificates
told='' # the signal by which Slurm has said that the time is over, or nearly
worker=
missed= # a signal that came before the worker's process was known

keep() { # COMMAND…: start it again whenever it ends
    while :; do
        "$@" || true
        echo "$* has ended; it starts again in 5 s" >&2
        sleep 5
    done
}

as() { # OWNER COMMAND…: with that certificate
    DASK_CONFIG=$certificates/$1/tls.yaml "${@:2}"
}

service() {
    trap requeue USR1
    mkdir -p "$folder"
    "$root/deploy/make-certificates" "$certificates" "$(id -un)"
    rm -f "$scheduler_file" # of a job before this one
    keep as scheduler swarm scheduler --host "$(hostname)" --port "${SWARM_PORT:-8786}" --dashboard 127.0.0.1:8787 \
        --scheduler-file "$scheduler_file" &
    wait_for_scheduler
    keep as master swarm master --scheduler-file "$scheduler_file" --store "${SWARM_STORE:-sqlite:///$folder/swarm.db}" \
        --results "$folder/results" --checkpoints "$folder/checkpoints" &
    wait
}

workers() { # OPTION…
    [ $# -gt 0 ] || set -- --gpus all
    trap 'told=USR1; tell USR1' USR1
    trap 'told=TERM; tell TERM' TERM
    wait_for_scheduler
    while [ -z "$told" ]; do
        DASK_CONFIG=$certificates/worker/tls.yaml \
            swarm worker --scheduler-file "$scheduler_file" --grace 240s "$@" &
        worker=$!
        if [ -n "$missed" ]; then tell "$missed"; fi
        while kill -0 "$worker" 2>/dev/null; do wait "$worker" || true; done # a signal ends the waiting alone
        worker=
        [ -n "$told" ] || sleep 5
    done
    [ "$told" = TERM ] || requeue
}

tell() { # SIGNAL: pass it on to the worker, now or as soon as its process is known
    if [ -n "$worker" ]; then kill "-$1" "$worker" 2>/dev/null || true; else missed=$1; fi
}

requeue() {
    if [ -n "${SLURM_JOB_ID:-}" ]; then scontrol requeue "$SLURM_JOB_ID"; fi
}

wait_for_scheduler() {
    until [ -s "$scheduler_file" ]; do sleep 2; done
}

address() {
    sed -n 's/.*"address": "\([^"]*\)".*/\1/p' "$scheduler_file"
}

case ${1:-} in
    service | workers | address) "$@" ;;
    *)
        echo "usage: sbatch … deploy/slurm.sh service | workers [OPTION…]; see the head of this file" >&2
        exit 2
        ;;
esac
