#!/usr/bin/env python
"""Wait until the cluster that RAY_ADDRESS names has so many nodes: launch/wait_nodes.py COUNT."""

import os
import sys
import time

os.environ.setdefault("RAY_AUTH_MODE", "token")  # as in launch/cluster.env; read at the import

import ray

SECONDS = 240

wanted, deadline = int(sys.argv[1]), time.monotonic() + SECONDS
while True:
    try:
        ray.init(log_to_driver=False, logging_level="error")
        break
    except ConnectionError as error:  # the head node is on its way
        if time.monotonic() > deadline:
            sys.exit(f"no head node after {SECONDS} s: {error}")
        time.sleep(1)
while (alive := sum(node["Alive"] for node in ray.nodes())) < wanted:
    if time.monotonic() > deadline:
        sys.exit(f"{alive} of {wanted} nodes have come in {SECONDS} s")
    time.sleep(1)
