# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The engine's core: a state machine that decides what is done with a volume's media, and in which order.

It does no I/O and has no clock, thread or descriptor. A host command, a completion or a request goes in; actions come
out. Whoever performs them (the executor on io_uring, or a model) gives each one's result back. The rules of order stand
in rules/, once, and are named by number where they are kept; docs/explanation.md lists them.
"""

from libc.errno cimport EAGAIN, EBUSY, EINVAL, EIO, ENOENT, ENOMEM, ENOSPC, ERANGE
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport abort, calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset

from targetplugin.engine.record import LegRecord, LegState, Record, SaveRecord, SaveState, StoreRecord, StoreState
from targetplugin.errors import Reason, Refused

cdef extern from "zlib.h" nogil:
    unsigned long crc32(unsigned long crc, const unsigned char *data, unsigned int length)

cdef extern from *:
    int __builtin_ctzll(unsigned long long) nogil
    int __builtin_ctz(unsigned int) nogil
    int __builtin_popcountll(unsigned long long) nogil
    int __builtin_popcount(unsigned int) nogil

cdef extern from "errno.h" nogil:
    int ECANCELED

cdef extern from "stdlib.h" nogil:
    int posix_memalign(void **pointer, size_t alignment, size_t size)

include "rules/codes.pxi"
include "rules/bitmap.pxi"
include "rules/tasks.pxi"
include "rules/log.pxi"
include "rules/record.pxi"
include "rules/rounds.pxi"
include "rules/store.pxi"
include "rules/head.pxi"
include "rules/commands.pxi"
include "rules/overwrite.pxi"
include "rules/copies.pxi"
include "rules/keep.pxi"
include "rules/look.pxi"
include "rules/compare.pxi"
include "rules/turn.pxi"
include "rules/points.pxi"
include "rules/held.pxi"
include "rules/start.pxi"
include "rules/reload.pxi"


cdef void advance(Core c, task_t *t) noexcept nogil:
    dequeue(c, t)
    if t.kind == TASK_WRITE:
        write_advance(c, t)
    elif t.kind == TASK_READ:
        read_advance(c, t)
    elif t.kind == TASK_FLUSH:
        flush_advance(c, t)
    elif t.kind <= TASK_RECOVER:
        copy_advance(c, t)
    elif t.kind == TASK_JOIN:
        join_advance(c, t)
    elif t.kind == TASK_POINT:
        point_advance(c, t)
    elif t.kind == TASK_BRING:
        sync_advance(c, t)
    elif t.kind == TASK_DROP:
        drop_advance(c, t)
    elif t.kind == TASK_CLEAN:
        clean_advance(c, t)
    elif t.kind == TASK_BOOT:
        boot_advance(c, t)
    elif t.kind == TASK_COMPARE:
        compare_advance(c, t)
    elif t.kind == TASK_KEEP:
        keep_advance(c, t)
    elif t.kind == TASK_EXTEND:
        extend_advance(c, t)
    elif t.kind == TASK_STORE:
        store_advance(c, t)
    elif t.kind == TASK_FORGET:
        forget_advance(c, t)
    elif t.kind == TASK_HOLD:
        hold_advance(c, t)
    elif t.kind == TASK_LOOK:
        look_advance(c, t)


cdef class Core:
    """The state of one volume and what is under way on it.

    Args:
        uuid: of the volume, 16 bytes.
        size: bytes, a multiple of 512.
        extent_shift: 12 (4 KiB) to 20 (1 MiB).
    Raises:
        ValueError: an argument is out of range. MemoryError: no room for the maps.
    """

    def __cinit__(self, bytes uuid, uint64_t size, uint32_t extent_shift):
        cdef int i
        if len(uuid) != 16 or size == 0 or size % 512 or not 12 <= extent_shift <= 20:
            raise ValueError("a volume has a uuid of 16 bytes, a size in blocks of 512 and extents of 4 KiB to 1 MiB")
        memcpy(self.uuid, <const uint8_t *>uuid, 16)
        self.size = size
        self.extent_shift = extent_shift
        self.extents = (size + (<uint64_t>1 << extent_shift) - 1) >> extent_shift
        self.region_total = (size + (<uint64_t>1 << REGION_SHIFT) - 1) >> REGION_SHIFT
        self.log_room = LOG_REGIONS
        self.action_room = 1024
        self.tasks = <task_t *>calloc(TASKS, sizeof(task_t))
        self.actions = <action_t *>calloc(self.action_room, sizeof(action_t))
        self.regions = <region_t *>calloc(LOG_REGIONS, sizeof(region_t))
        self.region_index = <uint16_t *>calloc(self.region_total, 2)
        if (self.tasks == NULL or self.actions == NULL or self.regions == NULL or self.region_index == NULL
                or posix_memalign(<void **>&self.record_buffer, SLOT_BYTES, SLOT_BYTES)
                or posix_memalign(<void **>&self.slot_memory, SLOT_BYTES, SLOT_BYTES * MAX_SLOT_BUFFERS)
                or posix_memalign(<void **>&self.head_buffer, SLOT_BYTES, SLOT_BYTES * (1 + PAGES))
                or map_make(&self.live, self.extents, AREA_LIVE_ODD, 1)
                or map_make(&self.missed, self.extents, AREA_MISSED, 0)
                or map_make(&self.pending, self.extents, AREA_PENDING, 0)):
            raise MemoryError(f"no memory for the maps of {self.extents} extents")
        self.frozen = <uint8_t *>calloc(self.live.slots * SLOT_WORDS, 8)
        if self.frozen == NULL:
            raise MemoryError(f"no memory for the maps of {self.extents} extents")
        for i in range(16):
            self.lists[i].first = self.lists[i].last = -1
        self.locks.first = self.locks.last = -1
        for i in range(TASKS):
            self.tasks[i].queue = Q_NONE
            enqueue(self, &self.tasks[i], Q_FREE)
        self.buffers_free = (<uint32_t>1 << COPY_BUFFERS) - 1
        self.slot_free = (<uint32_t>1 << MAX_SLOT_BUFFERS) - 1
        self.point_task = -1
        self.point_save = NO_BUFFER
        self.recover_source = NO_BUFFER
        self.store = NO_BUFFER
        self.store_page = PAGE_ENTRIES
        self.sweep_at = <uint32_t>NO_SLOT
        self.copies_allowed = COPIES_ALLOWED
        self.booting = 1

    def __dealloc__(self):
        cdef int i
        for i in range(MAX_MEDIA):
            map_free(&self.media[i].map)
        map_free(&self.live)
        map_free(&self.missed)
        map_free(&self.pending)
        free(self.frozen)
        free(self.tasks)
        free(self.actions)
        free(self.regions)
        free(self.region_index)
        free(self.record_buffer)
        free(self.slot_memory)
        free(self.head_buffer)
        store_free(self)
        turn_free(self)

    # --- for the executor -----------------------------------------------------------------------

    cdef void submit(self, uint32_t tag, uint8_t op, uint64_t offset, uint32_t length, uint8_t flags) noexcept nogil:
        # HOST_* and TASK_* are the same numbers, but for zeros, which are written.
        cdef task_t *t
        cdef action_t *a
        if self.view and op != HOST_READ:
            a = emit(self, ACT_ANSWER)
            a.number = tag
            a.status = STATUS_GOOD if op == HOST_FLUSH else STATUS_PROTECTED  # nothing is ever written, so all is flushed
            return
        t = task_new(self, TASK_WRITE if op == HOST_ZERO else op, STEP_BEGIN)
        if t == NULL:
            a = emit(self, ACT_ANSWER)
            a.number = tag
            a.status = STATUS_NO_LEG
            return
        t.number = tag
        t.offset = offset
        t.length = length
        t.flags = flags & (HOST_FUA | HOST_UNMAP)
        if op == HOST_ZERO:
            t.flags |= FLAG_ZERO
        if self.paused or self.booting or self.closing:
            enqueue(self, t, Q_HOLD)
            wake_all(self, Q_BOOT)
        else:
            host_begin(self, t)

    cdef void complete(self, uint64_t tag, int32_t result) noexcept nogil:
        cdef uint32_t medium = tag & 0xFF
        cdef uint64_t kind = tag & (<uint64_t>0xFF << 56)
        cdef task_t *t
        self.media[medium].in_flight -= 1
        if kind == TAG_TASK:
            t = &self.tasks[<uint32_t>(tag >> 8)]
            t.waiting -= 1
            if result < 0:
                t.failed |= <uint32_t>1 << medium
            elif t.kind == TASK_COMPARE:
                t.status = result
            if not t.waiting:
                ready(self, t)
        elif kind == TAG_RECORD:
            record_written(self, medium, result)
        elif kind == TAG_SLOT:
            slot_written(self, (tag >> 8) & 0xFF, medium, result)
        elif kind == TAG_HEAD:
            head_written(self, result)
        else:
            flushed(self, medium, result)

    cdef void drive(self) noexcept nogil:
        cdef bint more = True
        if sweeping(self):
            sweep_some(self)
        while more:
            while self.lists[Q_READY].first >= 0:
                advance(self, &self.tasks[self.lists[Q_READY].first])
            drains_check(self)
            clean_when_full(self)
            background(self)
            more = False
            # Rule 3: none makes the leg stale that alone has a slot of a map, before another has it.
            if self.record_wanted > self.record_started and not self.record_waiting and not (self.booting and self.damaged):
                record_start(self)
                more = True
            if store_go_on(self):
                more = True
            if round_start(self):
                more = True
            if flushes_start(self):
                more = True
            if self.lists[Q_READY].first >= 0:
                more = True
        self.unfinished = sweep_due(self)

    cdef action_t *next_action(self) noexcept nogil:
        if self.action_head == self.action_tail:
            return NULL
        self.current = self.actions[self.action_head & (self.action_room - 1)]
        self.action_head += 1
        return &self.current

    cdef int medium_add(self, const medium_spec_t *spec) noexcept nogil:
        cdef int i = self.find(spec.uuid)
        if spec.map_slots and not medium_fits(self, spec):
            return -ENOSPC
        if i >= 0:
            if self.media[i].present:
                return -EBUSY
            self.media[i].spec = spec[0]  # one that was away; sync() brings it in
            return i
        for i in range(MAX_MEDIA):
            if not self.media[i].used:
                memset(&self.media[i], 0, sizeof(medium_t))
                self.media[i].used = 1
                self.media[i].present = 1
                self.media[i].spec = spec[0]
                self.media_end = max(self.media_end, <uint32_t>i + 1)
                return i
        return -ENOSPC

    cdef int find(self, const uint8_t *uuid) noexcept nogil:
        cdef int i
        for i in range(MAX_MEDIA):
            if self.media[i].used and not memcmp(self.media[i].spec.uuid, uuid, 16):
                return i
        return -1

    cdef int point(self, uint32_t request, int kind, uint32_t mask, uint32_t source, uint32_t source_generation,
                   const uint8_t *base, uint64_t op, uint32_t save, const uint8_t *lacks, int waits) noexcept nogil:
        cdef int error
        cdef task_t *t
        if kind == POINT_COPY:
            save = source
        error = -EINVAL if self.view else point_check(self, kind, mask, source, source_generation, save)
        if not error and self.recovering:
            error = -EBUSY if waits else turn_prepare(self)
        if error:
            return error
        if save < MAX_MEDIA and save != self.store:
            map_free(&self.media[save].map)
            if map_make(&self.media[save].map, self.extents, AREA_HAS, self.generation):
                return -ENOMEM
        t = task_new(self, TASK_POINT, STEP_BEGIN)
        if t == NULL:
            turn_free(self)
            return -EBUSY
        t.number = request
        self.point_task = index_of(self, t)
        self.point_kind = <uint8_t>kind
        self.point_mask = mask
        self.point_source = source
        self.point_generation = source_generation
        self.point_base = base
        self.point_op = op
        self.point_save = save
        self.point_lacks = lacks if save < MAX_MEDIA and save != self.store else NULL
        self.point_failed = 0
        self.point_waits = 1 if waits else 0
        self.point_may_pause = self.point_switched = self.point_cancelled = 0
        ready(self, t)
        return 0

    cdef int point_stage(self) noexcept nogil:
        return point_stage_of(self)

    cdef int point_pause(self) noexcept nogil:
        return point_may_pause(self)

    cdef int point_go(self) noexcept nogil:
        return point_may_go(self)

    cdef int point_cancel(self) noexcept nogil:
        return point_call_off(self)

    cdef int sync(self, uint32_t request, uint32_t medium, const uint8_t *pending) noexcept nogil:
        cdef medium_t *m
        cdef task_t *t
        cdef uint32_t i, legs = 0
        if self.view or medium >= MAX_MEDIA or not self.media[medium].used:
            return -EINVAL
        m = &self.media[medium]
        if not medium_fits(self, &m.spec):
            return -ENOSPC
        if not m.spec.record_offset:
            return -EINVAL  # a name in a record: where things lie on it is known when it is attached
        for i in range(MAX_MEDIA):
            legs += 1 if self.media[i].used and self.media[i].role == ROLE_LEG else 0
        if self.booting or self.closing or self.point_task >= 0:
            return -EBUSY
        if m.role == ROLE_LEG:
            if m.state == LEG_IN_SYNC or m.syncing != SYNC_NO or m.in_flight:
                return -EBUSY
        elif m.role != ROLE_NONE or m.syncing != SYNC_NO:
            return -EBUSY
        elif legs >= MAX_LEGS:
            return -ENOSPC
        t = task_new(self, TASK_BRING, STEP_BEGIN)
        if t == NULL:
            return -EBUSY
        t.number = request
        t.medium = <uint8_t>medium
        m.given_up = 0
        if m.role == ROLE_NONE:
            m.syncing = SYNC_PREPARING  # a leg only when what it lacks is durable; what is written now is marked already
            m.state = LEG_FRESH if pending == NULL else LEG_STALE
            if pending != NULL:
                self.events += 1  # a tag of its own
                missed_open(self)
                map_or_bytes(&self.missed, pending)
                map_or(&self.missed, self.live.words)
                if self.recovering:
                    map_or(&self.missed, self.pending.words)
        ready(self, t)
        return 0

    cdef int drop(self, uint32_t request, uint32_t medium) noexcept nogil:
        cdef medium_t *m
        cdef task_t *t
        if self.view:
            return -EINVAL
        if medium >= MAX_MEDIA or not self.media[medium].used:
            return -ENOENT
        m = &self.media[medium]
        if self.point_task >= 0 or self.booting:
            return -EBUSY
        if self.recovering and medium == self.recover_source:
            return -EBUSY
        if medium == self.store and (sparse_any(self) or m.role != ROLE_STORE or self.store_making):
            return -EBUSY
        if m.role == ROLE_LEG and m.state == LEG_IN_SYNC and not legs_in_sync(self) & ~(<uint32_t>1 << medium):
            return -EBUSY
        t = task_new(self, TASK_DROP, STEP_BEGIN)
        if t == NULL:
            return -EBUSY
        t.number = request
        t.medium = <uint8_t>medium
        if m.role == ROLE_LEG:
            self.events += 1
        if m.role != ROLE_NONE:
            guard(self)  # till the record is durable a start takes it for what it was, and it misses writes from here on
        m.role = ROLE_NONE
        m.syncing = SYNC_NO
        if medium == self.store:
            m.state = STORE_LOST  # nothing more goes to it
            wake_all(self, Q_ROOM)
            head_over(self)
        if not leg_absent(self) and legs_in_sync(self) == legs_written(self):
            self.missed_tag = 0
            map_reset(&self.missed, AREA_MISSED, 0)
        ready(self, t)
        return 0

    cdef int checkpoint(self, uint32_t request, int close) noexcept nogil:
        cdef task_t *t
        if self.booting or (close and (self.closing or self.point_task >= 0)):
            wake_all(self, Q_BOOT)
            return -EBUSY
        t = task_new(self, TASK_CLEAN, STEP_BEGIN)
        if t == NULL:
            return -EBUSY
        t.number = request
        if close:
            t.flags = FLAG_CLOSE
            self.closing = 1
        ready(self, t)
        return 0

    cdef int compare(self, uint32_t request, uint64_t offset, uint64_t length) noexcept nogil:
        cdef int error = compare_check(self, offset, length)
        cdef task_t *t
        if error:
            return error
        t = task_new(self, TASK_COMPARE, STEP_BEGIN)
        if t == NULL:
            return -EBUSY
        t.number = request
        t.offset = offset
        t.length = length
        self.comparing = 1
        self.unreadable = 0
        self.copy_active += 1
        ready(self, t)
        return 0

    cdef int store_add(self, uint32_t request, uint32_t medium, uint64_t op) noexcept nogil:
        cdef int error = store_check(self, medium)
        cdef task_t *t
        if not error:
            error = store_make(self, medium)
        if error:
            return error
        t = task_new(self, TASK_STORE, STEP_BEGIN)
        if t == NULL:
            store_free(self)
            return -EBUSY
        t.number = request
        t.medium = <uint8_t>medium
        self.media[medium].state = STORE_READY
        self.media[medium].given_up = 0
        self.store_nonce = op << 32 | <uint32_t>self.events
        self.extending = self.store_making = 1
        ready(self, t)
        return 0

    cdef int sparse_change(self, uint32_t request, uint32_t generation, int change) noexcept nogil:
        cdef int error = change_check(self, generation)
        cdef task_t *t
        if error:
            return error
        t = task_new(self, TASK_FORGET if change == SPARSE_FORGET else TASK_HOLD, STEP_BEGIN)
        if t == NULL:
            return -EBUSY
        t.number = request
        t.part = generation
        t.part_length = change
        ready(self, t)
        return 0

    cdef int look(self, uint32_t request, uint32_t generation, uint64_t offset, uint64_t length) noexcept nogil:
        cdef int error = look_check(self, generation, offset, length)
        cdef task_t *t
        if error:
            return error
        t = task_new(self, TASK_LOOK, STEP_LOCKED)
        if t == NULL:
            return -EBUSY
        t.number = request
        t.offset = offset
        t.length = length
        t.flush_mask = generation
        t.medium = <uint8_t>look_medium(self, generation)
        self.copy_active += 1
        lock(self, t, STEP_LOCKED)
        return 0

    cdef int give_up(self, uint32_t medium) noexcept nogil:
        # The core itself does it, and first: else another leg could fail meanwhile and this one be the last, which is
        # believed, with requests that still write to it.
        cdef medium_t *m
        if medium >= MAX_MEDIA or not self.media[medium].used:
            return 0
        m = &self.media[medium]
        if m.role == ROLE_LEG and m.state == LEG_IN_SYNC and not legs_in_sync(self) & ~(<uint32_t>1 << medium):
            return 0
        if self.recovering and medium == self.recover_source:
            return 0
        m.given_up = 1
        medium_fail(self, medium)
        return 1

    cdef void allow(self, uint32_t copies) noexcept nogil:
        self.copies_allowed = copies

    cdef int idle(self) noexcept nogil:
        return (self.host_active == 0 and self.copy_active == 0 and self.point_task < 0 and not self.record_waiting
                and not self.head_waiting
                and not self.round_running and self.lists[Q_FREE].count == TASKS)

    # --- the start --------------------------------------------------------------------------------

    def attach(self, bytes uuid, uint64_t data_size, uint64_t record_offset, uint64_t maps_offset, uint32_t map_slots):
        """Makes a medium that is there known, before start(). Returns its index; ValueError when it does not fit."""
        cdef medium_spec_t spec
        cdef int index
        if len(uuid) != 16:
            raise ValueError("a medium's uuid has 16 bytes")
        memcpy(spec.uuid, <const uint8_t *>uuid, 16)
        spec.data_size = data_size
        spec.record_offset = record_offset
        spec.maps_offset = maps_offset
        spec.map_slots = map_slots
        index = self.medium_add(&spec)
        if index < 0:
            raise ValueError(f"medium {uuid.hex()} can't be attached: it is too small, known already or one too many")
        return index

    def start(self, record, slots=(), bint same_content=False):
        """Takes up the state that was left on the media; then host commands may come.

        Args:
            record: the newest valid record block (4096 bytes), or None for a new volume: its legs are what is attached,
                the first in sync, the others too if same_content, else brought in from the first.
            slots: map slots (4096 bytes each) read from the record's in-sync legs and filling saves, and the heads and
                pages of its store, in any order.
        Raises:
            Refused: the record is of another volume or format, or no leg in sync is there.
        """
        cdef task_t *t
        if not self.booting or self.lists[Q_FREE].count != TASKS:
            raise ValueError("the volume was started already")
        if record is None:
            start_new(self, same_content)
        else:
            start_again(self, record, slots)
        t = task_new(self, TASK_BOOT, STEP_BEGIN)
        ready(self, t)

    def show(self, bint looked_up=False):
        """Instead of start(): a view. Hosts read what the media that are attached hold, which is the same on all of them,
        and nothing is ever written to one: no host's data, no record and no map.

        Args:
            looked_up: it has no media: who looks up what it holds answers READ and VERIFY.
        Raises:
            Refused: none is attached.
        """
        if not self.booting or self.lists[Q_FREE].count != TASKS:
            raise ValueError("the volume was started already")
        start_view(self, looked_up)

    # --- looking at it; call these only while no other thread is in the core ----------------------------

    def status(self):
        """What is known now, as a dict; extents are counts. Keys: see docs/reference.md, `engine status`."""
        legs, saves = {}, {}
        cdef int i
        cdef medium_t *m
        for i in range(MAX_MEDIA):
            m = &self.media[i]
            if not m.used:
                continue
            if m.role == ROLE_LEG:
                if m.state == LEG_IN_SYNC:
                    state, missed = "in_sync", 0
                elif m.syncing != SYNC_NO:
                    state, missed = "syncing", m.map.count
                else:
                    state = "stale" if m.present else "missing"
                    missed = self.extents if m.state == LEG_FRESH else self.missed.count
                legs[m.spec.uuid[:16]] = {"state": state, "missed": missed}
            elif m.role == ROLE_SAVE:
                saves[m.spec.uuid[:16]] = {
                    "generation": m.generation,
                    "state": {SAVE_FILLING: "filling", SAVE_WHOLE: "whole", SAVE_BROKEN: "broken"}[m.state],
                    "has": m.map.count,
                }
        recover = None
        if self.recovering:
            source = self.media[self.recover_source].spec.uuid[:16]
            recover = {"source": source, "generation": self.recover_generation, "pending": self.pending.count,
                       "total": self.pending_total, "copied": self.pending_total - self.pending.count,
                       "failed": bool(self.recover_failed)}
        store = None
        if self.store < MAX_MEDIA and self.media[self.store].role == ROLE_STORE:
            store = {
                "uuid": self.media[self.store].spec.uuid[:16], "state": "ready" if store_there(self) else "broken",
                "slots": self.store_limit, "used": self.store_used,
                "saves": {self.sparse[i].generation: {
                    "state": "broken" if self.sparse[i].flags & SPARSE_BROKEN else "sparse",
                    "held": bool(self.sparse[i].flags & SPARSE_HELD), "extents": self.sparse[i].entries,
                } for i in range(<int>self.sparse_count)},
            }
        names = ("reads", "writes", "flushes", "records", "slots", "recovered", "synced", "filled")
        return {
            "generation": self.generation, "parent": self.parent, "events": self.events, "op": self.op,
            "extents": self.extents, "changed": self.live.count, "regions": self.region_count,
            "legs": legs, "saves": saves, "recover": recover, "store": store, "paused": bool(self.paused),
            "failed": legs_in_sync(self) == 0, **{names[i]: self.counters[i] for i in range(8)},
        }

    def live_bytes(self):
        """The map of this generation: ceil(extents / 8) bytes, lowest bit first."""
        return (<uint8_t *>self.live.words)[:(self.extents + 7) >> 3]

    def frozen_bytes(self):
        """The map of the generation that was frozen last."""
        return self.frozen[:(self.extents + 7) >> 3]

    def left_uuids(self):
        """The legs that were in sync and are none since the last point: what a split or swap made a save."""
        return [self.media[i].spec.uuid[:16] for i in range(MAX_MEDIA)
                if self.before_role[i] == ROLE_LEG and self.before_state[i] == LEG_IN_SYNC
                and self.media[i].used and self.media[i].role == ROLE_NONE]

    def compared_now(self):
        """What the last compare of a run found: (the extents of the run that differ: the uuids of the legs that differ from
        the first, the first's uuid, the uuids of legs that could not be read). Extents are counted from the run's first.
        """
        def uuids(mask):
            return [self.medium_uuid(i) for i in range(MAX_MEDIA) if (mask >> i) & 1 and self.medium_uuid(i)]
        different = {at: uuids(self.compared[at]) for at in range(256) if self.compared[at]}
        return different, self.medium_uuid(self.compared_with), uuids(self.unreadable)

    def medium_uuid(self, uint32_t index):
        """The uuid of the medium that an event or action names by its index; None where there is none."""
        return self.media[index].spec.uuid[:16] if index < MAX_MEDIA and self.media[index].used else None

    def idle_now(self):
        return bool(self.idle())

    def started(self):
        """Whether the first record after start() is durable, so that requests may come."""
        return not self.booting

    # --- the same door for Python: models and tests ------------------------------------------------------

    def command(self, uint32_t tag, uint8_t op, uint64_t offset, uint32_t length, uint8_t flags=0):
        self.submit(tag, op, offset, length, flags)

    def completed(self, uint64_t tag, int32_t result):
        self.complete(tag, result)

    def gave_up(self, uint32_t medium):
        return bool(self.give_up(medium))

    def allowed(self, uint32_t copies):
        self.allow(copies)

    def stage(self):
        """How far a point is that waits for others: none, preparing, ready, draining, held or switched."""
        return ("none", "preparing", "ready", "draining", "held", "switched")[self.point_stage()]

    def may_pause(self):
        """Lets a point that is ready hold hosts. False where there is none."""
        return self.point_pause() == 0

    def go(self):
        """Lets a point that is held be switched. False where there is none."""
        return self.point_go() == 0

    def call_off(self):
        """Ends a point that waits with ECANCELED; hosts go on at once. False where it is in force already, or none."""
        return self.point_cancel() == 0

    def take(self):
        """Drives the core and takes its actions: a list of dicts, in order."""
        cdef action_t *a
        self.drive()
        while self.unfinished:
            self.drive()
        taken = []
        while True:
            a = self.next_action()
            if a == NULL:
                return taken
            taken.append({
                "kind": a.kind, "buffer": a.buffer, "medium": a.medium, "durable": bool(a.flags & ACT_DURABLE),
                "number": a.number, "status": a.status, "length": a.length, "offset": a.offset,
                "buffer_offset": a.buffer_offset, "tag": a.tag,
                "data": None if a.address == NULL else a.address[:a.length],
                "copy": a.copy, "head": a.head, "tail": a.tail, "tail_at": a.tail_at,
            })

    def request(self, str verb, uint32_t number, *, uint32_t medium=0, uint32_t mask=0, uint32_t generation=0,
                bytes base=None, uint64_t op=0, save=None, bytes lacks=None, bint waits=False, uint64_t offset=0,
                uint64_t length=0):
        """Starts a request; returns 0 or a negative errno. `base` and `lacks` must live until the request is done.

        Args:
            save: of a recover: a medium that gets, by copy before write, what the volume was up to it.
            lacks: what that medium, or a copy's, lacks of the point when the live generation begins, as it holds an
                older save; None: everything.
            waits: a point that waits, ready, for may_pause(), and then, with hosts held, for go().
            offset, length: the run that is compared or looked at, bytes.
        """
        cdef const uint8_t *data = NULL if base is None else <const uint8_t *>base
        cdef const uint8_t *lacking = NULL if lacks is None else <const uint8_t *>lacks
        kinds = {"split": POINT_SPLIT, "copy": POINT_COPY, "recover": POINT_RECOVER, "swap": POINT_SWAP}
        if any(bits is not None and len(bits) < (self.extents + 7) >> 3 for bits in (base, lacks)):
            raise ValueError("the map is too short")
        if verb in kinds:
            return self.point(number, kinds[verb], mask, medium, generation, data, op,
                              NO_BUFFER if save is None else save, lacking, waits)
        if verb == "sync":
            return self.sync(number, medium, data)
        if verb == "drop":
            return self.drop(number, medium)
        if verb in ("checkpoint", "close"):
            return self.checkpoint(number, verb == "close")
        if verb == "compare":
            return self.compare(number, offset, length)
        if verb == "store":
            return self.store_add(number, medium, op)
        if verb in ("forget", "hold", "unhold"):
            return self.sparse_change(number, generation, {"forget": SPARSE_FORGET, "hold": SPARSE_HOLD}.get(verb, SPARSE_UNHOLD))
        if verb == "look":
            return self.look(number, generation, offset, length)
        raise ValueError(f"no request {verb}")


# --- reading what is on disk ------------------------------------------------------------------------------

def _checked(bytes block, bytes magic, uint32_t crc_at):
    """Whether a 4 KiB block has the magic and the right checksum."""
    if len(block) != SLOT_BYTES or block[:len(magic)] != magic:
        return False
    blank = block[:crc_at] + b"\0\0\0\0" + block[crc_at + 4:]
    return crc32(0, <const uint8_t *>blank, SLOT_BYTES) == get32(<const uint8_t *>block + crc_at)


def decode_record(bytes block):
    """A record block's Record, or None where it is damaged or no record.

    Raises:
        Refused: it is whole, but of a later format.
    """
    if not _checked(block, b"TPLGVOL1", 8):
        return None
    word = lambda at, size: int.from_bytes(block[at:at + size], "little")  # noqa: E731
    if word(12, 2) != 1 or word(16, 8) & ~<uint64_t>FEATURE_STORE:
        raise Refused(Reason.ENVIRONMENT, "the volume record was written by a later version",
                      hint="install the version of targetplugin that wrote it, or a later one")
    legs, saves = [], []
    states = {LEG_IN_SYNC: LegState.IN_SYNC, LEG_STALE: LegState.STALE, LEG_FRESH: LegState.SYNCING}
    fills = {SAVE_FILLING: SaveState.FILLING, SAVE_WHOLE: SaveState.WHOLE, SAVE_BROKEN: SaveState.BROKEN}
    stores = {STORE_READY: StoreState.READY, STORE_LOST: StoreState.BROKEN}
    store = None
    for at in range(112, 112 + 24 * min(block[81], MAX_LEGS), 24):
        legs.append(LegRecord(block[at:at + 16], states[block[at + 16]]))
    for at in range(304, 304 + 24 * min(block[82], MAX_SAVES), 24):
        if block[at + 20] in stores:
            store = StoreRecord(block[at:at + 16], word(at + 16, 4), stores[block[at + 20]], word(at + 21, 3))
        else:
            saves.append(SaveRecord(block[at:at + 16], word(at + 16, 4), fills[block[at + 20]]))
    flags = word(14, 2)
    return Record(
        volume=block[24:40], events=word(40, 8), sequence=word(48, 8), op=word(56, 8), size=word(64, 8),
        generation=word(72, 4), parent=word(76, 4), extent_shift=block[80], clean=bool(flags & 1), legs=legs, saves=saves,
        recover=(block[88:104], word(104, 4)) if flags & 2 else None, missed_tag=word(84, 4),
        pending_tag=word(664, 4), store=store,
        regions=[word(688 + 4 * i, 4) for i in range(min(word(108, 4), LOG_REGIONS))],
    )


def decode_map_slot(bytes block):
    """A map slot as (area, slot, tag, sequence, bits: 4064 bytes), or None where it is damaged or none."""
    if not _checked(block, b"TPM1", 4) or block[9] != 1:
        return None
    word = lambda at: int.from_bytes(block[at:at + 4], "little")  # noqa: E731
    return block[8], word(12), word(16), word(20), block[32:]
