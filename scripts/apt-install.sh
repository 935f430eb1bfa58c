#!/bin/sh
# Installs Debian packages so that none of their services starts, now or at the next boot. Exit status 3: cannot, says why.
set -eu

if ! command -v apt-get >/dev/null; then
    echo "no apt-get on this machine: packages cannot be installed by themselves" >&2
    exit 3
fi
if [ "$(id -u)" != 0 ]; then
    if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        exec sudo -n sh "$0" "$@"
    fi
    echo "neither root nor sudo without a password; as root: apt-get install --no-install-recommends $*" >&2
    exit 3
fi

log=$(mktemp)
policy=/usr/sbin/policy-rc.d
ours=
cleanup() {
    rm -f "$log"
    [ -z "$ours" ] || rm -f "$policy"
}
trap cleanup EXIT
trap 'exit 130' HUP INT TERM

# Debian's maintainer scripts ask this program before they start a service; 101 means: do not. A policy that is there
# already is the machine's own: it stays.
if (set -C && printf '#!/bin/sh\nexit 101\n' >"$policy") 2>/dev/null; then
    ours=yes
    chmod 755 "$policy"
fi

new=
for package in "$@"; do
    dpkg -s "$package" >/dev/null 2>&1 || new="$new $package"
done

install() {
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=300 "$@" >"$log" 2>&1
}
# Package lists may be missing (images have none) or too old.
if ! install "$@"; then
    if ! { apt-get update >>"$log" 2>&1 && install "$@"; }; then
        tail -n 20 "$log" >&2
        exit 1
    fi
fi

if command -v systemctl >/dev/null; then
    for package in $new; do
        for unit in $(dpkg -L "$package" | sed -n 's#.*/systemd/system/\([^/@]*\.service\)$#\1#p'); do
            systemctl disable --quiet "$unit" 2>/dev/null || echo "note: $unit could not be disabled" >&2
        done
    done
fi
