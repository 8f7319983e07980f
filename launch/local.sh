#!/usr/bin/env bash
# Train on this machine: launch/local.sh RECIPE [key=value ...]
set -euo pipefail
cd "$(dirname "$0")/.."
recipe="${1:?usage: launch/local.sh RECIPE [key=value ...]}"
shift
make --no-print-directory venv
exec .venv/bin/python -m grpo.train --config-name "$recipe" "$@"
