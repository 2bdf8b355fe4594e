#!/bin/bash
# Generates Python modules and type stubs from proto/crm into proto/gen.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH="$PWD/.venv/bin:$PATH"

mapfile -t files < <(find proto/crm -name '*.proto' | sort)
fresh=$(mktemp -d proto/gen-XXXXXX)
trap 'rm -rf "$fresh"' EXIT
python -m grpc_tools.protoc -Iproto \
    --python_out="$fresh" --grpc_python_out="$fresh" --mypy_out=quiet:"$fresh" --mypy_grpc_out=quiet:"$fresh" "${files[@]}"
# Type checkers want packages, and the mark that these are typed.
find "$fresh/crm" -type d -exec touch {}/__init__.py \;
touch "$fresh/crm/py.typed"

# In place and file by file: a process that imports the stubs right now must never find the folder empty.
mkdir -p proto/gen
(cd "$fresh" && find . -type f) | sort > "$fresh.now"
(cd proto/gen && find . -type f ! -name .stamp ! -name '*.pyc') | sort > "$fresh.before"
comm -13 "$fresh.now" "$fresh.before" | (cd proto/gen && xargs -r -d '\n' rm -f)
rm -f "$fresh.now" "$fresh.before"
cp -R "$fresh/." proto/gen/
touch proto/gen/.stamp
