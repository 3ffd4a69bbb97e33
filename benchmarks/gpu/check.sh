#!/usr/bin/env bash
# What dask-swarm does on one NVIDIA GPU, in eight minutes at most, on a bare x86-64 machine that has torch, JAX and the
# scientific stack, but neither network nor Dask. It carries its wheels: bundle.sh collects them first.
#
#   bash benchmarks/gpu/check.sh [--out FOLDER] [--seconds 470] [--only NAME,NAME]
#   bash benchmarks/gpu/check.sh --cpu            # what can be checked without a GPU, with what is installed here
#
# PY names an interpreter that has all; without it a virtual environment is made of the machine's python3 and the wheels.
set -u
here=$(cd "$(dirname "$0")" && pwd)
began=$(date +%s)
out=
cpu=
for ((i = 1; i <= $#; i++)); do
  [ "${!i}" = --cpu ] && cpu=yes
  [ "${!i}" = --out ] && next=$((i + 1)) && out=${!next:-}
done
out=${out:-$(mktemp -d)}
mkdir -p "$out"
if [ -z "${PY:-}" ] && [ -n "$cpu" ]; then PY=python3; fi
if [ -z "${PY:-}" ]; then
  PY=$out/venv/bin/python
  if ! { python3 -m venv --system-site-packages "$out/venv" &&
    "$PY" -m pip install --quiet --no-index --no-deps --find-links "$here/wheels" "$here"/wheels/*.whl; } >"$out/pip.log" 2>&1; then
    echo "the wheels cannot be installed, see $out/pip.log; collect them with benchmarks/gpu/bundle.sh" >&2
    tail -3 "$out/pip.log" >&2
    exit 2
  fi
fi
exec "$PY" "$here/check.py" --out "$out" --began "$began" "$@"
