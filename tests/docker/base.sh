#!/usr/bin/env bash
# base.sh debian:SUITE-slim: makes sure that the engine at DOCKER_HOST has this image. It may be there, or be pulled; where
# no image registry is reached, root makes it from Debian's packages, in the likeness of the official one. Status 3: cannot.
set -euo pipefail
image=$1
suite=${image#debian:}
suite=${suite%-slim}
cache=${DOCKSTACK_TEST_CACHE:-/var/tmp/dockstack-cache}
archive=$cache/debian-$suite-slim.tar

# Root certificates that this machine was given must be in an image that is made here, or nothing can be installed in it.
certificates=/usr/local/share/ca-certificates
stamp=$(cat $certificates/*.crt 2>/dev/null | sha256sum | cut -c1-16)

if labels=$(docker image inspect --format '{{with .Config}}{{json .Labels}}{{end}}' "$image" 2>/dev/null); then
    # A pulled image has no label. One of ours is good as long as the certificates are those that it was made with.
    case $labels in "" | null | "{}" | "{\"tests.base\":\"$stamp\"}") exit 0 ;; esac
fi
timeout 120 docker pull --quiet "$image" >/dev/null 2>&1 && exit 0

say() { echo "base.sh: $*" >&2; }
[ "$(id -u)" = 0 ] || { say "cannot be pulled, and only root can make it"; exit 3; }
command -v debootstrap >/dev/null || { say "cannot be pulled, and debootstrap is not installed"; exit 3; }

make_archive() {
    local work root sources mirror security
    work=$(mktemp -d)
    # shellcheck disable=SC2064  # the directory of now
    trap "rm -rf '$work'" EXIT
    root=$work/root
    # From where this machine takes its own packages.
    sources=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' | sort -u)
    mirror=$(awk '$2 !~ /-(security|updates|backports)$/ { print $1; exit }' <<<"$sources")
    security=$(awk '$2 ~ /-security$/ { print $1; exit }' <<<"$sources")
    [ -n "$mirror" ] || { say "apt knows no source of packages here; run apt-get update"; exit 3; }

    debootstrap --variant=minbase "$suite" "$root" "${mirror%/}" >"$work/log" 2>&1 || { tail -20 "$work/log" >&2; exit 1; }
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod 755 "$root/usr/sbin/policy-rc.d"
    echo force-unsafe-io >"$root/etc/dpkg/dpkg.cfg.d/docker-apt-speedup"
    printf 'path-exclude /usr/share/%s/*\n' man locale groff info lintian doc >"$root/etc/dpkg/dpkg.cfg.d/slim"
    echo 'path-include /usr/share/doc/*/copyright' >>"$root/etc/dpkg/dpkg.cfg.d/slim"
    printf '%s\n' 'Acquire::Languages "none";' 'Acquire::GzipIndexes "true";' \
        'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };' \
        'Dir::Cache::pkgcache ""; Dir::Cache::srcpkgcache "";' >"$root/etc/apt/apt.conf.d/docker-clean"

    rm -f "$root/etc/apt/sources.list"
    {
        source_entry "$mirror" "$suite $suite-updates"
        [ -z "$security" ] || source_entry "$security" "$suite-security"
    } >"$root/etc/apt/sources.list.d/debian.sources"
    find "$root/usr/share/doc" -mindepth 2 ! -type d ! -name copyright -delete
    rm -rf "$root"/usr/share/{man,locale,groff,info,lintian}/* "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin \
        "$root"/var/cache/apt/archives/*.deb "$root"/var/log/{bootstrap,dpkg,alternatives}.log "$root"/etc/{hostname,resolv.conf}
    : >"$root/etc/machine-id"
    mkdir -p "$root$certificates"
    ! compgen -G "$certificates/*.crt" >/dev/null || cp -L "$certificates"/*.crt "$root$certificates/"
    tar -C "$root" --numeric-owner --sort=name --one-file-system -cf "$archive.new" .
    mv "$archive.new" "$archive"
    echo "$stamp" >"$archive.stamp"
}

source_entry() {
    printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n\n' \
        "${1%/}" "$2" /usr/share/keyrings/debian-archive-keyring.gpg
}

mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
# A week is as old as a base may be whose security updates matter to what the tests show.
if [ ! -s "$archive" ] || [ "$(cat "$archive.stamp" 2>/dev/null)" != "$stamp" ] || [ -n "$(find "$archive" -mtime +7)" ]; then
    (make_archive)
fi
docker import --change "LABEL tests.base=$stamp" --change 'CMD ["bash"]' \
    --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' "$archive" "$image" >/dev/null
