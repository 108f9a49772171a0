# The TCMU ring of a volume: taking entries in batches, decoding the commands of a busy host, answering out of order.
# Nothing in the ring is believed: an entry is copied before it is checked, and everything that points is bounded.

cdef enum:
    MAX_VOLUMES = 256
    MAX_IOVS = 1022  # of one command: with two more the kernel still takes them at once
    CDB_BYTES = 16
    MIN_ENTRY = 112  # what an answer needs
    REQUEST_SENSE = 0x03
    INQUIRY = 0x12
    REPORT_LUNS = 0xA0
    GOOD = 0
    CHECK_CONDITION = 2
    BUSY = 8

ctypedef struct io_t
ctypedef struct buffer_t
ctypedef struct mapping_t
ctypedef struct kept_t
ctypedef struct together_t

# How an entry in the file of unanswered commands begins.
ctypedef struct unanswered_t:
    uint32_t magic  # zero: it is free
    uint32_t generation  # in which it was compared: after a point there may be other data
    uint64_t lba
    uint64_t count

# A host command under way.
ctypedef struct slot_t:
    uint8_t used
    uint8_t python  # it is with Python
    uint32_t serial  # of the commands that Python had: an answer to another than this one comes too late
    uint16_t id
    uint32_t iovs
    uint32_t iov_room
    iovec_t *iov
    uint64_t bytes  # its buffers, all together
    uint32_t moved  # of a read: what it transfers, where its buffers have room for more; 0: it fills them
    uint8_t *own  # memory of its own, freed with the answer: an UNMAP's ranges, a WRITE SAME's pattern
    kept_t *kept  # late requests use its buffers
    uint32_t ranges  # of an UNMAP
    uint32_t range_at  # the next
    uint8_t kind  # KIND_*
    uint8_t flags  # for the core
    uint8_t phase  # PHASE_*, of a command of several steps
    uint8_t waits  # for another on the same blocks
    uint8_t flushed  # what it changed is on stable storage, or will be when what is under way is over
    uint32_t sent  # bytes at the beginning of its own memory that the host sent
    uint8_t noted  # number of its entry among the unanswered, from 1; 0: it has none
    uint32_t done  # blocks of a VERIFY
    uint32_t generation  # in which its blocks were read
    uint64_t lba  # the blocks that it is about; none: no other command is hindered by it
    uint64_t count
    uint64_t arrival
    uint64_t began  # when it was taken, by the loop's clock
    uint8_t cdb[16]

# What one volume needs to be served.
ctypedef struct volume_t:
    uint8_t used
    uint8_t detaching
    uint8_t broken  # its ring made no sense; it waits for a reset
    uint8_t gone  # its descriptor gives errors; it is not polled again
    uint8_t polling
    uint8_t kick  # answers were given since the last kick
    uint8_t internal  # a checkpoint of the reactor's own is under way
    uint8_t protected  # it is a view, which hosts may only read
    uint8_t looked_up  # and Python looks up what it holds
    uint8_t through  # hosts have no write cache: what is answered is on stable storage
    uint32_t handle  # the engine's name for it, never used again
    void *core
    uint64_t blocks
    uint32_t shift  # of a logical block's length: 9 or 12
    int fds[16]
    uint8_t zero_not[16]  # ZERO_*, a bit each: what each medium was found not to have
    int ring_fd
    uint8_t *map
    mapping_t *mapping  # the same, as something that commands' late requests use, too
    uint8_t keeps  # its kernel keeps a command's buffers if it is told to
    uint64_t map_length
    uint32_t offset  # of the command ring, as it was when it was attached
    uint32_t size
    uint32_t next  # where the next entry to be taken is
    uint32_t tail  # where the next answer goes; the ring's own is only written
    slot_t *slots
    uint16_t *free_slots
    uint32_t free_count
    buffer_t *copies[8]
    uint64_t copied_at  # when one of those was used last; 0: they have no memory
    int unanswered_fd  # the file of those; -1: there is none
    unanswered_t unanswered[16]
    uint16_t noted  # entries of the file that are commands' under way, a bit each
    uint16_t left  # and those that a daemon that was killed left
    uint64_t kept_until  # then those are forgotten
    uint32_t alone  # commands that are atomic against others
    uint32_t waiting  # commands that wait for others on the same blocks
    uint8_t freed  # one of those may begin
    uint64_t arrivals
    uint16_t attention  # asc, ascq of a pending UNIT ATTENTION; 0: none
    uint32_t io_under_way
    io_t *oldest[16]  # of each medium's requests under way, in the order of their starts
    io_t *youngest[16]
    uint64_t overdue[16]  # when the oldest was first seen to take too long
    uint64_t silence_at  # nothing takes too long before that
    uint8_t given_up[16]  # media that get no more requests
    uint64_t wrote_at
    uint64_t busy_at  # when a host's command was under way last
    uint64_t now  # of its turn in the loop
    uint64_t answered  # hosts' commands
    pace_t pace
    uint8_t dirty
    uint8_t touched
    uint8_t pausing
    uint8_t called_off  # its time with others is over
    together_t *together  # those that it is saved with, or NULL
    uint64_t paused_at
    uint64_t last_pause  # microseconds that hosts were held, all in all
    uint64_t last_drain  # of those: until what was under way was over
    uint64_t pause_work  # and of what came after: what the core and the calls for its I/O took, disks' time taken off
    uint64_t reads
    uint64_t writes
    uint64_t flushes
    uint64_t read_errors  # answers that said so
    uint64_t write_errors
    uint64_t bytes_read
    uint64_t bytes_written
    uint64_t read_us  # microseconds from when it was taken to the answer, of all reads
    uint64_t write_us


cdef inline uint32_t be16(const uint8_t *p) noexcept nogil:
    return (<uint32_t>p[0] << 8) | p[1]


cdef inline uint32_t be32(const uint8_t *p) noexcept nogil:
    return (be16(p) << 16) | be16(p + 2)


cdef inline uint64_t be64(const uint8_t *p) noexcept nogil:
    return (<uint64_t>be32(p) << 32) | be32(p + 4)


cdef inline uint32_t ahead(volume_t *v, uint32_t start, uint32_t end) noexcept nogil:
    """Bytes of the command ring from one place on to another; both are below its size."""
    return end - start if end >= start else v.size - start + end


cdef void answer_raw(volume_t *v, uint16_t id, uint8_t status, const uint8_t *sense, uint32_t length,
                     int has_read, uint32_t read_length, int keep) noexcept nogil:
    """Puts an answer where the kernel looks for the next one: over the oldest entry that is not answered.

    An entry's length is read a second time here, and may have changed: it is checked again.
    """
    cdef uint32_t length_op, step
    cdef uint8_t *entry
    while v.tail != v.next:
        entry = v.map + v.offset + v.tail
        length_op = entry_length_op(entry)
        step = length_op & ~<uint32_t>TCMU_OP_MASK
        if step < 8 or step > ahead(v, v.tail, v.next) or step > v.size - v.tail:
            v.broken = 1
            return
        if (length_op & TCMU_OP_MASK) == TCMU_OP_CMD:
            if step < MIN_ENTRY:
                v.broken = 1
                return
            entry_answer(entry, id, status, sense, length, has_read, read_length, keep)
            v.tail = (v.tail + step) % v.size
            break
        v.tail = (v.tail + step) % v.size
    ring_set_tail(v.map, v.tail)
    v.kick = 1


cdef void answer_sense(volume_t *v, uint32_t tag, uint8_t key, uint16_t code) noexcept nogil:
    cdef uint8_t sense[18]
    memset(sense, 0, 18)
    sense[0] = 0x70
    sense[2] = key
    sense[7] = 10
    sense[12] = <uint8_t>(code >> 8)
    sense[13] = <uint8_t>code
    answer(v, tag, CHECK_CONDITION, sense, 18, 1, 0)


cdef void answer(volume_t *v, uint32_t tag, uint8_t status, const uint8_t *sense, uint32_t length,
                 int has_read, uint32_t read_length) noexcept nogil:
    cdef slot_t *s = &v.slots[tag]
    if s.noted:
        unanswered_free(v, s.noted - 1)
        s.noted = 0
    if v.map != NULL and not v.broken:
        answer_raw(v, s.id, status, sense, length, has_read, read_length, s.kept != NULL and v.keeps)
    if s.kept != NULL:
        kept_answered(s)
    if s.kind == KIND_READ:
        v.read_us += v.now - s.began
    elif s.kind == KIND_WRITE:
        v.write_us += v.now - s.began
    over(v, s)
    s.used = 0
    s.python = 0
    free(s.own)
    s.own = NULL
    v.answered += 1
    v.free_slots[v.free_count] = <uint16_t>tag
    v.free_count += 1


cdef bint slot_take(volume_t *v, slot_t *s, const uint8_t *entry, uint32_t length) noexcept nogil:
    """Copies an entry. False where it points outside the mapping or claims more than it has room for."""
    cdef uint32_t i
    cdef uint32_t count = entry_iovs(entry)
    cdef uint64_t cdb = entry_cdb(entry)
    cdef uint64_t base, size
    cdef iovec_t *bigger
    s.id = entry_id(entry)
    s.bytes = 0
    s.moved = 0
    s.iovs = 0
    s.ranges = s.range_at = 0
    s.kind = KIND_PYTHON
    s.flags = s.phase = s.waits = s.flushed = s.noted = 0
    s.count = 0
    if count > MAX_IOVS or count > entry_iov_room(length) or cdb >= v.map_length or v.map_length - cdb < CDB_BYTES:
        return False
    memcpy(s.cdb, v.map + cdb, CDB_BYTES)
    if count > s.iov_room:
        bigger = <iovec_t *>realloc(s.iov, count * sizeof(iovec_t))
        if bigger == NULL:
            return False
        s.iov = bigger
        s.iov_room = count
    for i in range(count):
        base = entry_iov_base(entry, i)
        size = entry_iov_length(entry, i)
        if base < v.offset + v.size or base > v.map_length or size > v.map_length - base:
            return False  # not in the data area: the command ring lies before it
        s.iov[i].iov_base = v.map + base
        s.iov[i].iov_len = size
        s.bytes += size
    s.iovs = count
    return s.bytes <= v.map_length


cdef bint fits(volume_t *v, slot_t *s, uint64_t length) noexcept nogil:
    """Whether the buffers hold a transfer, in whole blocks: disks take no other pieces."""
    cdef uint32_t i
    cdef uint64_t mask = (<uint64_t>1 << v.shift) - 1
    for i in range(s.iovs):
        if <uint64_t>s.iov[i].iov_base & mask:
            return False
        if s.iov[i].iov_len >= length:
            return True
        if s.iov[i].iov_len & mask:
            return False
        length -= s.iov[i].iov_len
    return False


cdef void clear_after(slot_t *s, uint64_t kept) noexcept nogil:
    """Zeros in the buffers from there on: their pages hold what other commands left in them."""
    cdef uint32_t i
    cdef uint64_t keep
    for i in range(s.iovs):
        keep = min(kept, <uint64_t>s.iov[i].iov_len)
        memset(<char *>s.iov[i].iov_base + keep, 0, s.iov[i].iov_len - keep)
        kept -= keep


cdef bint tell_attention(volume_t *v, uint32_t tag) noexcept nogil:
    """A pending attention, as what a REQUEST SENSE returns (SPC-4 6.39): it is told with that. False where the command is
    not right, or has no room for it.
    """
    cdef slot_t *s = &v.slots[tag]
    cdef uint8_t sense[18]
    cdef bint fixed = not s.cdb[1]  # else in descriptor format
    cdef uint32_t length = <uint32_t>min(<uint64_t>(18 if fixed else 8), min(<uint64_t>s.cdb[4], s.bytes))
    if s.cdb[1] > 1 or s.cdb[2] or s.cdb[3] or s.cdb[5] or length < 8:
        return False
    memset(sense, 0, 18)
    sense[0] = 0x70 if fixed else 0x72
    sense[2 if fixed else 1] = 0x06
    sense[12 if fixed else 2] = <uint8_t>(v.attention >> 8)
    sense[13 if fixed else 3] = <uint8_t>v.attention
    sense[7] = 10 if fixed else 0
    v.attention = 0
    clear_after(s, 0)
    put_in(s, sense, length)
    answer(v, tag, GOOD, NULL, 0, 1, length)
    return True


cdef void put_in(slot_t *s, const uint8_t *data, uint64_t length) noexcept nogil:
    """Copies to the beginning of a command's buffers, which have room for it."""
    cdef uint32_t i
    cdef uint64_t take
    for i in range(s.iovs):
        take = min(length, <uint64_t>s.iov[i].iov_len)
        memcpy(s.iov[i].iov_base, data, take)
        data += take
        length -= take


cdef void command(reactor_t *r, volume_t *v, uint32_t tag) noexcept nogil:
    """Checks a command that stands in a slot, and begins it."""
    cdef slot_t *s = &v.slots[tag]
    cdef uint8_t op = s.cdb[0]
    cdef const decode_t *d = &DECODE[op]
    cdef uint64_t lba = 0
    cdef uint64_t count = 0
    if v.attention and op == REQUEST_SENSE:
        if tell_attention(v, tag):
            return
    elif v.attention and op != INQUIRY and op != REPORT_LUNS:
        answer_sense(v, tag, 0x06, v.attention)
        v.attention = 0
        return
    if d.kind == KIND_PYTHON:
        python_command(r, v, tag)
        return
    if s.cdb[d.control_at] & NACA:
        answer_sense(v, tag, 0x05, INVALID_FIELD_IN_CDB)
        return
    if v.protected and d.changes:
        answer_sense(v, tag, 0x07, 0x2700)
        return
    if v.looked_up and (d.kind == KIND_READ or d.kind == KIND_VERIFY):
        python_command(r, v, tag)
        return
    if d.lba_bytes:
        decode(d, s.cdb, &lba, &count)
        if lba > v.blocks or count > v.blocks - lba:
            answer_sense(v, tag, 0x05, LBA_OUT_OF_RANGE)
            return
    s.kind = d.kind
    if s.kind == KIND_READ or s.kind == KIND_WRITE:
        transfer(r, v, tag, lba, count)
    elif s.kind == KIND_FLUSH:
        v.flushes += 1
        core_submit(v.core, tag, HOST_FLUSH, 0, 0, 0)
    elif s.kind == KIND_UNMAP:
        unmap(r, v, tag)
    elif s.kind == KIND_SAME:
        write_same(r, v, tag, lba, count)
    elif s.kind >= KIND_VERIFY:
        steps(r, v, tag, lba, count)
    else:  # TEST UNIT READY; PRE-FETCH, which takes nothing into a cache
        clear_after(s, 0)
        answer(v, tag, GOOD, NULL, 0, 0, 0)


cdef void transfer(reactor_t *r, volume_t *v, uint32_t tag, uint64_t lba, uint64_t count) noexcept nogil:
    """READ and WRITE."""
    cdef slot_t *s = &v.slots[tag]
    if s.cdb[0] & 0xE0:  # but the 6-byte ones have other bits there
        if s.cdb[1] & 0xE0:  # protection information, which the volume has not
            answer_sense(v, tag, 0x05, INVALID_FIELD_IN_CDB)
            return
        if s.cdb[1] & 0x08:
            s.flags = HOST_FUA
    if s.kind == KIND_WRITE and v.through:
        s.flags = HOST_FUA
    s.flushed = s.kind == KIND_WRITE and s.flags != 0
    if count == 0:
        clear_after(s, 0)
        answer(v, tag, GOOD, NULL, 0, 0, 0)
        return
    if count > <uint64_t>0xFFFFFFFF >> v.shift or not fits(v, s, count << v.shift):  # the core counts a command's bytes in 32 bits
        answer_sense(v, tag, 0x05, INVALID_FIELD_IN_CDB)
        return
    if s.kind == KIND_READ and s.bytes > count << v.shift:
        clear_after(s, count << v.shift)
        s.moved = <uint32_t>(count << v.shift)
    begin(r, v, tag, lba, count)


cdef void start(reactor_t *r, volume_t *v, uint32_t tag) noexcept nogil:
    """Gives a command that is found right, and that nothing hinders, to the core."""
    cdef slot_t *s = &v.slots[tag]
    if s.kind == KIND_READ:
        v.reads += 1
        v.bytes_read += s.count << v.shift
        core_submit(v.core, tag, HOST_READ, s.lba << v.shift, <uint32_t>(s.count << v.shift), 0)
    elif s.kind == KIND_WRITE:
        wrote(r, v, s.count)
        core_submit(v.core, tag, HOST_WRITE, s.lba << v.shift, <uint32_t>(s.count << v.shift), s.flags)
    elif s.kind == KIND_UNMAP:
        unmap_next(v, tag)
    elif s.kind == KIND_SAME:
        write_same_start(r, v, tag)
    else:
        steps_start(r, v, tag)


cdef bint flush_first(volume_t *v, uint32_t tag) noexcept nogil:
    """Whether a command that is done is answered later, as what it changed may be in a cache, and is to be in none. One
    that was begun before that was asked for is no exception. Nor is what a READ with FUA returns to be in one (SBC-3
    5.11), however it came there.
    """
    cdef slot_t *s = &v.slots[tag]
    cdef bint reads = s.kind == KIND_READ and s.flags and not v.protected
    if s.flushed or not (reads or (v.through and DECODE[s.cdb[0]].changes)):
        return False
    s.flushed = 1
    core_submit(v.core, tag, HOST_FLUSH, 0, 0, 0)
    return True


cdef bint ring_take(reactor_t *r, volume_t *v) noexcept nogil:
    """Takes all entries that are there and that slots are free for. True when there was one."""
    cdef uint32_t head, length_op, length
    cdef uint32_t tag
    cdef uint8_t *entry
    cdef bint any = False
    if v.map == NULL or v.broken or v.detaching:
        return False
    head = ring_head(v.map)
    if head >= v.size or head & TCMU_OP_MASK:
        v.broken = 1
        return False
    while v.next != head and v.free_count:
        entry = v.map + v.offset + v.next
        length_op = entry_length_op(entry)
        length = length_op & ~<uint32_t>TCMU_OP_MASK
        if length < 8 or length > ahead(v, v.next, head) or length > v.size - v.next:
            v.broken = 1
            return any
        any = True
        if (length_op & TCMU_OP_MASK) == TCMU_OP_CMD:
            if length < MIN_ENTRY:
                v.broken = 1
                return any
            tag = v.free_slots[v.free_count - 1]
            v.free_count -= 1
            v.slots[tag].used = 1
            v.slots[tag].began = v.now
            v.next = (v.next + length) % v.size
            if slot_take(v, &v.slots[tag], entry, length):
                command(r, v, tag)
            else:
                answer_sense(v, tag, 0x05, 0x2400)
            continue
        if (length_op & TCMU_OP_MASK) > TCMU_OP_TMR:
            entry_unknown(entry)
        v.next = (v.next + length) % v.size
    if any and v.free_count == MAX_HOST:
        # Nothing is left to be answered: padding at the end would keep the kernel from reusing the ring.
        v.tail = v.next
        ring_set_tail(v.map, v.tail)
        v.kick = 1
    return any


cdef void ring_kick(volume_t *v) noexcept nogil:
    cdef uint32_t one = 1
    if v.kick:
        v.kick = 0
        if write(v.ring_fd, &one, 4) != 4:
            v.kick = 1 if errno == EAGAIN else 0
