"""Many volumes of two files each, driven over one connection: runs on the target.

many.py make COUNT INITIATOR    makes and exports them; prints their iSCSI names
many.py save LABEL DEADLINE     saves all at one instant; prints the pause, and a medium of each save
many.py resync LABEL            gives the saves up, and waits until their media are legs again
many.py recover LABEL DEADLINE  takes all back to it at one instant, and waits until all is copied
many.py join                    adds a leg to each, all at once; prints the longest answer meanwhile
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

sys.path.insert(0, "/opt/targetplugin/checkout")

from targetplugin.control.client import Client, ControlError

FOLDER = "/var/lib/many"
VOLUME, MEDIUM = 8 << 20, 12 << 20  # bytes
AGAIN = 2.0  # seconds
RATE = 256 << 10  # bytes a second and leg: all still copy when the last has been asked for


def names(client: Client) -> list[str]:
    return sorted(volume["name"] for volume in volumes(client))


def add(client: Client, file: str) -> str:
    """A medium's name."""
    return str(client.call("media.add", path=f"{FOLDER}/{file}", size=MEDIUM)["name"])


def volumes(client: Client) -> list[dict[str, Any]]:
    return [v for v in client.call("status")["volumes"] if v["name"].startswith("many-")]


def in_sync(shown: list[dict[str, Any]]) -> bool:
    return all(leg["state"] == "in_sync" for volume in shown for leg in volume["legs"])


def make(client: Client, count: int, initiator: str) -> list[str]:
    made = []
    for number in range(count):
        name = f"many-{number:02}"
        added = [add(client, f"{name}-{letter}") for letter in "ab"]
        client.call("volume.create", name=name, size=VOLUME, media=added)
        made.append(client.call("export", volume=name, initiators=[initiator])["target"])
    return made


def save(client: Client, label: str, deadline: int) -> dict[str, Any]:
    done = client.call("group.save", volumes=names(client), label=label, deadline_ms=deadline)
    kept = {
        save["volume"]: save["media"][0]
        for volume in volumes(client)
        for save in volume["saves"]
        if save["label"] == label
    }
    paths = {medium["name"]: medium["path"] for medium in client.call("media.list")}
    return {
        "pause_ms": done["operation"]["pause_ms"],
        "media": [paths[kept[name]] for name in names(client)],
    }


def resync(client: Client, label: str) -> None:
    for name in names(client):
        client.call("resync", save=f"{name}@{label}")
    while not in_sync(volumes(client)):
        time.sleep(AGAIN)


def recover(client: Client, label: str, deadline: int) -> dict[str, Any]:
    saves = [f"{name}@{label}" for name in names(client)]
    done = client.call("group.recover", saves=saves, deadline_ms=deadline)
    while any(volume["state"] == "recovering" for volume in volumes(client)):
        time.sleep(AGAIN)
    return {"pause_ms": done["operation"]["pause_ms"]}


def join(client: Client) -> dict[str, Any]:
    spares = {name: add(client, f"{name}-c") for name in names(client)}
    begin = asked = time.monotonic()
    answers = []
    for name, spare in spares.items():
        added = client.call("leg.add", volume=name, medium=spare)
        try:
            client.call("operation.rate", op=added["operation"]["id"], rate=RATE)
        except ControlError as error:
            if error.reason == "usage":
                raise
            # that one is in sync already
    all_asked = time.monotonic() - begin
    while True:
        asked = time.monotonic()
        shown = volumes(client)
        answers.append(time.monotonic() - asked)
        if in_sync(shown):
            break
        time.sleep(0.1)
    return {
        "all_asked_s": all_asked,
        "answers": len(answers),
        "longest_s": max(answers),
        "took_s": time.monotonic() - begin,
    }


def main() -> None:
    verb, *words = sys.argv[1:]
    with Client.connect() as client:
        if verb == "make":
            said: Any = make(client, int(words[0]), words[1])
        elif verb == "resync":
            said = resync(client, words[0])
        elif verb == "join":
            said = join(client)
        else:
            said = {"save": save, "recover": recover}[verb](client, words[0], int(words[1]))
    print(json.dumps(said))


main()
