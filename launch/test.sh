#!/usr/bin/env bash
# Lints and tests: ./launch/test.sh [ARGS OF pytest]
# All tests run in three processes, which keep two cores busy; those of a file
# or folder that is named, and with a debugger or -s, in one. -n COUNT overrides
# both.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/environment.sh
environment "${EXTRAS:+$EXTRAS,}dev"
"$venv/bin/ruff" check .
"$venv/bin/ruff" format --check .
# By file, so that what the tests of a file share is made once, and in the order
# of tests/conftest.py.
workers=(-n 3 --dist=loadfile --no-loadscope-reorder)
for argument; do
  if [[ -e ${argument%%::*} || $argument =~ ^(--pdb|--trace|-s)$ ]]; then
    workers=(-n 0)
  fi
done
exec "$venv/bin/python" -m pytest "${workers[@]}" "$@"
