#!/bin/bash
# Adds a service to an environment that dependencies.sh has made: install.sh SERVICE WHEELS ENVIRONMENT
set -euo pipefail
service=${1:?the service, a folder below services/} wheels=${2:?the folder with its wheels} environment=${3:?the environment}
pip=("$environment/bin/python" -m pip --disable-pip-version-check --quiet)
"${pip[@]}" install --no-index --no-deps "$wheels"/*.whl
"${pip[@]}" check
# One name in every image: the command of its service.
printf '#!/bin/sh\nexec %s/bin/python -m %s "$@"\n' "$environment" "${service//-/_}" > "$environment/bin/service"
chmod 755 "$environment/bin/service"
