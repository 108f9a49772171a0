"""How fast this machine's time stamp counter counts.

An emulated machine's counter is this machine's. Its kernel measures it while it boots, and when this
machine is busy then, it may be wrong by a factor: its clock runs away, and all its time-outs with it.
So the kernel is told.
"""

import ctypes
import mmap
import platform
import time

# rdtsc; shl rdx, 32; or rax, rdx; ret
READ_COUNTER = bytes.fromhex("0f31 48c1e220 4809d0 c3")
MEASURED = 0.05  # seconds


def kernel_words() -> str:
    """What tells Linux the counter's rate; nothing where it is not known."""
    if platform.machine() != "x86_64":
        return ""
    with mmap.mmap(
        -1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    ) as code:
        code.write(READ_COUNTER)
        place = ctypes.c_char.from_buffer(code)
        counter = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(place))
        begin = _moment(counter)
        time.sleep(MEASURED)
        end = _moment(counter)
        del place
    return f"tsc_early_khz={round((end[1] - begin[1]) / (end[0] - begin[0]) * 1e6)}"


def _moment(counter) -> tuple[int, int]:  # type: ignore[no-untyped-def]
    """The clock in nanoseconds and the counter, of the closest of a few readings."""
    readings = []
    for _ in range(20):
        before = time.monotonic_ns()
        count = counter()
        after = time.monotonic_ns()
        readings.append((after - before, (before + after) // 2, count))
    return min(readings)[1:]
