#!/usr/bin/env bash
# Workers on a list of machines, by SSH.
#
#   deploy/ssh.sh start HOSTS tls://SCHEDULER:8786 --gpus all      # options as of `swarm worker`
#   deploy/ssh.sh status HOSTS
#   deploy/ssh.sh stop HOSTS
#
# HOSTS is a file with a machine on each line, as ssh takes it. You must be able to log in without a password, and
# `swarm` must be in the PATH there; if it is not, name it: SWARM=/opt/swarm/bin/swarm. With TLS, DASK_CONFIG names the
# configuration on those machines: DASK_CONFIG=/etc/swarm/worker/tls.yaml. Logs are there in ~/.swarm.
set -euo pipefail

usage() {
    echo "usage: deploy/ssh.sh start|status|stop HOSTS [SCHEDULER OPTION…]; see the head of this file" >&2
    exit 2
}

# What runs there. Each machine has a file of its own, since the home folder may be shared.
there=$(
    cat <<'END'
set -eu
mkdir -p "$HOME/.swarm"
log="$HOME/.swarm/worker-$(hostname)"
pid=$(cat "$log.pid" 2>/dev/null || true)
running() { [ -n "$pid" ] && ps -ww -o args= -p "$pid" | grep -q ' worker '; }
case $1 in
    start)
        shift
        if running; then echo "runs already"; exit; fi
        setsid nohup "$@" >"$log.log" 2>&1 </dev/null &
        pid=$!
        echo "$pid" >"$log.pid"
        for _ in $(seq 100); do # until it has said something; what cannot start says why, and ends
            sleep 0.1
            if [ -s "$log.log" ]; then
                sleep 1
                break
            fi
            kill -0 "$pid" 2>/dev/null || break
        done
        if ! kill -0 "$pid" 2>/dev/null; then
            rm -f "$log.pid"
            echo "not started: $(tail -n 1 "$log.log")"
            exit 1
        fi
        echo started
        ;;
    status)
        if running; then echo running; else echo stopped; fi
        ;;
    stop)
        if running; then
            kill -TERM "$pid" # its trainings have a minute to save, unless it was started with another --grace
            for _ in $(seq 800); do running || break; sleep 0.1; done
            if running; then kill -KILL -- "-$pid"; fi
        fi
        rm -f "$log.pid"
        echo stopped
        ;;
esac
END
)

on_each_host() { # HOSTS WORD…: on all of them at the same time; fails if one fails
    local host words failed=0 calls=()
    words=$(printf '%q ' "${@:2}")
    while read -r host; do
        [[ -n $host && $host != \#* ]] || continue
        ssh -o BatchMode=yes "$host" "bash -s -- $words" <<<"$there" 2>&1 | while read -r line; do
            echo "$host: $line"
        done &
        calls+=($!)
    done <"$1"
    for call in "${calls[@]}"; do wait "$call" || failed=1; done
    return $failed
}

[ $# -ge 2 ] && [ -r "$2" ] || usage
case $1 in
    start)
        [ $# -ge 3 ] || usage
        environment=()
        if [ -n "${DASK_CONFIG:-}" ]; then environment=("DASK_CONFIG=$DASK_CONFIG"); fi
        on_each_host "$2" start env "${environment[@]}" "${SWARM:-swarm}" worker "${@:3}"
        ;;
    status | stop) on_each_host "$2" "$1" ;;
    *) usage ;;
esac
