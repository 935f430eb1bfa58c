#!/bin/sh
# Makes .venv equal to the locks. `venv.sh runtime`: what DockStack runs on; `venv.sh dev`: also tests and linters.
# A Python of your choice: make PYTHON=/path/to/python3.12 …
set -eu
level=$1
cd "$(dirname "$0")/.."

fail() {
    echo "ERROR: $*" >&2
    exit 1
}

# Running it is the test: a pyenv shim exists for versions that are not there, and Debian's python3 comes without venv.
works() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    for python in ${PYTHON:-python3.13 python3.12 python3.11 python3 /usr/local/bin/python3 /usr/bin/python3}; do
        if works "$python"; then
            echo "$python"
            return
        fi
    done
    return 1
}

if [ ! -w . ]; then
    fail "$(pwd) is not writable by $(id -un): clone the repository as the user who runs make"
fi
# The path counts, as the programs in .venv/bin begin with it: a clone that was moved needs a new one.
key=$({ pwd; cat requirements*.lock; } | sha256sum | cut -d' ' -f1)
have=$(cat .venv/.locked 2>/dev/null || echo none none)
# An environment that has been made for tests stays one when the locks change.
[ "${have#* }" != dev ] || level=dev

case "$have" in
"$key dev" | "$key $level") ;;
"$key runtime") ;;
*) have=none ;;
esac
if [ "$have" != none ] && ! .venv/bin/python -c '' 2>/dev/null; then
    have=none
fi

if [ "$have" = none ]; then
    if ! python=$(find_python); then
        [ -z "${PYTHON:-}" ] || fail "$PYTHON is not a Python 3.11 or newer with the modules venv and ensurepip"
        echo "Installing by apt: python3 python3-venv (no Python 3.11 or newer with venv is here)"
        sh scripts/apt-install.sh python3 python3-venv ||
            fail "install Python 3.11 or newer with its venv module (Debian and Ubuntu: python3 and python3-venv)"
        python=$(find_python) || fail "the distribution's Python is older than 3.11: install a newer one, PYTHON=its path"
    fi
    echo "Making .venv with $("$python" -c 'import platform, sys; print(sys.executable, platform.python_version())')"
    rm -rf .venv
    "$python" -m venv .venv
fi

pip() {
    # Everything comes from the lock: what a machine's own settings constrain or redirect must not matter.
    PIP_CONSTRAINT=/dev/null PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 \
        .venv/bin/python -m pip "$@"
}

count() {
    cat "$@" | grep -c '^[a-z0-9].*=='
}

case "$have" in
"$key dev" | "$key $level") ;;
*)
    if [ "$level" = dev ]; then
        echo "Installing into .venv: up to $(count requirements-dev.lock) packages of requirements-dev.lock (to run, test and lint DockStack)"
        set -- -r requirements-dev.lock
    else
        echo "Installing into .venv: up to $(count requirements.lock requirements-build.lock) packages of requirements.lock and requirements-build.lock (to run DockStack)"
        set -- -r requirements.lock -r requirements-build.lock
    fi
    pip install --quiet --quiet --require-hashes "$@" ||
        fail "pip could not install the locked packages (is a package index reachable? pip's message is above)"
    rm -f .venv/.project
    echo "$key $level" >.venv/.locked
    ;;
esac

# The package itself, linked to src/; again when its commands or its metadata changed.
project=$(sha256sum <pyproject.toml)
if [ "$project" != "$(cat .venv/.project 2>/dev/null)" ]; then
    pip install --quiet --quiet --no-index --no-deps --no-build-isolation --editable . ||
        fail "pip could not link src/dockstack into .venv (pip's message is above)"
    echo "$project" >.venv/.project
fi
