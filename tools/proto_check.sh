#!/bin/bash
# Checks the style of proto/ and refuses changes that would break its users.
# The contract that users have is main's: what a branch began from; on main itself, what it was before the last change.
set -euo pipefail
cd "$(dirname "$0")/.."
buf=.venv/bin/buf

exists() { git rev-parse --verify --quiet "$1^{commit}" >/dev/null; }

# The commit to compare with; nothing where there is none yet.
base() {
    exists HEAD || return 0
    local main began changed
    for main in origin/main main HEAD; do ! exists "$main" || break; done
    began=$(git merge-base HEAD "$main" || git rev-parse "$main")
    if [ "$began" != "$(git rev-parse HEAD)" ] || [ -n "$(git status --porcelain -- proto/crm)" ]; then
        echo "$began"
        return
    fi
    # HEAD is on main, and compared with itself nothing is ever broken.
    changed=$(git log -1 --first-parent --format=%H -- proto/crm)
    if [ -n "$changed" ] && exists "$changed^"; then git rev-parse "$changed^"; fi
}

"$buf" lint
"$buf" format --diff --exit-code

base=$(base)
if [ -z "$base" ]; then
    echo "proto: no commit to compare the contract with"
elif [ -z "$(git ls-tree -r --name-only "$base" -- proto/crm)" ]; then
    echo "proto: $base has no contract yet to compare with"
else
    before=$(mktemp -d)
    trap 'rm -rf "$before"' EXIT
    git archive "$base" -- proto/crm | tar -x -C "$before"
    cp buf.yaml "$before/"
    "$buf" breaking --against "$before"
    echo "proto: nothing that $(git log -1 --format='%h, of %cs,' "$base") promises is broken"
fi
