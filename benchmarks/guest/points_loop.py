"""Runs on the target: saves and recovers a volume again and again; prints as JSON when, and what came of it.

points_loop.py VOLUME COUNT
"""

import json
import sys
import time

sys.path[:0] = ["/opt/targetplugin/code", "/opt/targetplugin/site-packages"]

from targetplugin.control.client import Client  # noqa: E402 - found by the path above

REST = 0.25  # seconds between two, with nothing going on but the host's load


def main(volume: str, count: int) -> None:
    told = []

    def act(verb: str, **parameters: object) -> dict:
        time.sleep(REST)
        begin = time.time()
        operation = client.call(verb, **parameters)["operation"]
        end = time.time()
        operation = client.call("operation.wait", op=operation["id"], timeout=60)
        told.append({"verb": verb, "begin": begin, "end": end, "pause_ms": operation["pause_ms"]})
        return operation

    with Client.connect() as client:
        for _ in range(count):
            save = act("save", volume=volume, policy="split")["save"]
            act("recover", save=save, no_undo=True)
            act("resync", save=save)
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
