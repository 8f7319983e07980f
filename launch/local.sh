#!/usr/bin/env bash
# Train on this machine: launch/local.sh RECIPE [key=value ...]
set -euo pipefail
cd "$(dirname "$0")/.."
if [[ $# -eq 0 ]]; then
  echo "usage: launch/local.sh RECIPE [key=value ...]" >&2
  exit 78
fi
recipe="$1"
shift
make --no-print-directory venv
exec .venv/bin/python -m grpo.train --config-name "$recipe" "$@"
