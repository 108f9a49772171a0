"""Runs on the target: recovers a volume's newest save; prints the seconds until a read of its disk has
answered, and until all is copied, counted from the request.

    recover_once.py VOLUME DISK
"""

import mmap
import os
import sys
import time

sys.path[:0] = ["/opt/targetplugin/code", "/opt/targetplugin/site-packages"]

from targetplugin.control.client import Client  # noqa: E402 - found by the path above


def main(volume: str, disk: str) -> None:
    block = mmap.mmap(-1, 4096)
    with Client.connect() as client:
        began = time.monotonic()
        operation = client.call("recover", save=volume, no_undo=True)["operation"]
        descriptor = os.open(disk, os.O_RDONLY | os.O_DIRECT)
        os.preadv(descriptor, [block], 0)
        readable = time.monotonic()
        while operation["state"] == "running":
            operation = client.call("operation.wait", op=operation["id"], timeout=60)
        copied = time.monotonic()
    print(readable - began, copied - began)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
