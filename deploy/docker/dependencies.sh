#!/bin/bash
# Makes a virtual environment with what all services run on: dependencies.sh ENVIRONMENT
# Checked by hash, and as wheels only: nothing is compiled. UV names the program uv, where that is to install instead of pip.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
environment=${1:?the folder to make}
options=(--quiet --require-hashes --only-binary=:all: --requirement "$here/runtime.lock")
python3 -m venv "$environment"
if [ -n "${UV:-}" ]; then
    "$UV" pip install --python "$environment/bin/python" "${options[@]}"
else
    "$environment/bin/python" -m pip install --disable-pip-version-check "${options[@]}"
fi
