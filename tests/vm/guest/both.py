#!/usr/bin/python3
"""What is asked of saves that belong together, over one connection: runs on the target.

both.py show INITIATOR SAVE...    shows them to it; prints their iSCSI names
both.py hide SAVE...
both.py release SAVE...
both.py resync SAVE...            when their volumes are taken back; waits until all have all legs again
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

sys.path.insert(0, "/opt/targetplugin/checkout")

from targetplugin.control.client import Client

AGAIN = 0.5  # seconds


def show(client: Client, initiator: str, *saves: str) -> list[str]:
    return [client.call("export", volume=save, initiators=[initiator])["target"] for save in saves]


def hide(client: Client, *saves: str) -> None:
    for save in saves:
        client.call("unexport", volume=save, force=True)


def release(client: Client, *saves: str) -> None:
    for save in saves:
        client.call("release", save=save, force=True)


def resync(client: Client, *saves: str) -> None:
    volumes = [save.partition("@")[0] for save in saves]
    wait(client, volumes, lambda volume: volume["state"] != "recovering")
    for save in saves:
        client.call("resync", save=save)
    wait(client, volumes, lambda volume: volume["state"] == "serving")


def wait(client: Client, names: list[str], reached: Callable[[dict[str, Any]], bool]) -> None:
    for name in names:
        while not reached(client.call("volume.show", name=name)):
            time.sleep(AGAIN)


if __name__ == "__main__":
    verb, *words = sys.argv[1:]
    with Client.connect() as connected:
        verbs = {"show": show, "hide": hide, "release": release, "resync": resync}
        print(json.dumps(verbs[verb](connected, *words)))
