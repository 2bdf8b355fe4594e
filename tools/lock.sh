#!/bin/bash
# Resolves requirements.in for every platform and Python from 3.11 on, and from that what images are built with and run.
# The locks name versions and hashes, never an index: from where packages come is each machine's own pip configuration.
set -euo pipefail
cd "$(dirname "$0")/.."

compile() {
    local output=$1
    shift
    .venv/bin/uv --no-config pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-annotate --custom-compile-command "make lock" --output-file "$output" "$@"
    if grep -nE '^ *(-i|--index-url|--extra-index-url|-f|--find-links)|://' "$output"; then
        echo "lock: $output names an address" >&2
        exit 1
    fi
}

compile requirements.lock requirements.in "$@"
sed '/^# Build, check, test/,$d' requirements.in > deploy/docker/runtime.in
trap 'rm -f deploy/docker/runtime.in' EXIT
compile deploy/docker/runtime.lock deploy/docker/runtime.in --constraints requirements.lock
compile deploy/docker/build.lock deploy/docker/build.in --constraints requirements.lock
