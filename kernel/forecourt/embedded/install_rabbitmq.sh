#!/bin/sh
# Installs rabbitmq-server as root, and leaves the package's own service neither started nor enabled: what is wanted is
# the program. Whether to start services while packages are installed is asked of /usr/sbin/policy-rc.d; the answer
# "no" is put there for the while, and what was there is put back.
set -eu

policy=/usr/sbin/policy-rc.d
put_back() {
    if [ -e "$policy.forecourt" ]; then mv -f "$policy.forecourt" "$policy"; else rm -f "$policy"; fi
}

# The port mapper's units come with Erlang, and stay as they are where Erlang was there before.
units="rabbitmq-server.service"
command -v epmd >/dev/null || units="$units epmd.service epmd.socket"

disable_service() {
    if command -v systemctl >/dev/null; then
        # shellcheck disable=SC2086
        systemctl --quiet disable $units || true
    elif command -v update-rc.d >/dev/null; then
        update-rc.d rabbitmq-server disable || true
    fi
}

if command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    install="apt-get install -q -y -o DPkg::Lock::Timeout=300 --no-install-recommends rabbitmq-server"
    [ ! -e "$policy" ] || cp -p "$policy" "$policy.forecourt"
    trap put_back EXIT
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod 755 "$policy"
    $install || { apt-get update -q && $install; }
    disable_service
elif command -v dnf >/dev/null; then
    dnf install -q -y rabbitmq-server
elif command -v apk >/dev/null; then
    apk add --quiet rabbitmq-server
else
    echo "no package manager that is known here (apt-get, dnf, apk)" >&2
    exit 1
fi
