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
import threading
import time
from typing import Any

sys.path.insert(0, "/opt/targetplugin/checkout")

from targetplugin.control.client import Client

FOLDER = "/var/lib/many"
VOLUME, MEDIUM = 8 << 20, 12 << 20  # bytes
AGAIN = 2.0  # seconds


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
    """Asks for the status over and over, by another connection, from the first leg on."""
    spares = {name: add(client, f"{name}-c") for name in names(client)}
    begin = time.monotonic()
    over = threading.Event()
    answers: list[float] = []
    asking = threading.Thread(target=ask, args=(over, answers))
    asking.start()
    for name, spare in spares.items():
        client.call("leg.add", volume=name, medium=spare)
    all_asked = time.monotonic() - begin
    while not in_sync(volumes(client)):
        time.sleep(AGAIN)
    took = time.monotonic() - begin
    over.set()
    asking.join()
    return {
        "all_asked_s": all_asked,
        "answers": len(answers),
        "longest_s": max(answers),
        "took_s": took,
    }


def ask(over: threading.Event, answers: list[float]) -> None:
    with Client.connect() as client:
        while not over.is_set():
            asked = time.monotonic()
            client.call("status")
            answers.append(time.monotonic() - asked)


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
