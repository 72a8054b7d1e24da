#!/usr/bin/env bash
# The wheel in an environment and a folder of its own: what is installed works without the repository.
set -euo pipefail
repository=$(cd "$(dirname "$0")/.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
python3 -m venv venv
venv/bin/pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist "$repository"
venv/bin/pip install --quiet --disable-pip-version-check --constraint "$repository/constraints.txt" dist/*.whl
ls -l dist
venv/bin/schedcmp init sweep.yaml
venv/bin/schedcmp check sweep.yaml
venv/bin/schedcmp run sweep.yaml --set "steps=[4]" --set "seeds=0" -o out
test -f out/report.html
venv/bin/python -c 'import schedcmp; print(schedcmp.open("out").answer)'
