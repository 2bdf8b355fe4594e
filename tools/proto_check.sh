#!/bin/bash
# Checks the style of proto/ and refuses changes that would break its users.
# The contract that users have is the one on origin/main; where there is no such branch, the last commit's.
set -euo pipefail
cd "$(dirname "$0")/.."
buf=.venv/bin/buf

"$buf" lint
"$buf" format --diff --exit-code

base=HEAD
git rev-parse --verify --quiet origin/main >/dev/null && base=origin/main
if ! git rev-parse --verify --quiet "$base" >/dev/null; then
    echo "proto: no commit to compare the contract with"
elif [ -z "$(git ls-tree -r --name-only "$base" -- proto/crm)" ]; then
    echo "proto: $base has no contract yet to compare with"
else
    before=$(mktemp -d)
    trap 'rm -rf "$before"' EXIT
    git archive "$base" -- proto/crm | tar -x -C "$before"
    cp buf.yaml "$before/"
    "$buf" breaking --against "$before"
    echo "proto: nothing that $base promises is broken"
fi
