#!/usr/bin/env bash
# Start Ray on this node, as the head of a cluster or as one more node of it.
#
#   launch/ray_node.sh head [options of ray start]
#   launch/ray_node.sh worker HEAD [options of ray start]      HEAD: address of the head node, or address:port
#
# Every node needs this checkout and its environment (make venv) at the same place, the settings of launch/cluster.env,
# and the token file of the head node.
set -euo pipefail
root="$(cd "$(dirname "$0")/.." && pwd)"
source "$root/launch/cluster.env"
export PATH="${VENV:-$root/.venv}/bin:$PATH" # jobs find `python` there
unset RAY_ADDRESS                            # `ray start` takes it for the cluster to join
usage="usage: launch/ray_node.sh head | worker HEAD [options of ray start]"
role="${1:-}"
shift || true
case "$role" in
  head)
    if [[ ! -s "$RAY_AUTH_TOKEN_PATH" && -z "${RAY_AUTH_TOKEN:-}" ]]; then
      mkdir -p "$(dirname "$RAY_AUTH_TOKEN_PATH")"
      (umask 077 && python -c 'import secrets; print(secrets.token_hex(32))' >"$RAY_AUTH_TOKEN_PATH")
    fi
    options=(--head --port="$RAY_PORT" --dashboard-host=0.0.0.0 --dashboard-port="$RAY_DASHBOARD_PORT")
    ;;
  worker)
    head="${1:?$usage}"
    shift
    [[ "$head" == *:* ]] || head="$head:$RAY_PORT"
    if [[ ! -s "$RAY_AUTH_TOKEN_PATH" && -z "${RAY_AUTH_TOKEN:-}" ]]; then
      echo "RAY_AUTH_TOKEN_PATH=$RAY_AUTH_TOKEN_PATH: no token; copy that of the head node there" >&2
      exit 78
    fi
    options=(--address="$head")
    ;;
  *)
    echo "$usage" >&2
    exit 78
    ;;
esac
# The agent that starts jobs takes any free port: with Ray's fixed one taken, as by another user's Ray on this machine,
# it stays without one and no job can be submitted. Only this node's own dashboard speaks to it.
exec ray start "${options[@]}" --disable-usage-stats --dashboard-agent-listen-port=0 \
  --node-manager-port="$RAY_NODE_MANAGER_PORT" --object-manager-port="$RAY_OBJECT_MANAGER_PORT" \
  --min-worker-port="$RAY_MIN_WORKER_PORT" --max-worker-port="$RAY_MAX_WORKER_PORT" "$@"
