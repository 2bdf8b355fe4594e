#!/bin/bash
# Resolves requirements.in for every platform and Python from 3.11 on. The lock names versions and hashes, never an
# index: from where packages come is each machine's own pip configuration.
set -euo pipefail
cd "$(dirname "$0")/.."
.venv/bin/uv --no-config pip compile requirements.in --quiet --universal --python-version 3.11 --generate-hashes \
    --no-emit-index-url --no-annotate --custom-compile-command "make lock" --output-file requirements.lock "$@"
if grep -nE '^ *(-i|--index-url|--extra-index-url|-f|--find-links)|://' requirements.lock; then
    echo "lock: requirements.lock names an address" >&2
    exit 1
fi
