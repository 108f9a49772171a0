# How a CDB is read: targetplugin/engine/native.py's table, as native code looks at it.

cdef enum:
    KIND_PYTHON = 0  # it is not in the table: others answer it
    KIND_READY = 1
    KIND_READ = 2
    KIND_WRITE = 3
    KIND_FLUSH = 4
    KIND_PREFETCH = 5
    KIND_UNMAP = 6
    KIND_SAME = 7
    KIND_VERIFY = 8
    KIND_WRITE_VERIFY = 9
    KIND_COMPARE_WRITE = 10
    KIND_ORWRITE = 11

KINDS = {
    "ready": KIND_READY, "read": KIND_READ, "write": KIND_WRITE, "flush": KIND_FLUSH, "prefetch": KIND_PREFETCH,
    "unmap": KIND_UNMAP, "write same": KIND_SAME, "verify": KIND_VERIFY, "write and verify": KIND_WRITE_VERIFY,
    "compare and write": KIND_COMPARE_WRITE, "orwrite": KIND_ORWRITE,
}
CHANGES = ("write", "unmap", "write same", "write and verify", "compare and write", "orwrite")

cdef uint64_t max_compare = MAX_COMPARE

cdef enum:
    NACA = 0x04  # in the CONTROL byte: an auto contingent allegiance is wanted, which there is none of (SAM-5 5.2)

ctypedef struct decode_t:
    uint8_t kind  # KIND_*
    uint8_t changes  # it would change what is on the media
    uint8_t lba_at
    uint8_t lba_bytes
    uint8_t count_at
    uint8_t count_bytes
    uint8_t control_at  # the CONTROL byte

cdef decode_t DECODE[256]


def _fill():
    memset(DECODE, 0, sizeof(DECODE))
    for command in NATIVE:
        DECODE[command.opcode].kind = KINDS[command.kind]
        DECODE[command.opcode].changes = command.kind in CHANGES
        lba_at, lba_bytes, count_at, count_bytes = command.fields()
        DECODE[command.opcode].lba_at = lba_at
        DECODE[command.opcode].lba_bytes = lba_bytes
        DECODE[command.opcode].count_at = count_at
        DECODE[command.opcode].count_bytes = count_bytes
        DECODE[command.opcode].control_at = len(command.usage) - 1


_fill()


cdef inline uint64_t field(const uint8_t *at, uint32_t bytes) noexcept nogil:
    """A big-endian number."""
    cdef uint64_t value = 0
    cdef uint32_t i
    for i in range(bytes):
        value = (value << 8) | at[i]
    return value


cdef inline void decode(const decode_t *d, const uint8_t *cdb, uint64_t *lba, uint64_t *count) noexcept nogil:
    """The blocks that a CDB names."""
    lba[0] = field(cdb + d.lba_at, d.lba_bytes)
    count[0] = field(cdb + d.count_at, d.count_bytes)
    if d.lba_bytes == 3:  # the 6-byte commands: 21 bits, and no blocks are 256
        lba[0] &= 0x1FFFFF
        if not count[0]:
            count[0] = 256
