"""Drives a zimage binary with the clients that people have.

    python -m venv venv && venv/bin/pip install -r python/clients/requirements.txt
    venv/bin/python python/clients/check_clients.py target/release/zimage
"""

import sys
import tempfile
import time
import traceback

from mcp import StdioServerParameters

import mcp_client
import openai_client
import webui_client
from pictures import CheckFailed
from server import Server


def tools_are_served_over_http(server):
    mcp_client.run(f"{server.url}/mcp")


def tools_are_served_over_a_pipe(binary):
    with tempfile.TemporaryDirectory(prefix="zimage-clients-") as home:
        mcp_client.run(StdioServerParameters(command=binary, args=["mcp"], env={"ZIMAGE_HOME": home}))


def main():
    if len(sys.argv) != 2:
        raise SystemExit("usage: check_clients.py BINARY")
    binary = sys.argv[1]
    failures = 0
    with Server(binary) as server:
        for family, checks in [
            ("openai", openai_client.CHECKS),
            ("webui", webui_client.CHECKS),
            ("mcp", [tools_are_served_over_http]),
        ]:
            failures += sum(not passes(family, check, server) for check in checks)
    with Server(binary, "--max-queue", "1") as server:
        failures += not passes("openai", openai_client.a_full_queue_is_a_rate_limit, server)
    failures += not passes("mcp", tools_are_served_over_a_pipe, binary)
    if failures:
        raise SystemExit(f"{failures} checks failed")


def passes(family, check, subject):
    name, started = check.__name__.replace("_", " "), time.monotonic()
    try:
        check(subject)
    except Exception as error:
        print(f"FAILED  {family}: {name}: {reason(error)}", flush=True)
        if not isinstance(error, CheckFailed):
            traceback.print_exc()
        return False
    print(f"ok      {family}: {name} ({time.monotonic() - started:.1f} s)", flush=True)
    return True


def reason(error):
    """The failure itself, where several tasks were running beside it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    main()
