#!/usr/bin/env bash
# Runs fld_jax as N processes on this machine: the code path of a cluster, for
# tests and debugging.
#
#   ./launch/local_processes.sh [--dry-run] N ARGS OF fld_jax.main
#
# DEVICES=2 gives each process two virtual CPU devices (1 by default). Each line
# is printed behind the number of its process. SIGTERM and SIGINT are passed on.
# If a process fails, the others get SIGTERM, and SIGKILL GRACE seconds later
# (60). A process that ends with 75, "saved, start me again", is no failure: the
# others have GRACE seconds to do the same.
# FLD_PYTHON is the Python to use, by default that of .venv.
# --dry-run, or DRY_RUN=1, prints the commands.
#
# Exit code: the first one that was not 0; so 75 asks to be started again.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
source "$top/launch/environment.sh"
devices=${DEVICES:-1} grace=${GRACE:-60} dry=${DRY_RUN:-}
if [ "${1:-}" = --dry-run ]; then
  dry=1
  shift
fi
if ! [[ ${1:-} =~ ^[1-9][0-9]*$ && $devices =~ ^[1-9][0-9]*$ ]]; then
  echo "usage: [DEVICES=2] $0 [--dry-run] N ARGS OF fld_jax.main; N and" \
    "DEVICES are numbers from 1 on." >&2
  exit 2
fi
count=$1
shift
python=${FLD_PYTHON:-$top/.venv/bin/python}

# A port below those that the system gives to clients, and that nobody answers.
port=0
while [ $port = 0 ] || (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
  port=$((20000 + RANDOM % 12000))
done
command=(env JAX_PLATFORMS=cpu "JAX_NUM_CPU_DEVICES=$devices" PYTHONUNBUFFERED=1
  "$python" -m fld_jax.main "$@" "--coordinator=127.0.0.1:$port"
  "--num_processes=$count")
if [ "$dry" ]; then
  for ((i = 0; i < count; i++)); do
    printf '%q ' "${command[@]}"
    echo "--process_id=$i"
  done
  exit
fi
[ "${FLD_PYTHON:-}" ] || environment "${EXTRAS:-}"

pids=() left=0
pass_on() {
  [ $left = 0 ] || kill -"$1" "${pids[@]}" 2>/dev/null || true
}
kill_all() {
  local pid
  [ $left = 0 ] || for pid in "${pids[@]}"; do
    kill -KILL -- "-$pid" 2>/dev/null || true
  done
}
trap 'pass_on TERM' TERM
trap 'pass_on INT' INT
trap kill_all EXIT  # whatever ends this script, no process stays

# With job control each process leads a group of its own, which has its data
# workers too; and Ctrl-C reaches it once, through `pass_on`.
set -m
for ((i = 0; i < count; i++)); do
  "${command[@]}" "--process_id=$i" \
    > >(exec sed -u "s/^/[$i] /") 2> >(exec sed -u "s/^/[$i] /" >&2) &
  pids+=($!) left=$((left + 1))
done
set +m

first=0 deadline=0
while [ $left -gt 0 ]; do
  for i in "${!pids[@]}"; do
    kill -0 "${pids[i]}" 2>/dev/null && continue
    code=0
    wait "${pids[i]}" 2>/dev/null || code=$?
    unset "pids[i]"
    left=$((left - 1))
    [ $code = 0 ] && continue
    echo "Process $i ended with exit code $code." >&2
    [ $first = 0 ] || continue
    first=$code deadline=$((SECONDS + grace))
    [ $code = 75 ] || pass_on TERM
  done
  if [ $left -gt 0 ] && [ $deadline != 0 ] && [ $SECONDS -ge $deadline ]; then
    echo "Still there after $grace s, killed: ${!pids[*]}." >&2
    deadline=0
    kill_all
  fi
  sleep 0.2 || true
done
exit $first
