#!/usr/bin/env bash
# Run the tests that depend most on the interpreter, of what runs in the sandbox and of programs in answers, with every other
# Python from 3.11 to 3.13 that is on the PATH or that pyenv has. They need no PyTorch, whose builds for them may take
# gigabytes.
#
#   scripts/other_pythons.sh 3.11     # all but 3.11
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

for version in 3.11 3.12 3.13; do
    [ "$version" != "$1" ] || continue
    found=
    for python in "python$version" "$HOME"/.pyenv/versions/"$version".*/bin/python; do
        # Of pyenv's, the name on the PATH may be a shim that only says that the version is not active.
        if "$python" -c '' 2> /dev/null; then found=$python && break; fi
    done
    [ -n "$found" ] || { echo "Python $version is not installed: not tested with it."; continue; }
    environment=.venv-$version
    [ -x "$environment/bin/pytest" ] || {
        "$found" -m venv "$environment"
        "$environment/bin/python" -m pip --quiet --disable-pip-version-check install pytest pytest-xdist numpy pandas \
            pyyaml
    }
    echo "== Python $version"
    # Not with the fixtures of tests/conftest.py, which need PyTorch.
    "$environment/bin/python" -m pytest --numprocesses auto --maxprocesses 4 --confcutdir=tests/sandbox -m "not slow" \
        tests/sandbox/inside tests/sandbox/test_python.py tests/rewards/test_program.py
done
