# Commands of several steps: VERIFY, WRITE AND VERIFY, COMPARE AND WRITE, ORWRITE (SBC-3 5.3, 5.17, 5.31, 5.40). What the host
# sent is copied first, so that what is compared is what is written.

cdef enum:
    MISCOMPARE_DURING_VERIFY = 0x1D00

# Bytes; targetplugin/engine/native.py says them to hosts.
cdef uint64_t max_steps = MAX_STEPS
cdef uint64_t max_verify = MAX_VERIFY

cdef enum:
    PHASE_READ = 1  # into the second half of its own memory
    PHASE_WRITE = 2  # from the first
    PHASE_LAST = 3  # what is under way is the last
    PHASE_FLUSH = 4  # then it is read


cdef bint own_memory(slot_t *s, uint64_t sent, uint64_t room) noexcept nogil:
    """Takes what the host sent, and has room after it. False where there is no memory."""
    if posix_memalign(<void **>&s.own, 4096, max(sent + room, <uint64_t>512)):
        s.own = NULL
        return False
    if s.iov_room < 1:
        s.iov = <iovec_t *>malloc(sizeof(iovec_t))
        if s.iov == NULL:
            return False
        s.iov_room = 1
    take_out(s, s.own, sent)
    return True


cdef void use_memory(slot_t *s, uint8_t *at, uint64_t length) noexcept nogil:
    """Its buffers are these bytes of its own memory from now on."""
    s.iov[0].iov_base = at
    s.iov[0].iov_len = length
    s.iovs = 1


cdef void steps(reactor_t *r, volume_t *v, uint32_t tag, uint64_t lba, uint64_t count) noexcept nogil:
    """Checks one, and begins it."""
    cdef slot_t *s = &v.slots[tag]
    cdef uint8_t compares = (s.cdb[1] >> 1) & 3  # BYTCHK
    cdef uint64_t most = max_steps >> v.shift
    cdef uint64_t sent = count << v.shift
    cdef uint64_t room = count << v.shift
    if s.kind == KIND_COMPARE_WRITE:
        compares = 1
        most = max_compare >> v.shift
        sent = count << (v.shift + 1)
    elif s.kind == KIND_ORWRITE:
        compares = 1
    elif s.kind == KIND_VERIFY and compares != 1:
        most = max_verify >> v.shift
        room = min(count << v.shift, max_steps)
        sent = <uint64_t>1 << v.shift if compares == 3 else 0
    elif s.kind == KIND_WRITE_VERIFY and compares == 3:
        compares = 2  # that is of VERIFY alone
    if s.cdb[1] & 0xE0 or compares == 2 or count > most:
        answer_sense(v, tag, 0x05, INVALID_FIELD_IN_CDB)
        return
    if not count and (s.kind != KIND_COMPARE_WRITE or not s.bytes):
        clear_after(s, 0)
        answer(v, tag, GOOD, NULL, 0, 0, 0)
        return
    if s.bytes != sent and (sent or s.kind != KIND_VERIFY):
        answer_sense(v, tag, 0x05, INVALID_FIELD_IN_CDB)
        return
    if not own_memory(s, sent, room):
        answer_sense(v, tag, 0x04, 0x4400)
        return
    s.sent = <uint32_t>sent
    s.done = 0
    if s.kind == KIND_COMPARE_WRITE and v.left:
        unanswered_take(r, v, s, lba, count)
    begin(r, v, tag, lba, count)


cdef void read_step(volume_t *v, uint32_t tag) noexcept nogil:
    """Reads the next part of what it is about. A point may come in between: what is read is of this generation."""
    cdef slot_t *s = &v.slots[tag]
    cdef uint64_t part = min(s.count - s.done, max_steps >> v.shift)
    s.phase = PHASE_READ
    s.generation = core_generation(v.core)
    use_memory(s, s.own + s.sent, part << v.shift)
    core_submit(v.core, tag, HOST_READ, (s.lba + s.done) << v.shift, <uint32_t>(part << v.shift), 0)


cdef void write_step(reactor_t *r, volume_t *v, uint32_t tag, uint8_t *from_, uint8_t phase, uint8_t flags) noexcept nogil:
    cdef slot_t *s = &v.slots[tag]
    s.phase = phase
    use_memory(s, from_, s.count << v.shift)
    wrote(r, v, s.count)
    core_submit(v.core, tag, HOST_WRITE, s.lba << v.shift, <uint32_t>(s.count << v.shift), flags)


cdef void steps_start(reactor_t *r, volume_t *v, uint32_t tag) noexcept nogil:
    cdef slot_t *s = &v.slots[tag]
    if s.kind == KIND_WRITE_VERIFY:  # on the medium, or there is nothing to be verified
        s.flushed = 1
        write_step(r, v, tag, s.own, PHASE_WRITE, HOST_FUA)
    elif s.kind == KIND_VERIFY and not v.through and not v.protected:  # what is verified is on the medium (SBC-3 5.31)
        s.phase = PHASE_FLUSH
        core_submit(v.core, tag, HOST_FLUSH, 0, 0, 0)
    elif s.noted:  # it was compared before
        write_step(r, v, tag, s.own + (s.count << v.shift), PHASE_LAST, HOST_FUA if s.cdb[1] & 0x08 else 0)
    else:
        read_step(v, tag)


cdef uint64_t first_difference(const uint8_t *one, const uint8_t *other, uint64_t length) noexcept nogil:
    """The place of the first byte that differs; `length` where none does."""
    cdef uint64_t at = 0
    if not memcmp(one, other, length):
        return length
    while one[at] == other[at]:
        at += 1
    return at


cdef void miscompare(volume_t *v, uint32_t tag, uint64_t at) noexcept nogil:
    """MISCOMPARE; the information field is the place of the first byte that differs (SBC-3 5.3)."""
    cdef uint8_t sense[18]
    memset(sense, 0, 18)
    sense[0] = 0xF0
    sense[2] = 0x0E
    sense[3] = <uint8_t>(at >> 24)
    sense[4] = <uint8_t>(at >> 16)
    sense[5] = <uint8_t>(at >> 8)
    sense[6] = <uint8_t>at
    sense[7] = 10
    sense[12] = MISCOMPARE_DURING_VERIFY >> 8
    answer(v, tag, CHECK_CONDITION, sense, 18, 1, 0)


cdef bint as_it_was_read(volume_t *v, slot_t *s) noexcept nogil:
    """Whether no point has come, or is about to, since it was read."""
    return s.generation == core_generation(v.core) and not core_paused(v.core)


cdef bint step_next(reactor_t *r, volume_t *v, uint32_t tag) noexcept nogil:
    """A step is done. False where that was the last; else the command goes on, or is answered here."""
    cdef slot_t *s = &v.slots[tag]
    cdef uint8_t *found = s.own + s.sent
    cdef uint8_t flags = HOST_FUA if s.cdb[1] & 0x08 else 0
    cdef uint64_t at, length = s.count << v.shift
    if s.kind < KIND_VERIFY or s.phase == PHASE_LAST:
        return False
    if s.phase == PHASE_WRITE or s.phase == PHASE_FLUSH:
        read_step(v, tag)
        return True
    if s.kind == KIND_VERIFY:
        return verify_next(v, tag)
    if s.kind == KIND_WRITE_VERIFY:
        at = first_difference(s.own, found, length) if (s.cdb[1] >> 1) & 3 else length
        if at == length or not as_it_was_read(v, s):  # after a point there may be other data
            return False
        miscompare(v, tag, at)
        return True
    if not as_it_was_read(v, s):
        read_step(v, tag)  # the core holds it until the point is over
        return True
    if s.kind == KIND_ORWRITE:
        for at in range(length):
            s.own[at] |= found[at]
        write_step(r, v, tag, s.own, PHASE_LAST, flags)
        return True
    at = first_difference(s.own, found, length)
    if at < length:
        miscompare(v, tag, at)
    elif not unanswered_note(v, s):
        answer(v, tag, BUSY, NULL, 0, 0, 0)
    else:
        write_step(r, v, tag, s.own + length, PHASE_LAST, flags)
    return True


cdef bint verify_next(volume_t *v, uint32_t tag) noexcept nogil:
    """A part of a VERIFY is read: it is compared, and the next is read."""
    cdef slot_t *s = &v.slots[tag]
    cdef uint8_t *found = s.own + s.sent
    cdef uint64_t part = min(s.count - s.done, max_steps >> v.shift)
    cdef uint64_t i, at
    cdef uint64_t block = <uint64_t>1 << v.shift
    if s.sent > block or (s.sent and s.count == 1):
        at = first_difference(s.own, found, part << v.shift)
        if at < part << v.shift:
            miscompare(v, tag, at)
            return True
    elif s.sent:
        for i in range(part):
            at = first_difference(s.own, found + (i << v.shift), block)
            if at < block:
                miscompare(v, tag, at)
                return True
    s.done += <uint32_t>part
    if s.done < s.count:
        read_step(v, tag)
        return True
    return False
