"""What a leased cluster runs on its nodes: a Ray of the tenant's own, that lives as long as the lease."""

import shlex
from collections.abc import Sequence

RAY_PORTS = {"client": "auto", "dashboard": "auto", "agent": "auto"}
"""What Ray listens on beside ``MASTER_PORT``, which is where its nodes meet."""
RAY_IS_UP = b"Ray runtime started"
"""What a rank's log says once Ray runs there."""
RAY_TOKEN = "RAY_AUTH_TOKEN"  # noqa: S105 - the name of a variable
"""The variable of the token that everybody needs who talks to the cluster."""


def ray_commands(ray: str) -> Sequence[str]:
    """The commands of each rank, for ``sh``: rank 0 is the head, the others join it. ``ray``: the program, on the nodes.

    It ends with any of its nodes, as a gang does. What it keeps on disk goes with it.
    """
    program = shlex.quote(ray)
    return (
        f'command -v {program} >/dev/null || {{ echo "there is no "{program}" on $HEADRACE_NODE:" '
        '"install Ray there, or name the program with --ray" >&2; exit 127; }',
        # The path of a socket must be short, and a tenant's own directory need not be.
        "dir=$(mktemp -d /tmp/headrace-ray-XXXXXX)",
        "trap 'rm -rf \"$dir\"' EXIT",
        "export RAY_USAGE_STATS_ENABLED=0 RAY_AUTH_MODE=token RAY_TMPDIR=$dir TMPDIR=$dir",
        # Whoever ends a lease has no tasks left that are worth waiting for.
        "export RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0",
        'set -- --num-gpus="$HEADRACE_ACCELERATORS" --min-worker-port=0 --max-worker-port=0 '
        '--dashboard-agent-listen-port="$HEADRACE_PORT_AGENT" --disable-usage-stats --block',
        # Several nodes of one machine find each other there alone; begun at once, they would take the same names of sockets.
        'turn=0; case "$MASTER_ADDR" in 127.*) set -- --node-ip-address="$MASTER_ADDR" "$@"; turn=$((RANK * 4)) ;; esac',
        'if [ "$RANK" = 0 ]; then set -- --head --port="$MASTER_PORT" --dashboard-host="$MASTER_ADDR" '
        '--dashboard-port="$HEADRACE_PORT_DASHBOARD" --ray-client-server-port="$HEADRACE_PORT_CLIENT" --temp-dir="$dir" "$@"; '
        f'else set -- --address="$MASTER_ADDR:$MASTER_PORT" "$@"; '
        f'until {program} health-check --address "$MASTER_ADDR:$MASTER_PORT" >/dev/null 2>&1; do sleep 1; done; sleep $turn; fi',
        f'{program} start "$@" & ray=$!; trap \'kill $ray; wait $ray; rm -rf "$dir"; exit 143\' TERM; wait $ray',
    )
