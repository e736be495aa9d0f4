#!/usr/bin/env bash
# Trains on a Cloud TPU slice, with gcloud on your machine.
#
#   ./launch/tpu_pod.sh COMMAND OPTIONS [-- ARGS OF fld_jax.main]
#
# create   makes the slice
# copy     copies this checkout to every worker, installs it, runs --setup there
# run      starts the program with ARGS on every worker; it stays when you leave
# logs     follows what a worker prints, --worker=0 by default
# status   prints the slice's state, and each worker's: empty (nothing copied),
#          running, lost, or the program's exit code
# resume   watches until the program ends: a preempted slice is deleted,
#          made, filled and started again, and so is a program that was lost or
#          ended with 75, "saved, start me again". Ends with the program's code.
# delete   deletes the slice
#
#   --name=NAME --zone=ZONE    of the slice
#   --project=PROJECT          by default gcloud's own
#   --type=v5litepod-256       for create and resume; `gcloud compute tpus
#                              accelerator-types list` has them
#   --version=VERSION          of its software, by default tpu-ubuntu2204-base
#   --spot                     cheaper, and may be preempted
#   --setup=COMMAND            run on every worker after copying: mount the file
#                              system of --workdir and of the data, for example
#                              --setup='sudo mkdir -p /nfs && sudo mount -t nfs
#                              10.0.0.2:/share /nfs'
#   --dry-run                  or DRY_RUN=1: print the commands
#
# --workdir must lie on storage that all workers share, or nothing outlives the
# slice. First `create`, `copy`, `run`; then `resume`, with the same options and
# ARGS, on a machine that stays up. It does the first three too if need be.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
name='' zone='' project='' type='' version=tpu-ubuntu2204-base spot='' setup=:
worker=0 dry=${DRY_RUN:-}

mistake() {
  echo "error: $1 See the top of $0." >&2
  exit 2
}
command=${1:-}
[ $# = 0 ] || shift
while [ $# -gt 0 ]; do
  case $1 in
    --name=?* | --zone=?* | --project=?* | --type=?* | --version=?* | \
      --setup=?* | --worker=?*)
      option=${1%%=*}
      printf -v "${option#--}" %s "${1#*=}"
      ;;
    --spot) spot=1 ;;
    --dry-run) dry=1 ;;
    --)
      shift
      break
      ;;
    *) mistake "'$1' is no option with a value." ;;
  esac
  shift
done
[ "$name" ] && [ "$zone" ] || mistake '--name and --zone are needed.'
case $command in
  create | resume) [ "$type" ] || mistake "$command needs --type." ;;
esac
case $command in
  run | resume) [ $# -gt 0 ] || mistake "$command needs -- and ARGS." ;;
  *) [ $# = 0 ] || mistake "$command takes no ARGS." ;;
esac
place=("--zone=$zone")
[ -z "$project" ] || place+=("--project=$project")

do_() {
  if [ "$dry" ]; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}
tpu_vm() {
  local verb=$1
  shift
  do_ gcloud compute tpus tpu-vm "$verb" "$@" "${place[@]}"
}
on_all() {
  tpu_vm ssh "$name" --worker=all "--command=$1"
}

create() {
  tpu_vm create "$name" "--accelerator-type=$type" "--version=$version" \
    ${spot:+--spot}
}

copy() {
  local folder=/tmp/fld_jax code=0
  [ "$dry" ] || folder=$(mktemp -d)
  # With && throughout: `resume` goes on after a failure, so set -e is off.
  do_ tar -czf "$folder/fld_jax.tar.gz" -C "$top" --exclude=./.git \
    --exclude=./.venv --exclude=./runs --exclude=__pycache__ . &&
    tpu_vm scp "$folder/fld_jax.tar.gz" "$name:" --worker=all &&
    on_all "$(setup_on_worker)" || code=$?
  [ "$dry" ] || rm -r "$folder"
  return $code
}

setup_on_worker() {
  # Ubuntu 22.04's own Python is 3.10, and 3.11 is the newest that it packages.
  cat <<END
set -e; mkdir -p fld_jax; tar -xzf fld_jax.tar.gz -C fld_jax
cd fld_jax; source launch/environment.sh
choose_python >/dev/null 2>&1 ||
  { sudo apt-get update -q; sudo apt-get install -yq python3.11-venv; }
environment tpu
$setup
touch ~/fld_jax.copied
END
}

# On a worker, in its home: fld_jax.pid and fld_jax.code are those of the last
# run, fld_jax.log is what all of them printed.
# shellcheck disable=SC2016
look='if [ ! -f fld_jax.copied ]; then echo "fld_jax: empty"
elif [ -f fld_jax.code ]; then echo "fld_jax: $(cat fld_jax.code)"
elif [ -f fld_jax.pid ] &&
  grep -qs fld_jax "/proc/$(cat fld_jax.pid)/cmdline"
then echo "fld_jax: running"; else echo "fld_jax: lost"; fi'

run() {
  local args start
  printf -v args '%q ' "$@"
  start="cd fld_jax; EXTRAS=tpu ./launch/local.sh --distributed $args
echo \$? >~/fld_jax.code"
  printf -v start %q "$start"
  on_all "if [ \"\$($look)\" = 'fld_jax: running' ]
then echo 'It runs already.' >&2; exit 1; fi
rm -f fld_jax.code
nohup bash -c $start >>fld_jax.log 2>&1 </dev/null & echo \$! >fld_jax.pid"
}

state() {  # of the slice, nothing if there is none; fails if gcloud does
  tpu_vm list "--filter=name~(^|/)$name\$" '--format=value(state)'
}

resume() {
  if [ "$dry" ]; then
    echo '# every minute:'
    state
    on_all "$look"
    echo '# if the slice was preempted:'
    tpu_vm delete "$name" --quiet
    echo '# if there is none:'
    create
    echo '# if it is empty:'
    copy
    echo '# then, and on exit code 75:'
    run "$@"
    return
  fi
  local now workers=''
  failed() { echo "$(date): failed, trying again." >&2; }
  has() { grep -qxE "$1" <<<"$workers"; }
  while true; do
    if ! now=$(state); then
      now='gcloud failed'
    elif [ "$now" = READY ]; then
      # Each worker's word once; none if a worker could not be reached.
      workers=$(on_all "$look") || workers=''
      workers=$(sed -n 's/^.*fld_jax: //p' <<<"$workers" | sort -u)
    fi
    echo "$(date): ${now:-no slice}${workers:+, $workers}" | tr '\n' ' '
    echo
    case $now in
      READY)
        if [ -z "$workers" ] || has running; then
          :  # the others of one that is lost end within a minute
        elif has empty; then
          { copy && run "$@"; } || failed
        elif ! has 2 && has 'lost|75'; then
          run "$@" || failed
        else
          return "$(sort -rn <<<"$workers" | head -n 1)"
        fi
        ;;
      PREEMPTED | TERMINATED | STOPPED)
        tpu_vm delete "$name" --quiet || failed
        ;;
      '') create || failed ;;
    esac
    workers=''
    sleep "${WATCH_SECONDS:-60}"
  done
}

case $command in
  create) create ;;
  copy) copy ;;
  run) run "$@" ;;
  logs) tpu_vm ssh "$name" "--worker=$worker" \
    '--command=tail -n 100 -F fld_jax.log' ;;
  status)
    state
    on_all "$look"
    ;;
  resume) resume "$@" ;;
  delete) tpu_vm delete "$name" --quiet ;;
  *) mistake "'$command' is no command." ;;
esac
