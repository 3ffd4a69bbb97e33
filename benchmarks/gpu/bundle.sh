#!/usr/bin/env bash
# Collects what check.sh needs on a machine without network: some 30 MiB of wheels, and this project's own.
#
#   benchmarks/gpu/bundle.sh [PYTHON-VERSION]       # of the machine with the GPU; 3.12 unless given
#   tar czf gpu-check.tgz benchmarks/gpu            # carry that there, unpack it, and: bash benchmarks/gpu/check.sh
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
version=${1:-3.12}
python=${PYTHON:-python3}
wheels=$here/wheels
rm -rf "$wheels"
mkdir -p "$wheels"
# Not by what each needs: that would bring NumPy, SciPy, pandas and Matplotlib, 150 MiB that the machine has.
"$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
  --python-version "$version" --implementation cp --abi "cp${version/./}" --abi abi3 --abi none \
  --platform manylinux2014_x86_64 --platform manylinux_2_28_x86_64 --platform any \
  --constraint "$root/constraints.txt" --requirement "$here/wheels.txt" --dest "$wheels"
"$python" -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$wheels" "$root"
echo "$(find "$wheels" -name '*.whl' | wc -l) wheels, $(du -sm "$wheels" | cut -f1) MiB, in $wheels"
