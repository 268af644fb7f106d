#!/usr/bin/env bash
# Finds a Python and hands over to setup_venv.py. Needs nothing but bash, so it can say what is missing.
# PYTHON=/path/to/python chooses the interpreter by hand.
set -eu
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tried=""
found=""

# Prints the interpreter behind a command (outside any virtual environment), or fails with the reason on
# stdout. Running it is the only test: a version manager's shim may exist for a Python that does not.
probe() {
    command -v "$1" >/dev/null 2>&1 || { echo "not installed"; return 1; }
    "$1" -c '
import sys, sysconfig
version = ".".join(map(str, sys.version_info[:3]))
if not (3, 11) <= sys.version_info[:2] <= (3, 14):
    sys.exit(print(version + (" is too old" if sys.version_info < (3, 11) else " is too new")) or 1)
if sysconfig.get_config_var("Py_GIL_DISABLED"):
    sys.exit(print(version + " is a free-threaded build") or 1)
print(getattr(sys, "_base_executable", None) or sys.executable)
' 2>/dev/null || { [ $? -eq 1 ] || echo "does not run"; return 1; }
}

try() {
    local answer
    if answer=$(probe "$1"); then
        found=$answer
        return 0
    fi
    tried="$tried
  $1: ${answer:-does not run}"
    return 1
}

find_python() {
    local name
    if [ -n "${PYTHON:-}" ]; then
        try "$PYTHON"
        return
    fi
    # 3.14 comes after the others because not every dependency publishes a build for it yet.
    for name in python3.13 python3.12 python3.11 python3.14 python3 python; do
        try "$name" && return 0
    done
    if command -v uv >/dev/null 2>&1; then
        name=$(uv python find '>=3.11,<3.15' 2>/dev/null) || name=""
        if [ -n "$name" ]; then try "$name" && return 0; fi
        tried="$tried
  uv: knows no Python from 3.11 to 3.14"
    fi
    return 1
}

# The quick way out: nothing changed since the last set-up.
if [ -x .venv/bin/python ] && .venv/bin/python scripts/setup_venv.py --is-current 2>/dev/null; then
    exit 0
fi

if ! find_python; then
    {
        echo "setup: error: no usable Python (3.11 to 3.14) found; tried:$tried"
        echo "Install one, for example:"
        echo "  Debian, Ubuntu:  apt-get install python3 python3-venv"
        echo "  macOS:           brew install python@3.13"
        echo "  anywhere:        uv python install 3.13"
        echo "or name one: PYTHON=/path/to/python3 make setup"
    } >&2
    exit 1
fi
exec "$found" scripts/setup_venv.py
