# Memory that a request may still use when nobody waits for it any more: copy buffers, hosts' commands' buffers, and the
# mapping of the ring that these lie in. Counts who uses it; the last one lets it go.

cdef enum:
    NO_HOST = 0xFFFF

# A copy buffer. Its users are requests, and the volume.
ctypedef struct buffer_t:
    uint32_t users
    uint8_t *at

# A ring's mapping. Its users are the volume, and commands that are kept.
ctypedef struct mapping_t:
    uint32_t users
    uint8_t *at
    uint64_t length

# A host's command whose buffers late requests use: the kernel is told to keep them, where it can, and when it may have
# them back.
ctypedef struct kept_t:
    uint32_t users  # late requests
    volume_t *v  # NULL: its ring was let go
    mapping_t *mapping
    uint8_t *own  # see slot_t
    uint32_t tag
    uint16_t id
    uint8_t answered


cdef buffer_t *buffer_new() noexcept nogil:
    cdef buffer_t *b = <buffer_t *>calloc(1, sizeof(buffer_t))
    if b == NULL:
        return NULL
    if posix_memalign(<void **>&b.at, 4096, COPY_BYTES):
        free(b)
        return NULL
    b.users = 1
    return b


cdef void buffer_leave(buffer_t *b) noexcept nogil:
    if b == NULL:
        return
    b.users -= 1
    if not b.users:
        free(b.at)
        free(b)


cdef bint copies_rest(volume_t *v) noexcept nogil:
    """Gives the memory of the copy buffers back until they are used again. False where something has one."""
    cdef uint32_t i
    if core_buffers(v.core):
        return False
    for i in range(COPY_BUFFERS):
        if v.copies[i].users > 1:
            return False
    for i in range(COPY_BUFFERS):
        madvise(v.copies[i].at, COPY_BYTES, MADV_DONTNEED)
    return True


cdef void mapping_leave(mapping_t *m) noexcept nogil:
    m.users -= 1
    if not m.users:
        munmap(m.at, m.length)
        free(m)


cdef kept_t *keep(volume_t *v, uint32_t tag) noexcept nogil:
    """One more late request uses a command's buffers. NULL: there is no memory to note it."""
    cdef slot_t *s = &v.slots[tag]
    if s.kept == NULL:
        s.kept = <kept_t *>calloc(1, sizeof(kept_t))
        if s.kept == NULL:
            return NULL
        s.kept.v = v
        s.kept.tag = tag
        s.kept.id = s.id
        s.kept.mapping = v.mapping
        v.mapping.users += 1
    s.kept.users += 1
    return s.kept


cdef void kept_answered(slot_t *s) noexcept nogil:
    """The command is answered with its buffers kept; its slot is another's from here on."""
    s.kept.answered = 1
    s.kept.own = s.own
    s.own = NULL
    s.kept = NULL


cdef void kept_leave(reactor_t *r, kept_t *k) noexcept nogil:
    """A late request of a command's is over. With the last one the kernel gets its buffers back."""
    k.users -= 1
    if k.users:
        return
    if not k.answered:
        k.v.slots[k.tag].kept = NULL
    elif k.v != NULL and k.v.keeps:
        post(r, message(MESSAGE_KEPT, k.v, k.id))
    mapping_leave(k.mapping)
    free(k.own)
    free(k)
