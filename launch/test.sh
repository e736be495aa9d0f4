#!/usr/bin/env bash
# Lints and tests: ./launch/test.sh [ARGS OF pytest]
# All tests run in two processes; those of a file or folder that is named, and
# with a debugger or -s, in one. -n COUNT overrides both.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/environment.sh
environment "${EXTRAS:+$EXTRAS,}dev"
"$venv/bin/ruff" check .
"$venv/bin/ruff" format --check .
# By file, so that what the tests of a file share is made once.
workers=(-n 2 --dist=loadfile)
for argument; do
  if [[ -e ${argument%%::*} || $argument =~ ^(--pdb|--trace|-s)$ ]]; then
    workers=(-n 0)
  fi
done
exec "$venv/bin/python" -m pytest "${workers[@]}" "$@"
