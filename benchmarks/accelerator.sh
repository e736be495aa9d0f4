#!/usr/bin/env bash
# What docs/results leave open on a GPU, in one call:
#
#   benchmarks/accelerator.sh OUTPUT [tiny]
#
# Speeds beside PyTorch, compiled and in bfloat16, with shares of the device's
# peak ($TFLOPS, of bfloat16: 989 of an H100) and memory; the routed cascade of
# DFA; a short training of every method at its published size, whose images/s
# beside those of the speeds show what input costs, and once more on one device
# where there are several. It needs a Python, $PYTHON, with the extra `test` of
# fld_jax and CUDA's builds of JAX and PyTorch; without a GPU it runs on the CPU,
# for which `tiny` has sizes that take minutes.
#
# OUTPUT gets accelerator.csv, with a row for each network, methods/methods.csv,
# with one for each training, and all that was printed. What fails is told and
# counted, and the rest goes on.
set -uo pipefail
[ $# -ge 1 ] || { echo "usage: $0 OUTPUT [tiny]" >&2; exit 2; }
cd "$(dirname "$0")/.." || exit
output=$(realpath -m "$1") tiny=${2:-} python=${PYTHON:-python3}
case $tiny in '' | tiny) ;; *) echo "error: $tiny is not 'tiny'." >&2; exit 2 ;; esac
mkdir -p "$output"
export PYTHONPATH=$PWD
failed=()

# part NAME COMMAND...: runs it; its output goes to OUTPUT/NAME.txt too.
part() {
  local name=$1 start=$SECONDS
  shift
  echo "--- $name"
  if "$@" 2>&1 | tee "$output/$name.txt" | tail -n 6; then
    echo "--- $name: $((SECONDS - start)) s"
  else
    failed+=("$name")
    echo "--- $name FAILED after $((SECONDS - start)) s: $output/$name.txt"
  fi
}

device=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1)
count=$(nvidia-smi --list-gpus 2>/dev/null | wc -l)
commit=$(git rev-parse --short HEAD 2>/dev/null || true)
echo "${count} GPUs: ${device:-none, a run on the CPU}"

# --- networks beside PyTorch --------------------------------------------------
echo 'series,command,commit,device,pixels,batch,pair,forward,train_step,forward_ms,train_ms,forward_share,train_share,MiB,peak_memory' \
  >"$output/accelerator.csv"
speed() { # NAME ARGUMENTS: forward pass and train step of a network
  local name=$1
  shift
  part "speed-$name" "$python" benchmarks/pytorch.py speed --accelerator \
    --csv="$output/accelerator.csv" --commit="$commit" \
    --device="${device:-CPU}" --tflops="${TFLOPS:-989}" "$@"
}
if [ "$tiny" ]; then
  brief=(--pairs=1 --seconds=0.1 --batch_size=4)
  speed dfa --network=dfa --width=24 --size=64 "${brief[@]}"
  speed resnet --size=64 "${brief[@]}"
  speed lite0 --network=detector --size=64 "${brief[@]}"
  methods=(--size=tiny --steps=4)
  cascade=(--size=tiny --batches=1 --rounds=1)
else
  full=(--width=64 --channels=256 --depth=50)
  speed dfa --network=dfa --width=64 --batch_size=128
  speed resnet50-256 "${full[@]}" --size=256 --batch_size=128
  speed resnet50-512 "${full[@]}" --size=512 --batch_size=32
  speed lite0-160 --network=detector --batch_size=256
  speed lite0-224 --network=detector --size=224 --batch_size=256
  methods=(--size=full --steps=40)
  cascade=(--size=full --batches=4 --rounds=5)
fi

# --- the routed cascade -------------------------------------------------------
part cascade "$python" benchmarks/inference.py networks "${cascade[@]}"

# --- every method, on one device and on all -----------------------------------
part methods "$python" benchmarks/every_method.py --output="$output/methods" \
  "${methods[@]}"
if ((count > 1)); then
  CUDA_VISIBLE_DEVICES=0 part methods-1 "$python" benchmarks/every_method.py \
    --output="$output/methods-1" "${methods[@]}"
fi

echo "Tables: $output/accelerator.csv, $output/methods/methods.csv"
if ((${#failed[@]})); then
  echo "error: ${#failed[@]} parts failed: ${failed[*]}" >&2
  exit 1
fi
