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

# python_of VERSION, for example 3.12: prints a Python of this version that can
# make environments, or fails. Each is run, since pyenv's `python3.12` is there
# even where it only says that another version is selected, and Debian's may lack
# its package python3-venv.
python_of() {
  local python shim
  shim=$(command -v python3 || true)
  for python in "python$1" python3 "${shim%/shims/*}/versions/$1".*/bin/python \
    "${PYENV_ROOT:-${HOME:-}/.pyenv}/versions/$1".*/bin/python; do
    if "$python" -c 'import ensurepip, sys
sys.exit("%d.%d" % sys.version_info[:2] != sys.argv[1])' "$1" 2>/dev/null; then
      echo "$python"
      return
    fi
  done
  return 1
}

# Prints the Python for .venv: $PYTHON if given, else the tested version if there
# is one, else another that will do.
choose_python() {
  local tested=3.12 version
  if [ "${PYTHON:-}" ]; then
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
      echo "error: PYTHON=$PYTHON does not run, or is older than 3.11." >&2
      return 2
    }
    echo "$PYTHON"
    return
  fi
  python_of "$tested" && return
  for version in 3.13 3.14 3.11; do
    python_of "$version" || continue
    echo "There is no Python $tested, which fld_jax is tested with most;" \
      "$version will do." >&2
    return
  done
  echo "error: no Python from 3.11 on was found that can make environments" \
    "(Debian: python3-venv); set PYTHON to one." >&2
  return 2
}

environment() {
  local top extras=$1 stamp python
  top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
  venv=$top/.venv
  stamp=$venv/.installed-${extras:-plain}-$(cat "$top/pyproject.toml" \
    "$top/constraints.txt" | cksum | cut -d' ' -f1)
  [ -e "$stamp" ] && return
  if [ ! -x "$venv/bin/python" ]; then
    python=$(choose_python) || return
    echo "Making $venv ..." >&2
    "$python" -m venv "$venv"
  fi
  echo "Installing fld_jax${extras:+ with $extras} (about 2 minutes) ..." >&2
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --constraint "$top/constraints.txt" --editable "$top${extras:+[$extras]}"
  touch "$stamp"
}
