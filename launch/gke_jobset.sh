#!/usr/bin/env bash
# Trains on a TPU slice or on GPU nodes of a GKE cluster: fills in and applies
# gke_jobset.yaml. Needs kubectl, and JobSet 0.10 or newer in the cluster.
#
#   ./launch/gke_jobset.sh OPTIONS -- ARGS OF fld_jax.main
#
#   --name=NAME        of the JobSet
#   --image=IMAGE      built from the Dockerfile with EXTRAS=tpu or cuda
#   --claim=CLAIM      a PersistentVolumeClaim that all pods can write to, seen
#                      at /data: --workdir and the records lie there
#   --tpu=tpu-v5-lite-podslice --topology=16x16     a slice, or
#   --gpu=nvidia-h100-80gb --nodes=4                GPU nodes
#   --chips=N          of a node, by default 4 for TPUs and 8 for GPUs
#   --max_restarts=N   how often a program that fails is started again (3);
#                      "saved, start me again", exit code 75, doesn't count, and
#                      a mistake of the user, 2, ends the JobSet
#   --spot             on spot nodes
#   --dry-run          or DRY_RUN=1: print what would be applied
#
# Logs: kubectl logs -f -l jobset.sigs.k8s.io/jobset-name=NAME --prefix
# End:  kubectl delete jobset NAME
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
name='' image='' claim='' tpu='' topology='' gpu='' nodes='' chips=''
max_restarts=3 spot=false dry=${DRY_RUN:-}

mistake() {
  echo "error: $1 See the top of $0." >&2
  exit 2
}
while [ $# -gt 0 ]; do
  case $1 in
    --name=?* | --image=?* | --claim=?* | --tpu=?* | --topology=?* | \
      --gpu=?* | --nodes=?* | --chips=?* | --max_restarts=?*)
      option=${1%%=*}
      printf -v "${option#--}" %s "${1#*=}"
      ;;
    --spot) spot=true ;;
    --dry-run) dry=1 ;;
    --)
      shift
      break
      ;;
    *) mistake "'$1' is no option with a value." ;;
  esac
  shift
done
[ "$name" ] && [ "$image" ] && [ "$claim" ] && [ $# -gt 0 ] ||
  mistake '--name, --image, --claim and -- ARGS are needed.'

json() {  # its arguments as a list; Kubernetes reads $(...) unless $ is doubled
  local arg list=''
  for arg in "$@"; do
    # shellcheck disable=SC2016
    arg=${arg//\\/\\\\} arg=${arg//\"/\\\"} arg=${arg//'$('/'$$('}
    list+=", \"$arg\""
  done
  echo "[${list#, }]"
}

node='cloud.google.com/gke'
if [ "$tpu" ] && [ "$topology" ] && [ -z "$gpu$nodes" ]; then
  [[ $topology =~ ^[0-9]+(x[0-9]+)+$ ]] ||
    mistake "--topology is '$topology', valid are 4x4, 4x4x8 and so on."
  chips=${chips:-4} resource=google.com/tpu
  nodes=$((${topology//x/*} / chips))
  [ $((nodes * chips)) = $((${topology//x/*})) ] ||
    mistake "--topology=$topology is no multiple of --chips=$chips."
  selector="\"$node-tpu-accelerator\": \"$tpu\", "
  selector+="\"$node-tpu-topology\": \"$topology\""
  annotations='"alpha.jobset.sigs.k8s.io/exclusive-topology": '
  annotations+="\"$node-nodepool\""
  args=$(json "$@" --distributed)
elif [ "$gpu" ] && [ "$nodes" ] && [ -z "$tpu$topology" ]; then
  chips=${chips:-8} resource=nvidia.com/gpu
  selector="\"$node-accelerator\": \"$gpu\""
  annotations=''
  # What JAX would ask Kubernetes for, without a right to ask.
  args=$(json "$@" "--coordinator=$name-worker-0-0.$name:8476" \
    "--num_processes=$nodes")
  args="${args%]}, \"--process_id=\$(JOB_COMPLETION_INDEX)\"]"
else
  mistake 'Give either --tpu and --topology or --gpu and --nodes.'
fi
if [ "$spot" = true ]; then
  selector+=", \"$node-spot\": \"true\""
fi

yaml=$(cat "$top/launch/gke_jobset.yaml")
fill_in() {
  yaml=${yaml//"\${$1}"/"$2"}
}
fill_in NAME "$name"
fill_in IMAGE "$image"
fill_in CLAIM "$claim"
fill_in NODES "$nodes"
fill_in CHIPS "$chips"
fill_in RESOURCE "$resource"
fill_in NODE_SELECTOR "{$selector}"
fill_in ANNOTATIONS "{$annotations}"
fill_in SPOT "\"$spot\""
fill_in MAX_RESTARTS "$max_restarts"
fill_in ARGS "$args"
if [ "$dry" ]; then
  echo '# kubectl apply -f - <<END'
  echo "$yaml"
else
  kubectl apply -f - <<<"$yaml"
fi
