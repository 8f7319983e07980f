#!/usr/bin/env bash
# Submit a recipe to a running Ray cluster.
#
#   RAY_ADDRESS=http://head:8265 launch/ray_job.sh --config-name tiny trainer.max_steps=20
#
# The cluster must have the same environment installed (make venv on every node, or one image for all) and should run
# with RAY_AUTH_MODE=token on both sides. The job runs in this checkout on the head node.
set -euo pipefail
: "${RAY_ADDRESS:?set it to the head node's job server, such as http://head:8265}"
root="$(cd "$(dirname "$0")/.." && pwd)"
exec ray job submit --address "$RAY_ADDRESS" -- \
  "${PYTHON:-$root/.venv/bin/python}" -m grpo.train "$@"
