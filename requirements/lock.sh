#!/bin/sh
# Resolve every .in into a .txt with hashes and no addresses: `requirements/lock.sh PIP-COMPILE`, which `make lock` calls.
# torch stays out: its CPU and CUDA builds share a version but not a file.
set -eu
cd "$(dirname "$0")"
export CUSTOM_COMPILE_COMMAND="make lock"
pip_compile="$1"
lock() {
    name="$1"
    shift
    "$pip_compile" --quiet --generate-hashes --strip-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-annotate \
        "$@" --output-file "$name.txt" "$name.in"
}
lock run --allow-unsafe
lock dev --allow-unsafe
for part in api worker flower gpu; do
    lock "$part" --allow-unsafe --constraint run.txt
done
lock train --unsafe-package torch --unsafe-package triton
