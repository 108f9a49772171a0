# Pace: background copies give way to hosts. While hosts are busy, copies run for a while and rest for a while; how hosts fare
# in both is counted, and the share of time that copies get is such that hosts lose LOSS_WANTED of what they do without them.
# So it needs to know nothing of disks: one that has room for both is used, one that has none is left to its hosts.

cdef enum:
    COPIES_FULL = 4  # of each transfer while hosts are quiet
    COPIES_PACED = 2  # and in their turn while hosts are busy
    HOSTS_QUIET = 50000  # microseconds without a command
    TURN = 50000  # microseconds of a turn of copies, if none takes longer
    REST_LEAST = 10000
    REST_MOST = 5000000
    REST_MORE = 300000  # how much longer a rest is at most, until ENOUGH_RESTED commands were answered in it
    ENOUGH_RESTED = 10
    PACE_FREE = 0
    PACE_COPY = 1
    PACE_REST = 2

cdef double LOSS_WANTED = 0.12
cdef double SHARE_LEAST = 0.03  # of the time, so that every transfer ends
cdef double SHARE_MOST = 0.9  # so that it stays known what hosts do without copies
cdef double SHARE_FIRST = 0.15  # while too little is known
cdef double SHARE_GROWS = 1.5  # times, from one turn to the next at most: a few commands say little
cdef double ENOUGH = 10  # commands in both kinds of phases
# What is left of older turns' weight after one more. Little: a host that goes from many commands at once to one at a time
# loses far more to the same copies, and has waited long enough after three or four turns.
cdef double FORGET = 0.6

ctypedef struct pace_t:
    uint8_t phase  # PACE_*
    uint8_t ending  # of a turn of copies: no more begin, those under way belong to it
    uint64_t since
    uint64_t until
    uint64_t answered  # by the volume, at the phase's beginning
    double answers[3]  # of hosts' commands in phases of this kind, older ones with less weight
    double time[3]  # microseconds of the same
    double share  # of the time that copies had last


cdef void pace_phase(reactor_t *r, volume_t *v, uint8_t phase, uint64_t microseconds) noexcept nogil:
    cdef pace_t *p = &v.pace
    p.phase = phase
    p.ending = 0
    p.since = r.now
    p.until = r.now + microseconds
    p.answered = v.answered
    core_allow(v.core, COPIES_FULL if phase == PACE_FREE else COPIES_PACED if phase == PACE_COPY else 0)
    v.touched = 1


cdef uint64_t pace_rest(pace_t *p, double took) noexcept nogil:
    """How long copies rest after a turn of `took` microseconds."""
    cdef double alone, beside, share, rest
    if p.answers[PACE_REST] < ENOUGH or p.answers[PACE_COPY] < ENOUGH:
        share = SHARE_FIRST
    else:
        share = SHARE_MOST
        alone = p.answers[PACE_REST] / p.time[PACE_REST]
        beside = p.answers[PACE_COPY] / p.time[PACE_COPY]
        if (alone - beside) * SHARE_MOST > alone * LOSS_WANTED:
            share = alone * LOSS_WANTED / (alone - beside)
        share = min(max(share, SHARE_LEAST), max(p.share, SHARE_FIRST) * SHARE_GROWS)
    p.share = share
    rest = took * (1 - share) / share
    return <uint64_t>min(max(rest, REST_LEAST), REST_MOST)


cdef uint64_t pace(reactor_t *r, volume_t *v) noexcept nogil:
    """Moves a volume's copies to the phase that is due. Returns when to look again at the latest; 0: no need."""
    cdef pace_t *p = &v.pace
    cdef double took
    if v.free_count < MAX_HOST:
        v.busy_at = r.now
    if not core_copying(v.core) or r.now - v.busy_at > HOSTS_QUIET:
        if p.phase != PACE_FREE:
            pace_phase(r, v, PACE_FREE, 0)
        return 0
    if p.phase == PACE_FREE:
        pace_phase(r, v, PACE_REST, TURN)  # what hosts do alone comes first
    elif r.now >= p.until:
        if p.phase == PACE_COPY and core_background(v.core):
            if not p.ending:
                p.ending = 1
                core_allow(v.core, 0)
            return v.busy_at + HOSTS_QUIET + 1
        if p.phase == PACE_REST and v.answered - p.answered < ENOUGH_RESTED and r.now - p.until < REST_MORE:
            return min(p.until + REST_MORE, v.busy_at + HOSTS_QUIET + 1)
        took = <double>(r.now - p.since)
        p.answers[p.phase] = p.answers[p.phase] * FORGET + <double>(v.answered - p.answered)
        p.time[p.phase] = p.time[p.phase] * FORGET + took
        if p.phase == PACE_COPY:
            pace_phase(r, v, PACE_REST, pace_rest(p, took))
        else:
            pace_phase(r, v, PACE_COPY, TURN)
    return min(p.until, v.busy_at + HOSTS_QUIET + 1)
