#!/usr/bin/env bash
# Lints and tests: ./launch/test.sh [ARGS OF pytest]
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/environment.sh
environment "${EXTRAS:+$EXTRAS,}dev"
"$venv/bin/ruff" check .
"$venv/bin/ruff" format --check .
exec "$venv/bin/python" -m pytest "$@"
