#!/bin/bash
# Makes a virtual environment with what all services run on: dependencies.sh ENVIRONMENT
# Checked by hash, and as wheels only: nothing is compiled. The lock is complete: resolving again would be a chance to differ.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
environment=${1:?the folder to make}
python3 -m venv "$environment"
"$environment/bin/python" -m pip install --disable-pip-version-check --quiet \
    --no-deps --require-hashes --only-binary=:all: --requirement "$here/runtime.lock"
