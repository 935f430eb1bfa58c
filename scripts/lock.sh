#!/bin/sh
# Writes the lock files anew from pyproject.toml: hashes for every platform, no index. `lock.sh --upgrade` takes newer versions.
set -eu
cd "$(dirname "$0")/.."
sh scripts/venv.sh runtime

tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
echo "Installing into a temporary directory: uv (writes the lock files)"
.venv/bin/python -m venv "$tools"
"$tools/bin/python" -m pip install --quiet --disable-pip-version-check --quiet 'uv==0.13.9'

compile() {
    out=$1
    shift
    "$tools/bin/uv" pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' --output-file "$out" "$@"
    echo "$out: $(grep -c '^[a-z0-9].*==' "$out") packages"
}
# The larger set decides the versions; the smaller ones follow it, so that one .venv can hold all.
compile requirements-dev.lock --all-extras --group dev --group build "$@"
compile requirements.lock --extra haproxy --extra rabbitmq --extra redis --extra postgresql --extra dns --constraints requirements-dev.lock
# The build group alone: what the package needs to be linked or built, and nothing that it runs on.
"$tools/bin/uv" pip compile --group pyproject.toml:build --quiet --universal --python-version 3.11 --generate-hashes \
    --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' \
    --constraints requirements-dev.lock --output-file requirements-build.lock
