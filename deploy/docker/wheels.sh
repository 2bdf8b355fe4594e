#!/bin/bash
# Builds the wheels of one service and of what it shares with the others: wheels.sh SERVICE FOLDER
# SERVICE is a folder below services/. The programs of build.lock are on the PATH.
set -euo pipefail
cd "$(dirname "$0")/../.."
service=${1:?the service, a folder below services/} into=${2:?the folder for the wheels}
[ -f "services/$service/pyproject.toml" ] ||
    { echo "wheels: there is no service $service" >&2; exit 2; }
[ -f proto/gen/.stamp ] || { tools/proto_generate.sh && touch proto/gen/.stamp; }
mkdir -p "$into"
python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index \
    --wheel-dir "$into" ./proto ./kernel ./services/common "./services/$service"
