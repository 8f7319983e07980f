#!/usr/bin/env bash
# Submit a recipe to a running Ray cluster and follow its log.
#
#   RAY_ADDRESS=http://head:8265 launch/ray_job.sh --config-name tiny trainer.max_steps=20
#
# It sends this folder, without what .gitignore and .rayignore name, and the token of the cluster. The job runs in that
# copy with the `python` of the cluster. Its runs are kept in GRPO_HOME on the head node, by default ~/grpo.
set -euo pipefail
root="$(cd "$(dirname "$0")/.." && pwd)"
if [[ -z "${RAY_ADDRESS:-}" ]]; then
  echo "RAY_ADDRESS: missing; set it to the job server of the head node, such as http://head:8265" >&2
  exit 78
fi
source "$root/launch/cluster.env"
cd "$root"
exec "${VENV:-$root/.venv}/bin/ray" job submit --address "$RAY_ADDRESS" --working-dir . -- python -m grpo.train "$@"
