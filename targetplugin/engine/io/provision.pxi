# UNMAP and WRITE SAME (SBC-3 5.29, 5.42): their parameters are copied, checked as a whole, and done range by range.

cdef enum:
    MAX_RANGES = 16  # of one UNMAP
    PATTERN_BYTES = 65536
    ZERO_BYTES = 1048576
    INVALID_FIELD_IN_CDB = 0x2400
    PARAMETER_LIST_LENGTH_ERROR = 0x1A00
    INVALID_FIELD_IN_PARAMETER_LIST = 0x2600
    LBA_OUT_OF_RANGE = 0x2100
    MAX_BLOCK = 4096

# Bytes of one UNMAP or WRITE SAME; targetplugin/engine/native.py says them to hosts.
cdef uint64_t max_unmap = MAX_UNMAP


cdef bint take_out(slot_t *s, uint8_t *out, uint64_t length) noexcept nogil:
    """Copies the first bytes of a command's data. False where it brought fewer."""
    cdef uint32_t i
    cdef uint64_t take
    for i in range(s.iovs):
        take = s.iov[i].iov_len
        if take > length:
            take = length
        memcpy(out, s.iov[i].iov_base, take)
        out += take
        length -= take
    return length == 0


cdef void unmap(reactor_t *r, volume_t *v, uint32_t tag) noexcept nogil:
    cdef slot_t *s = &v.slots[tag]
    cdef uint32_t length = be16(s.cdb + 7)
    cdef uint32_t i, count
    cdef uint64_t lba, total = 0
    cdef uint64_t first = v.blocks
    cdef uint64_t end = 0
    cdef uint8_t header[8]
    cdef uint8_t *all
    if s.cdb[1] & 1:  # ANCHOR
        answer_sense(v, tag, 0x05, INVALID_FIELD_IN_CDB)
        return
    if length == 0:
        answer(v, tag, GOOD, NULL, 0, 0, 0)
        return
    if length < 8 or not take_out(s, header, 8):
        answer_sense(v, tag, 0x05, PARAMETER_LIST_LENGTH_ERROR)
        return
    count = min(<uint32_t>be16(header + 2), length - 8) >> 4
    if count > MAX_RANGES:
        answer_sense(v, tag, 0x05, INVALID_FIELD_IN_PARAMETER_LIST)
        return
    all = <uint8_t *>malloc(8 + 16 * count)
    if all == NULL:
        answer_sense(v, tag, 0x04, 0x4400)
        return
    s.own = all
    if not take_out(s, all, 8 + 16 * count):
        answer_sense(v, tag, 0x05, PARAMETER_LIST_LENGTH_ERROR)
        return
    for i in range(count):
        lba = be64(all + 8 + 16 * i)
        total += be32(all + 16 + 16 * i)
        if lba > v.blocks or be32(all + 16 + 16 * i) > v.blocks - lba:
            answer_sense(v, tag, 0x05, LBA_OUT_OF_RANGE)
            return
        if be32(all + 16 + 16 * i):
            first = min(first, lba)
            end = max(end, lba + be32(all + 16 + 16 * i))
    if total > max_unmap >> v.shift:
        answer_sense(v, tag, 0x05, INVALID_FIELD_IN_PARAMETER_LIST)
        return
    if not total:
        answer(v, tag, GOOD, NULL, 0, 0, 0)
        return
    s.ranges = count
    wrote(r, v, total)
    begin(r, v, tag, first, end - first)


cdef bint unmap_next(volume_t *v, uint32_t tag) noexcept nogil:
    """Starts the next range of an UNMAP. False where none is left, or the command is another."""
    cdef slot_t *s = &v.slots[tag]
    cdef uint8_t *at
    while s.range_at < s.ranges:
        at = s.own + 8 + 16 * s.range_at
        s.range_at += 1
        if be32(at + 8):
            core_submit(v.core, tag, HOST_ZERO, be64(at) << v.shift, <uint32_t>(be32(at + 8) << v.shift), HOST_UNMAP)
            return True
    return False


cdef void write_same(reactor_t *r, volume_t *v, uint32_t tag, uint64_t lba, uint64_t count) noexcept nogil:
    cdef slot_t *s = &v.slots[tag]
    cdef bint ten = s.cdb[0] == 0x41
    cdef uint64_t length = <uint64_t>1 << v.shift
    cdef uint8_t block[MAX_BLOCK]
    memset(block, 0, length)
    # Protection information, ANCHOR, the obsolete ways to put addresses in; NDOB is of the 16-byte command.
    if s.cdb[1] & (0xF7 if ten else 0xF6):
        answer_sense(v, tag, 0x05, INVALID_FIELD_IN_CDB)
        return
    if count == 0 or count > max_unmap >> v.shift:  # WSNZ
        answer_sense(v, tag, 0x05, INVALID_FIELD_IN_CDB)
        return
    if not s.cdb[1] & 1 and (s.bytes != length or not take_out(s, block, length)):
        answer_sense(v, tag, 0x05, INVALID_FIELD_IN_CDB)
        return
    s.flags = HOST_UNMAP if s.cdb[1] & 0x08 else 0
    if block[0] or memcmp(block, block + 1, length - 1):
        if not pattern(v, s, block, count << v.shift):
            answer_sense(v, tag, 0x04, 0x4400)
            return
    begin(r, v, tag, lba, count)


cdef void write_same_start(reactor_t *r, volume_t *v, uint32_t tag) noexcept nogil:
    cdef slot_t *s = &v.slots[tag]
    wrote(r, v, s.count)
    if s.own == NULL:  # no pattern: zeros
        core_submit(v.core, tag, HOST_ZERO, s.lba << v.shift, <uint32_t>(s.count << v.shift), s.flags)
    else:
        core_submit(v.core, tag, HOST_WRITE, s.lba << v.shift, <uint32_t>(s.count << v.shift), 0)


cdef bint pattern(volume_t *v, slot_t *s, const uint8_t *block, uint64_t length) noexcept nogil:
    """Makes a command's buffers one block again and again. False where there is no memory."""
    cdef uint32_t i
    cdef uint32_t count = <uint32_t>((length + PATTERN_BYTES - 1) // PATTERN_BYTES)
    cdef iovec_t *bigger
    if posix_memalign(<void **>&s.own, 4096, PATTERN_BYTES):
        s.own = NULL
        return False
    for i in range(<uint32_t>PATTERN_BYTES >> v.shift):
        memcpy(s.own + (i << v.shift), block, <size_t>1 << v.shift)
    if count > s.iov_room:
        bigger = <iovec_t *>realloc(s.iov, count * sizeof(iovec_t))
        if bigger == NULL:
            return False
        s.iov = bigger
        s.iov_room = count
    for i in range(count):
        s.iov[i].iov_base = s.own
        s.iov[i].iov_len = length if length < PATTERN_BYTES else PATTERN_BYTES
        length -= s.iov[i].iov_len
    s.iovs = count
    return True


cdef inline void wrote(reactor_t *r, volume_t *v, uint64_t blocks) noexcept nogil:
    v.writes += 1
    v.bytes_written += blocks << v.shift
    v.dirty = 1
    v.wrote_at = r.now
