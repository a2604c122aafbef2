#!/bin/sh
# Install into the virtual environment $2, made by python $1, what the other words say to pip.
# uv where it is present, else venv and pip; versions from constraints.txt either way.
set -eu
python=$1 venv=$2
shift 2
if command -v uv >/dev/null 2>&1; then
    [ -d "$venv" ] || uv venv --python "$python" "$venv"
    uv pip install --python "$venv/bin/python" -c constraints.txt "$@"
else
    [ -d "$venv" ] || "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install --disable-pip-version-check -q -c constraints.txt "$@"
fi
