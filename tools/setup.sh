#!/bin/bash
# Makes .venv with exactly what requirements.lock names, and this repository's own distributions, editable.
# The Makefile calls it when the lock or a pyproject.toml is newer than the stamp of the last run.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}

say() { printf 'setup: %s\n' "$*" >&2; }

# Engineers, editors and CI may ask for the environment at the same moment.
if command -v flock >/dev/null && [ -z "${FORECOURT_SETUP_LOCKED:-}" ]; then
    FORECOURT_SETUP_LOCKED=1 exec flock "${TMPDIR:-/tmp}/forecourt-setup-$(id -u)-$(pwd | cksum | cut -d' ' -f1).lock" "$0" "$@"
fi

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    { say "Python 3.11 or newer is needed; set PYTHON to one (found: $("$python" --version 2>&1))"; exit 1; }

install_venv_module() {
    local elevate=()
    if [ "$(id -u)" -ne 0 ]; then
        if ! sudo -n true 2>/dev/null; then
            say "this Python cannot make virtual environments: install the package python3-venv (Debian, Ubuntu) and run again"
            exit 1
        fi
        elevate=(sudo -n)
    fi
    if ! command -v apt-get >/dev/null; then
        say "this Python cannot make virtual environments: install your system's package with the modules venv and ensurepip"
        exit 1
    fi
    local package
    package=python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv
    say "installing $package with apt-get"
    local options=(-qq -y -o DPkg::Lock::Timeout=120 --no-install-recommends)
    "${elevate[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install "${options[@]}" "$package" >/dev/null ||
        { "${elevate[@]}" apt-get update -qq &&
          "${elevate[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install "${options[@]}" "$package" >/dev/null; }
}

if ! .venv/bin/python -c 'import pip' 2>/dev/null; then
    "$python" -c 'import venv, ensurepip' 2>/dev/null || install_venv_module
    say "making .venv"
    "$python" -m venv --clear .venv
fi

pip=(.venv/bin/python -m pip --disable-pip-version-check)
if ! cmp -s requirements.lock .venv/installed.lock; then
    say "installing requirements.lock"
    # The lock is complete. Resolving again would be a chance to differ: old versions of pip take a newer release than the
    # one that is locked where a package asks for it with an extra, and then refuse it for having no hash.
    "${pip[@]}" install -q --no-deps --require-hashes -r requirements.lock
    "${pip[@]}" check >&2
    cp requirements.lock .venv/installed.lock
fi

say "installing this repository's own distributions"
mkdir -p proto/gen
own=()
for file in kernel/pyproject.toml proto/pyproject.toml services/*/pyproject.toml demo/pyproject.toml; do
    own+=(-e "$(dirname "$file")")
done
"${pip[@]}" install -q --no-deps --no-build-isolation --no-index "${own[@]}"
touch .venv/stamp
