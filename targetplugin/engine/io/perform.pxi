# Performing the core's actions by io_uring, and giving each result back to it.

cdef enum:
    IO_READ = 1
    IO_WRITE = 2
    IO_FLUSH = 3
    IO_ZERO = 4
    ZERO_PUNCH = 0  # ways to make zeros; a medium that can't go one is asked for the next, and not again
    ZERO_RANGE = 1
    ZERO_WRITE = 2
    INLINE_IOVS = 16

# One I/O under way. It goes on after a short transfer until it is done or failed; see silence.pxi for one that does not end.
ctypedef struct io_t:
    volume_t *v  # NULL: it is late, and the volume no more
    io_t *next  # of those of its medium under way, of all that are late, or of the free ones
    io_t *previous
    uint64_t started  # microseconds
    uint64_t tag
    uint64_t offset
    uint32_t length
    uint32_t done
    uint8_t kind
    uint8_t durable
    uint8_t medium
    uint8_t way  # ZERO_*
    uint8_t late  # it was given up: the core knows nothing of it any more
    uint8_t uuid[16]  # then: its medium's
    kept_t *kept  # then: the command whose buffers it uses
    uint32_t host  # tag of the host's command whose buffers it uses, or NO_HOST
    buffer_t *copy  # the copy buffer that it uses
    uint8_t *meta  # SLOT_BYTES of its own, once it needed them
    int fd
    uint32_t iovs
    uint32_t iov_at  # the first that is not done
    uint32_t iov_room
    iovec_t *iov
    iovec_t room[16]


cdef io_t *io_new(reactor_t *r, uint32_t iovs) noexcept nogil:
    cdef io_t *io = r.free_io
    if io != NULL:
        r.free_io = io.next
    else:
        io = <io_t *>calloc(1, sizeof(io_t))
        if io == NULL:
            return NULL
        io.iov = io.room
        io.iov_room = INLINE_IOVS
    if iovs > io.iov_room:
        if io.iov != io.room:
            free(io.iov)
        io.iov = <iovec_t *>malloc(iovs * sizeof(iovec_t))
        io.iov_room = iovs
        if io.iov == NULL:
            io.iov = io.room
            io.iov_room = INLINE_IOVS
            io.next = r.free_io
            r.free_io = io
            return NULL
    io.done = 0
    io.iov_at = 0
    io.host = NO_HOST
    return io


cdef void io_free(reactor_t *r, io_t *io) noexcept nogil:
    buffer_leave(io.copy)
    io.copy = NULL
    io.next = r.free_io
    r.free_io = io


cdef sqe_t *sqe(reactor_t *r) noexcept nogil:
    cdef sqe_t *s = io_uring_get_sqe(&r.ring)
    while s == NULL:
        io_uring_submit(&r.ring)
        s = io_uring_get_sqe(&r.ring)
    r.to_submit = 1
    return s


cdef void io_start(reactor_t *r, io_t *io) noexcept nogil:
    cdef sqe_t *s = sqe(r)
    cdef iovec_t *first = io.iov + io.iov_at
    io.started = r.now
    io_link(io)
    if io.kind == IO_FLUSH:
        io_uring_prep_fsync(s, io.fd, IORING_FSYNC_DATASYNC)
    elif io.kind == IO_ZERO:
        io_uring_prep_fallocate(s, io.fd, FALLOC_FL_KEEP_SIZE | (FALLOC_FL_PUNCH_HOLE if io.way == ZERO_PUNCH
                                                                 else FALLOC_FL_ZERO_RANGE), io.offset, io.length)
    elif io.iovs - io.iov_at == 1:  # most are: Linux has no list of buffers to copy then
        if io.kind == IO_READ:
            io_uring_prep_read(s, io.fd, first.iov_base, <unsigned>first.iov_len, io.offset + io.done)
        else:
            io_uring_prep_write(s, io.fd, first.iov_base, <unsigned>first.iov_len, io.offset + io.done)
            s.rw_flags = RWF_DSYNC if io.durable else 0
    elif io.kind == IO_READ:
        io_uring_prep_readv(s, io.fd, first, io.iovs - io.iov_at, io.offset + io.done)
    else:
        io_uring_prep_writev2(s, io.fd, first, io.iovs - io.iov_at, io.offset + io.done,
                              RWF_DSYNC if io.durable else 0)
    io_uring_sqe_set_data64(s, <uint64_t>io)


cdef void zero_start(reactor_t *r, io_t *io) noexcept nogil:
    """Makes a range read as zeros in the best way that its medium has."""
    cdef uint32_t i
    cdef uint64_t left = io.length
    while io.way < ZERO_WRITE and (io.v.zero_not[io.medium] >> io.way) & 1:
        io.way += 1
    if io.way == ZERO_WRITE:
        io.kind = IO_WRITE
        io.iovs = 0
        while left:
            io.iov[io.iovs].iov_base = r.zeros
            io.iov[io.iovs].iov_len = left if left < ZERO_BYTES else ZERO_BYTES
            left -= io.iov[io.iovs].iov_len
            io.iovs += 1
    io_start(r, io)


cdef void io_advance(io_t *io, uint32_t by) noexcept nogil:
    io.done += by
    while by and io.iov_at < io.iovs:
        if io.iov[io.iov_at].iov_len > by:
            io.iov[io.iov_at].iov_base = <char *>io.iov[io.iov_at].iov_base + by
            io.iov[io.iov_at].iov_len -= by
            return
        by -= <uint32_t>io.iov[io.iov_at].iov_len
        io.iov_at += 1


cdef void io_finished(reactor_t *r, io_t *io, int32_t result) noexcept nogil:
    cdef volume_t *v = io.v
    if io.late:
        late_over(r, io)
        return
    io_unlink(io)
    if result == -EINTR or result == -EAGAIN:
        io_start(r, io)
        return
    if io.kind == IO_ZERO and (result == -EOPNOTSUPP or result == -ENODEV or result == -EINVAL):
        v.zero_not[io.medium] |= 1 << io.way
        zero_start(r, io)
        return
    if io.kind <= IO_WRITE and result >= 0:
        if result == 0:
            result = -EIO  # the medium ends before its size
        else:
            io_advance(io, <uint32_t>result)
            if io.done < io.length:
                io_start(r, io)
                return
    v.io_under_way -= 1
    v.touched = 1
    core_complete(v.core, io.tag, result if result < 0 else 0)
    io_free(r, io)


cdef uint32_t host_iovs(slot_t *s, uint64_t offset, uint64_t length, iovec_t *out) noexcept nogil:
    """The part [offset, offset + length) of a command's buffers. Counts only, where out is NULL."""
    cdef uint32_t i, count = 0
    cdef uint64_t size, take
    for i in range(s.iovs):
        size = s.iov[i].iov_len
        if offset >= size:
            offset -= size
            continue
        if not length:
            break
        take = size - offset
        if take > length:
            take = length
        if out != NULL:
            out[count].iov_base = <char *>s.iov[i].iov_base + offset
            out[count].iov_len = take
        count += 1
        length -= take
        offset = 0
    return count


cdef uint32_t joined_iovs(volume_t *v, const action_t *a, iovec_t *out) noexcept nogil:
    """A host's data between the head and the tail that a copy buffer has; either may be empty."""
    cdef uint8_t *copied = v.copies[a.copy].at if a.head or a.tail else NULL
    cdef uint32_t count = 0
    if a.head:
        out[0].iov_base = copied
        out[0].iov_len = a.head
        count = 1
    count += host_iovs(&v.slots[a.number], 0, a.length - a.head - a.tail, out + count)
    if a.tail:
        out[count].iov_base = copied + a.tail_at
        out[count].iov_len = a.tail
        count += 1
    return count


cdef inline void copy_use(volume_t *v, io_t *io, uint32_t copy) noexcept nogil:
    v.copied_at = v.now
    io.copy = v.copies[copy]
    io.copy.users += 1


cdef bint meta_room(io_t *io) noexcept nogil:
    """Memory of its own: the core writes into its own again when it has the result, which may be before the request ends."""
    if io.meta == NULL and posix_memalign(<void **>&io.meta, SLOT_BYTES, SLOT_BYTES):
        io.meta = NULL
    return io.meta != NULL


cdef void perform_io(reactor_t *r, volume_t *v, action_t *a) noexcept nogil:
    cdef uint32_t iovs = 1
    cdef io_t *io
    if a.kind == ACT_ZERO:
        iovs = INLINE_IOVS
    elif a.buffer == BUFFER_HOST:
        iovs = host_iovs(&v.slots[a.number], a.buffer_offset, a.length, NULL)
    elif a.buffer == BUFFER_JOINED:
        iovs = 2 + host_iovs(&v.slots[a.number], 0, a.length - a.head - a.tail, NULL)
    io = io_new(r, iovs)
    if io == NULL or v.fds[a.medium] < 0 or v.given_up[a.medium]:
        if io != NULL:
            io_free(r, io)
        v.touched = 1
        core_complete(v.core, a.tag, -ENODEV if io != NULL else -ENOMEM)
        return
    if a.buffer == BUFFER_META and not meta_room(io):
        io_free(r, io)
        v.touched = 1
        core_complete(v.core, a.tag, -ENOMEM)
        return
    io.v = v
    io.tag = a.tag
    io.fd = v.fds[a.medium]
    io.offset = a.offset
    io.length = a.length
    io.durable = a.flags & ACT_DURABLE
    io.medium = a.medium
    io.iovs = iovs
    if a.kind == ACT_ZERO:
        io.kind = IO_ZERO
        io.way = ZERO_PUNCH if a.flags & ACT_UNMAP else ZERO_RANGE
        v.io_under_way += 1
        zero_start(r, io)
        return
    if a.kind == ACT_FLUSH:
        io.kind = IO_FLUSH
    else:
        io.kind = IO_READ if a.kind == ACT_READ else IO_WRITE
        if a.buffer == BUFFER_HOST:
            host_iovs(&v.slots[a.number], a.buffer_offset, a.length, io.iov)
            io.host = a.number
        elif a.buffer == BUFFER_JOINED:
            io.iovs = joined_iovs(v, a, io.iov)
            io.host = a.number
            if a.head or a.tail:
                copy_use(v, io, a.copy)
        elif a.buffer == BUFFER_COPY:
            copy_use(v, io, a.number)
            io.iov[0].iov_base = io.copy.at + a.buffer_offset
            io.iov[0].iov_len = a.length
        else:
            memcpy(io.meta, a.address, a.length)
            io.iov[0].iov_base = io.meta
            io.iov[0].iov_len = a.length
    v.io_under_way += 1
    io_start(r, io)


cdef int32_t compare_buffers(const uint8_t *one, const uint8_t *other, uint32_t length) noexcept nogil:
    """0, or the place of a byte in the first block of 512 that differs, counted from 1."""
    cdef uint32_t at = 0
    cdef uint32_t block
    while at < length:
        block = min(<uint32_t>512, length - at)
        if memcmp(one + at, other + at, block):
            return <int32_t>at + 1
        at += block
    return 0


cdef void perform(reactor_t *r, volume_t *v, action_t *a) noexcept nogil:
    if a.kind <= ACT_ZERO:
        perform_io(r, v, a)
    elif a.kind == ACT_COMPARE:
        core_complete(v.core, a.tag, compare_buffers(
            v.copies[a.number].at + a.buffer_offset, v.copies[a.copy].at + a.buffer_offset, a.length))
        v.touched = 1
    elif a.kind == ACT_GIVE:
        memcpy(r.given[a.copy], v.copies[a.number].at, a.length)
        core_complete(v.core, a.tag, 0)
        v.touched = 1
    elif a.kind == ACT_ANSWER:
        if a.status == STATUS_GOOD and (unmap_next(v, a.number) or step_next(r, v, a.number) or flush_first(v, a.number)):
            v.touched = 1
        elif a.status == STATUS_GOOD:
            answer(v, a.number, GOOD, NULL, 0, v.slots[a.number].moved != 0, v.slots[a.number].moved)
        elif a.status == STATUS_READ_ERROR:
            v.read_errors += 1
            answer_sense(v, a.number, 0x03, 0x1100)
        elif a.status == STATUS_WRITE_ERROR:
            v.write_errors += 1
            answer_sense(v, a.number, 0x03, 0x0C00)
        elif a.status == STATUS_PROTECTED:
            answer_sense(v, a.number, 0x07, 0x2700)
        else:
            answer_sense(v, a.number, 0x02, 0x0400)
    elif a.kind == ACT_DONE:
        if a.number == 0:
            v.internal = 0
        elif a.number < MAX_REQUESTS:
            r.status[a.number] = a.status
            sem_post(&r.done[a.number])
            together_changed(v)
    elif a.kind == ACT_EVENT:
        if a.number == EVENT_PAUSED:
            v.pausing = 1
            v.paused_at = microseconds()
            together_paused(v)
        elif a.number == EVENT_DRAINED:
            v.last_drain = microseconds() - v.paused_at
            v.pause_work = 0
        elif a.number == EVENT_RESUMED:
            v.pausing = 0
            v.last_pause = microseconds() - v.paused_at
        elif a.number == EVENT_READY or a.number == EVENT_HELD:
            together_changed(v)
        else:
            post_event(r, v, a.number, a.medium)
