#!/usr/bin/env bash
# Submit a recipe to a running Ray cluster.
#
#   RAY_ADDRESS=http://head:8265 launch/ray_job.sh --config-name tiny trainer.max_steps=20
#
# Every node needs the same environment (make venv, or one image for all) at the same place, and the token of the
# cluster (~/.ray/auth_token). The job runs in this checkout on the head node and leaves its run folder there.
set -euo pipefail
if [[ -z "${RAY_ADDRESS:-}" ]]; then
  echo "RAY_ADDRESS: missing; set it to the job server of the head node, such as http://head:8265" >&2
  exit 78
fi
root="$(cd "$(dirname "$0")/.." && pwd)"
python="${PYTHON:-$root/.venv/bin/python}"
if [[ -n "${RAY_AUTH_TOKEN:-}${RAY_AUTH_TOKEN_PATH:-}" || -f ~/.ray/auth_token ]]; then
  export RAY_AUTH_MODE="${RAY_AUTH_MODE:-token}"
fi
exec "$(dirname "$python")/ray" job submit --address "$RAY_ADDRESS" -- env -C "$root" "$python" -m grpo.train "$@"
