#!/usr/bin/env bash
# Runs fld_jax on this machine: ./launch/local.sh ARGS OF fld_jax.main
# Without arguments: the quickstart, which trains the three stages of the DFA
# cascade on rendered garments in some minutes and writes a report.
# EXTRAS=cuda (or tpu) installs JAX for that accelerator.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
source "$top/launch/environment.sh"
environment "${EXTRAS:-}"
[ $# -gt 0 ] || set -- --config="$top/configs/dfa.py:dataset=synthetic,size=tiny" \
  --workdir="$top/runs/quickstart"
exec "$venv/bin/python" -m fld_jax.main "$@"
