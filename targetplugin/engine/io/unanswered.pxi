# COMPARE AND WRITE that was done, and not answered when the daemon was killed. The kernel answers it BUSY for the dead, the
# host sends it again, and finds what it wrote itself: a MISCOMPARE that it would take for another's. So from before its write
# goes out until it is answered such a command stands in a file that outlives the process, though not the machine's run.
#
# A daemon that starts and finds one keeps its blocks for it: what else wants them is BUSY, which hosts repeat, until it comes
# again, with the same data for the same blocks, and is finished without being compared; or until it has had time enough. If
# it is another host's that is the same to the last bit, that one has won, and the first is told MISCOMPARE: as if it had come
# later. What is forgotten is forgotten before the answer is given: one that is remembered too long would win twice.

cdef enum:
    UNANSWERED = 16  # at most of a volume at once; more are BUSY
    UNANSWERED_HEAD = 4096  # of an entry; what was to be compared and to be written follows
    UNANSWERED_TIME = 5000000  # microseconds for it to come again; hosts repeat what was BUSY at once
    UNANSWERED_MAGIC = 0x57414355


cdef inline uint64_t unanswered_at(uint32_t index) noexcept nogil:
    return index * (UNANSWERED_HEAD + (max_compare << 1))


cdef void unanswered_free(volume_t *v, uint32_t index) noexcept nogil:
    cdef unanswered_t none
    memset(&none, 0, sizeof(none))
    v.left &= <uint16_t>~(1 << index)
    v.noted &= <uint16_t>~(1 << index)
    if pwrite(v.unanswered_fd, &none, sizeof(none), unanswered_at(index)) != sizeof(none):
        ftruncate(v.unanswered_fd, 0)  # better none than one too many
        v.unanswered_fd = -1


cdef void unanswered_load(volume_t *v) noexcept nogil:
    """Those that a daemon that was killed left."""
    cdef uint32_t i
    for i in range(UNANSWERED):
        if (pread(v.unanswered_fd, &v.unanswered[i], sizeof(unanswered_t), unanswered_at(i)) == sizeof(unanswered_t)
                and v.unanswered[i].magic == UNANSWERED_MAGIC):
            v.left |= <uint16_t>(1 << i)


cdef bint unanswered_note(volume_t *v, slot_t *s) noexcept nogil:
    """Before its write goes out. False where too many are under way; where there is no file for it, it goes without."""
    cdef uint32_t i
    cdef unanswered_t *u
    cdef uint64_t length = s.count << (v.shift + 1)
    if v.unanswered_fd < 0:
        return True
    for i in range(UNANSWERED):
        if not (v.left | v.noted) & (1 << i):
            break
    else:
        return False
    u = &v.unanswered[i]
    u.magic = UNANSWERED_MAGIC
    u.generation = s.generation
    u.lba = s.lba
    u.count = s.count
    if (pwrite(v.unanswered_fd, s.own, length, unanswered_at(i) + UNANSWERED_HEAD) != <ssize_t>length
            or pwrite(v.unanswered_fd, u, sizeof(unanswered_t), unanswered_at(i)) != sizeof(unanswered_t)):
        unanswered_free(v, i)
        return True
    v.noted |= <uint16_t>(1 << i)
    s.noted = <uint8_t>(i + 1)
    return True


cdef void unanswered_forget(reactor_t *r, volume_t *v) noexcept nogil:
    """Those whose time is over, and those before a point."""
    cdef uint32_t i
    for i in range(UNANSWERED):
        if (v.left >> i) & 1 and (r.now >= v.kept_until or v.unanswered[i].generation != core_generation(v.core)):
            unanswered_free(v, i)


cdef bint unanswered_same(volume_t *v, slot_t *s, uint32_t index, uint64_t length) noexcept nogil:
    """Whether it brings the same data."""
    cdef uint8_t *data = <uint8_t *>malloc(length)
    cdef bint same
    if data == NULL:
        return False
    same = (pread(v.unanswered_fd, data, length, unanswered_at(index) + UNANSWERED_HEAD) == <ssize_t>length
            and not memcmp(data, s.own, length))
    free(data)
    return same


cdef void unanswered_take(reactor_t *r, volume_t *v, slot_t *s, uint64_t lba, uint64_t count) noexcept nogil:
    """Whether a COMPARE AND WRITE is one that was left: then it is noted as that one."""
    cdef uint32_t i
    unanswered_forget(r, v)
    for i in range(UNANSWERED):
        if ((v.left >> i) & 1 and v.unanswered[i].lba == lba and v.unanswered[i].count == count
                and unanswered_same(v, s, i, count << (v.shift + 1))):
            v.left &= <uint16_t>~(1 << i)
            v.noted |= <uint16_t>(1 << i)
            s.noted = <uint8_t>(i + 1)
            return


cdef bint unanswered_hinders(reactor_t *r, volume_t *v, slot_t *s, uint64_t lba, uint64_t count) noexcept nogil:
    """Whether these blocks are kept for one that was left, and this is another."""
    cdef uint32_t i
    unanswered_forget(r, v)
    for i in range(UNANSWERED):
        if ((v.left >> i) & 1 and not s.noted and v.unanswered[i].lba < lba + count
                and lba < v.unanswered[i].lba + v.unanswered[i].count):
            return True
    return False
