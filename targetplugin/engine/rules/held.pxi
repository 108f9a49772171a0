# Points that wait for each other: several volumes are saved as one when each is held before any is switched (rule 21).
# A point that waits does so twice: before it holds hosts, so that what is slow is over on all, and before it is switched.
# Until then it can be called off, and hosts go on at once with nothing changed: by whoever asked, or whoever has a clock.


cdef void point_wait(Core c, task_t *t, uint8_t step, uint32_t event) noexcept nogil:
    """The point goes on at `step` when whoever asked for it says so; till then it may be called off."""
    t.step = step
    enqueue(c, t, Q_POINT)
    emit_event(c, event, 0)


cdef int point_stage_of(Core c) noexcept nogil:
    cdef task_t *t
    if c.point_task < 0 or c.point_cancelled:
        return STAGE_NONE
    t = &c.tasks[c.point_task]
    if c.point_switched:
        return STAGE_SWITCHED
    if t.queue != Q_POINT:
        return STAGE_DRAINING if c.paused else STAGE_PREPARING
    if t.step == STEP_PREPARED:
        return STAGE_READY
    return STAGE_NONE if point_is_lost(c, t) else STAGE_HELD


cdef int point_may_pause(Core c) noexcept nogil:
    if point_stage_of(c) != STAGE_READY:
        return -EAGAIN
    c.point_may_pause = 1
    ready(c, &c.tasks[c.point_task])
    return 0


cdef int point_may_go(Core c) noexcept nogil:
    if point_stage_of(c) != STAGE_HELD:
        return -EAGAIN
    ready(c, &c.tasks[c.point_task])
    return 0


cdef int point_call_off(Core c) noexcept nogil:
    cdef task_t *t
    if c.point_task < 0 or not c.point_waits:
        return -EAGAIN
    t = &c.tasks[c.point_task]
    if c.point_switched or (t.step == STEP_HELD and t.queue != Q_POINT):
        return -EBUSY  # it is in force, or about to be
    c.point_cancelled = 1
    if t.queue == Q_DRAIN or t.queue == Q_POINT:
        ready(c, t)
    hosts_resume(c)  # the point itself ends when what it waits for is over: a disk may be slow
    return 0
