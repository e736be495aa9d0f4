# Sourced by the launchers: makes .venv beside this folder's parent if there is
# none, and installs fld_jax into it if what it needs has changed since.
# usage: environment EXTRAS, for example: environment dev,cuda

# Large pages for large arrays: on a CPU a train step spends an eighth less on
# page faults (benchmarks/pytorch.py sets it for both sides). Only glibc reads it.
export GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}

environment() {
  local top extras=$1 stamp
  top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
  venv=$top/.venv
  stamp=$venv/.installed-${extras:-plain}-$(cat "$top/pyproject.toml" \
    "$top/constraints.txt" | cksum | cut -d' ' -f1)
  [ -e "$stamp" ] && return
  if [ ! -x "$venv/bin/python" ]; then
    local python=${PYTHON:-python3}
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
      echo "error: $python is older than 3.11; set PYTHON to a newer one." >&2
      return 2
    }
    echo "Making $venv ..." >&2
    "$python" -m venv "$venv"
  fi
  echo "Installing fld_jax${extras:+ with $extras} (about 2 minutes) ..." >&2
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --constraint "$top/constraints.txt" --editable "$top${extras:+[$extras]}"
  touch "$stamp"
}
