# Silence: a medium that neither answers nor fails. Hosts would wait for it until the kernel gives their commands up, though
# another leg has all they want. So what goes without an answer for too long is given up, unless nothing can stand in for it:
# the core is told that it failed, and the kernel's requests, which can't be called back, end late. Until then the medium
# gets no other request (nobody attaches it), and the memory that they use is nobody else's.

cdef enum:
    GRACE_PART = 16  # of the time: so much longer, awake, so that a process that was stopped gives nobody up


cdef void io_link(io_t *io) noexcept nogil:
    """Under way from now on: the youngest of its medium's."""
    cdef volume_t *v = io.v
    io.next = NULL
    io.previous = v.youngest[io.medium]
    if io.previous != NULL:
        io.previous.next = io
    else:
        v.oldest[io.medium] = io
    v.youngest[io.medium] = io


cdef void io_unlink(io_t *io) noexcept nogil:
    cdef volume_t *v = io.v
    if io.previous != NULL:
        io.previous.next = io.next
    else:
        v.oldest[io.medium] = io.next
    if io.next != NULL:
        io.next.previous = io.previous
    else:
        v.youngest[io.medium] = io.previous


cdef uint64_t silence(reactor_t *r, volume_t *v) noexcept nogil:
    """Gives up the media that are silent for too long. Returns when to look again at the latest; 0: no need."""
    cdef uint32_t i
    cdef uint64_t due
    cdef uint64_t grace = r.silent // GRACE_PART
    if r.now >= v.silence_at:
        v.silence_at = r.now + r.silent
        for i in range(MAX_MEDIA):
            if v.oldest[i] == NULL:
                continue
            due = v.oldest[i].started + r.silent
            if r.now >= due:
                if v.overdue[i] < due:
                    v.overdue[i] = r.now
                if r.now >= v.overdue[i] + grace:
                    give_up(r, v, i)
                    v.overdue[i] = r.now  # what could not be given up is looked at again
                due = v.overdue[i] + grace
            v.silence_at = min(v.silence_at, due)
    return v.silence_at if v.io_under_way else 0


cdef void give_up(reactor_t *r, volume_t *v, uint32_t medium) noexcept nogil:
    """Ends a medium's requests for the core, if it can do without the medium."""
    cdef io_t *io = v.oldest[medium]
    cdef io_t *following
    if not core_give_up(v.core, medium):
        return
    v.given_up[medium] = 1
    v.touched = 1
    while io != NULL:
        following = io.next
        if lend(v, io):
            io_unlink(io)
            v.io_under_way -= 1
            io.late = 1
            core_uuid(v.core, medium, io.uuid)
            io.previous = NULL
            io.next = r.late
            if r.late != NULL:
                r.late.previous = io
            r.late = io
            core_complete(v.core, io.tag, -ETIMEDOUT)
        io = following


cdef bint lend(volume_t *v, io_t *io) noexcept nogil:
    """Leaves a request the memory that it uses. False where that can't be: then it is waited for."""
    cdef buffer_t *fresh
    cdef uint32_t i
    if io.host != NO_HOST:
        # A kernel that keeps no buffers gives them to other commands: a read would come into theirs. A write may write
        # what is theirs, to a medium that is not believed.
        if io.kind == IO_READ and not v.keeps:
            return False
        io.kept = keep(v, io.host)
        if io.kept == NULL:
            return False
    for i in range(COPY_BUFFERS):
        if io.copy != NULL and v.copies[i] == io.copy:
            fresh = buffer_new()
            if fresh == NULL:
                if io.kept != NULL:
                    kept_leave(NULL, io.kept)  # its command is not answered, so nobody is told
                    io.kept = NULL
                return False
            v.copies[i] = fresh
            buffer_leave(io.copy)  # the volume does; the requests that use it have it still
    return True


cdef void late_over(reactor_t *r, io_t *io) noexcept nogil:
    """A request that was given up has ended. Tells of its medium's last one."""
    cdef message_t *m
    cdef io_t *other
    if io.previous != NULL:
        io.previous.next = io.next
    else:
        r.late = io.next
    if io.next != NULL:
        io.next.previous = io.previous
    if io.kept != NULL:
        kept_leave(r, io.kept)
        io.kept = NULL
    other = r.late
    while other != NULL and memcmp(other.uuid, io.uuid, 16):
        other = other.next
    if other == NULL and io.v != NULL:
        m = message(MESSAGE_EVENT, io.v, EVENT_ANSWERS)
        if m != NULL:
            m.named = 1
            memcpy(m.uuid, io.uuid, 16)
        post(r, m)
    io.late = 0
    io_free(r, io)


cdef void late_without(reactor_t *r, volume_t *v, bint ring_only) noexcept nogil:
    """A volume's ring goes, or all of it: late requests know it no more."""
    cdef io_t *io = r.late
    while io != NULL:
        if io.kept != NULL and io.kept.v == v:
            io.kept.v = NULL
        if io.v == v and not ring_only:
            io.v = NULL
        io = io.next
