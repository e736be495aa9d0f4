# shellcheck shell=bash
# Sourced by the launchers: makes .venv beside this folder's parent if there is
# none, and installs fld_jax into it if what it needs has changed since.
# usage: environment EXTRAS, for example: environment dev,cuda

# A train step frees a gigabyte at its end. tcmalloc keeps it for the next one, if
# the machine has it (Debian: libtcmalloc-minimal4): on a CPU a large step is a
# sixth faster and takes less memory. Else, large pages make it fault in faster.
tcmalloc=$(ldconfig -p 2>/dev/null |
  sed -n 's/.*libtcmalloc_minimal\.so\.4 .*=> //p' | head -n 1)
export LD_PRELOAD=${LD_PRELOAD:-$tcmalloc}
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
