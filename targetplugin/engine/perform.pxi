# Performing the core's actions by io_uring, and giving each result back to it.

cdef enum:
    IO_READ = 1
    IO_WRITE = 2
    IO_FLUSH = 3
    INLINE_IOVS = 16

# One I/O under way. It goes on after a short transfer until it is done or failed.
ctypedef struct io_t:
    volume_t *v
    io_t *next_free
    uint64_t tag
    uint64_t offset
    uint32_t length
    uint32_t done
    uint8_t kind
    uint8_t durable
    int fd
    uint32_t iovs
    uint32_t iov_at  # the first that is not done
    uint32_t iov_room
    iovec_t *iov
    iovec_t room[16]


cdef io_t *io_new(reactor_t *r, uint32_t iovs) noexcept nogil:
    cdef io_t *io = r.free_io
    if io != NULL:
        r.free_io = io.next_free
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
            io.next_free = r.free_io
            r.free_io = io
            return NULL
    io.done = 0
    io.iov_at = 0
    return io


cdef void io_free(reactor_t *r, io_t *io) noexcept nogil:
    io.next_free = r.free_io
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
    if io.kind == IO_FLUSH:
        io_uring_prep_fsync(s, io.fd, IORING_FSYNC_DATASYNC)
    elif io.kind == IO_READ:
        io_uring_prep_readv(s, io.fd, io.iov + io.iov_at, io.iovs - io.iov_at, io.offset + io.done)
    else:
        io_uring_prep_writev2(s, io.fd, io.iov + io.iov_at, io.iovs - io.iov_at, io.offset + io.done,
                              RWF_DSYNC if io.durable else 0)
    io_uring_sqe_set_data64(s, <uint64_t>io)


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
    if result == -EINTR or result == -EAGAIN:
        io_start(r, io)
        return
    if io.kind != IO_FLUSH and result >= 0:
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


cdef void perform_io(reactor_t *r, volume_t *v, action_t *a) noexcept nogil:
    cdef uint32_t iovs = 1
    cdef io_t *io
    if a.buffer == BUFFER_HOST:
        iovs = host_iovs(&v.slots[a.number], a.buffer_offset, a.length, NULL)
    io = io_new(r, iovs)
    if io == NULL or v.fds[a.medium] < 0:
        if io != NULL:
            io_free(r, io)
        v.touched = 1
        core_complete(v.core, a.tag, -ENODEV if io != NULL else -ENOMEM)
        return
    io.v = v
    io.tag = a.tag
    io.fd = v.fds[a.medium]
    io.offset = a.offset
    io.length = a.length
    io.durable = a.flags & ACT_DURABLE
    io.iovs = iovs
    if a.kind == ACT_FLUSH:
        io.kind = IO_FLUSH
    else:
        io.kind = IO_READ if a.kind == ACT_READ else IO_WRITE
        if a.buffer == BUFFER_HOST:
            host_iovs(&v.slots[a.number], a.buffer_offset, a.length, io.iov)
        elif a.buffer == BUFFER_COPY:
            io.iov[0].iov_base = v.copies + <uint64_t>a.number * COPY_BYTES + a.buffer_offset
            io.iov[0].iov_len = a.length
        else:
            io.iov[0].iov_base = a.address
            io.iov[0].iov_len = a.length
    v.io_under_way += 1
    io_start(r, io)


cdef void perform(reactor_t *r, volume_t *v, action_t *a) noexcept nogil:
    if a.kind <= ACT_FLUSH:
        perform_io(r, v, a)
    elif a.kind == ACT_ANSWER:
        if a.status == STATUS_GOOD:
            answer(v, a.number, GOOD, NULL, 0, 0, 0)
        elif a.status == STATUS_READ_ERROR:
            answer_sense(v, a.number, 0x03, 0x1100)
        elif a.status == STATUS_WRITE_ERROR:
            answer_sense(v, a.number, 0x03, 0x0C00)
        else:
            answer_sense(v, a.number, 0x02, 0x0400)
    elif a.kind == ACT_DONE:
        if a.number == 0:
            v.internal = 0
        elif a.number < MAX_REQUESTS:
            r.status[a.number] = a.status
            sem_post(&r.done[a.number])
    elif a.kind == ACT_EVENT:
        if a.number == EVENT_PAUSED:
            v.paused_at = microseconds()
        elif a.number == EVENT_RESUMED:
            v.last_pause = microseconds() - v.paused_at
        else:
            post(r, MESSAGE_EVENT, v, a.number, a.medium)
