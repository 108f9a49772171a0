# A start: the state as the newest record and the maps on the media have it (rules 13, 19, 20).


cdef start_new(Core c, bint same_content):
    cdef int i
    cdef bint first = True
    c.generation = 1
    c.events = 1
    for i in range(MAX_MEDIA):
        if not c.media[i].used:
            continue
        c.media[i].role = ROLE_LEG
        c.media[i].state = LEG_IN_SYNC if first or same_content else LEG_FRESH
        first = False
    if first:
        raise Refused(Reason.STATE, "a volume can't be started without a medium", hint="attach a leg")


cdef start_view(Core c, bint looked_up):
    cdef uint32_t i
    for i in range(MAX_MEDIA):
        if c.media[i].used:
            c.media[i].role = ROLE_LEG
            c.media[i].state = LEG_IN_SYNC
    if not legs_in_sync(c) and not looked_up:
        raise Refused(Reason.STATE, "there is nothing to be shown without a medium", hint="attach one")
    c.view = 1
    c.looked_up = looked_up
    c.booting = 0


cdef start_again(Core c, bytes block, slots):
    cdef uint32_t i, keep
    cdef int index
    cdef bint torn
    record = decode_record(block)
    if record is None:
        raise Refused(Reason.ENVIRONMENT, "the volume record is damaged", hint="read another leg's")
    # A volume may have grown since: what came to it is zeros on all that it has, and in no map.
    if record.volume != c.uuid[:16] or record.size > c.size or record.extent_shift != c.extent_shift:
        raise Refused(Reason.ENVIRONMENT, "the volume record is that of another volume")
    c.events = record.events + 1
    c.record_started = c.record_done = c.record_wanted = record.sequence
    c.op = record.op
    c.generation = record.generation
    c.parent = record.parent
    for leg in record.legs:
        index = known(c, leg.uuid)
        c.media[index].role = ROLE_LEG
        c.media[index].state = {LegState.IN_SYNC: LEG_IN_SYNC, LegState.STALE: LEG_STALE,
                                   LegState.SYNCING: LEG_FRESH}[leg.state]
    for save in record.saves:
        index = known(c, save.uuid)
        c.media[index].role = ROLE_SAVE
        c.media[index].generation = save.generation
        c.media[index].state = SAVE_FILLING if save.state is SaveState.FILLING else SAVE_BROKEN
        if map_make(&c.media[index].map, c.extents, AREA_HAS, save.generation):
            raise MemoryError("no memory for a save's map")
    if record.recover is not None:
        c.recovering = 1
        c.recover_generation = record.recover[1]
        index = known(c, record.recover[0])
        c.recover_source = <uint8_t>index
        if c.media[index].role == ROLE_NONE:
            c.media[index].role = ROLE_SOURCE
        if not c.media[index].present:
            c.recover_failed = 1
    if record.store is not None:
        load_store(c, record.store, slots)
    map_reset(&c.live, AREA_LIVE_EVEN if c.generation % 2 == 0 else AREA_LIVE_ODD, c.generation)
    map_reset(&c.missed, AREA_MISSED, record.missed_tag)
    map_reset(&c.pending, AREA_PENDING, record.pending_tag)
    c.missed_tag = record.missed_tag
    legs = {leg.uuid for leg in record.legs if leg.state is LegState.IN_SYNC}
    load_slots(c, slots, sum(c.media[i].present and c.media[i].spec.uuid[:16] in legs for i in range(MAX_MEDIA)))
    for region in record.regions:
        if region >= c.region_total or c.region_count == LOG_REGIONS or c.region_index[region]:
            continue
        c.regions[c.region_count].region = region
        c.region_count += 1
        c.region_index[region] = <uint16_t>c.region_count
    log_or_into(c, &c.live)
    if c.missed_tag:
        log_or_into(c, &c.missed)
        if c.recovering:
            map_or(&c.missed, c.pending.words)
    c.pending_total = c.pending.count
    keep = 0
    torn = c.region_count > 0 and not record.clean
    for i in range(MAX_MEDIA):
        if not c.media[i].used:
            continue
        if c.media[i].role == ROLE_LEG and c.media[i].state == LEG_IN_SYNC:
            # After a crash legs may differ in the logged regions: one is believed, the others follow it.
            if not c.media[i].present or (keep and torn):
                c.media[i].state = LEG_STALE
                missed_begin(c)
            else:
                keep = 1
        elif c.media[i].role == ROLE_SAVE and c.media[i].state == SAVE_FILLING and not c.media[i].present:
            save_break(c, i)
    if not keep:
        raise Refused(Reason.STATE, "no leg in sync is there", hint="bring back the medium that was in sync last")


cdef int known(Core c, bytes uuid) except -1:
    """The index of a medium that a record names, which may not be there."""
    cdef medium_spec_t spec
    cdef int index = c.find(<const uint8_t *>uuid)
    if index >= 0:
        return index
    memset(&spec, 0, sizeof(spec))
    memcpy(spec.uuid, <const uint8_t *>uuid, 16)
    spec.data_size = c.size
    spec.map_slots = c.live.slots
    index = c.medium_add(&spec)
    if index < 0:
        raise Refused(Reason.STATE, "the volume has more media than can be attached")
    c.media[index].present = 0
    return index


cdef load_slots(Core c, slots, int copies):
    """Takes up the newest of each slot. One that is not on all `copies` legs is written again: it was damaged there."""
    cdef map_t *m
    cdef int i
    cdef uint8_t owner[8]
    found = {}  # (area, slot): (sequence, how often)
    for block in slots:
        decoded = decode_map_slot(block)
        if decoded is None:
            continue
        area, slot, tag, sequence, payload = decoded
        m = NULL
        if area != AREA_HAS and block[24:32] != c.uuid[:8]:
            continue
        if area == c.live.area and tag == c.live.tag:
            m = &c.live
        elif area == AREA_MISSED and tag == c.missed_tag and tag:
            m = &c.missed
        elif area == AREA_PENDING and c.recovering and tag == c.pending.tag:
            m = &c.pending
        elif area == AREA_HAS:
            for i in range(MAX_MEDIA):
                if (c.media[i].used and c.media[i].role == ROLE_SAVE and c.media[i].map.words != NULL
                        and c.media[i].generation == tag):
                    slot_owner(c, AREA_HAS, i, owner)
                    # An earlier version wrote the volume's alone.
                    if block[24:32] not in (owner[:8], c.uuid[:8]):
                        continue
                    m = &c.media[i].map
        if m == NULL or slot >= m.slots:
            continue
        if area != AREA_HAS:
            newest, count = found.get((area, slot), (0, 0))
            if sequence >= newest:
                found[area, slot] = sequence, count + 1 if sequence == newest else 1
        if sequence <= m.sequence[slot]:
            continue
        m.sequence[slot] = sequence
        memcpy(m.words + <uint64_t>slot * SLOT_WORDS, <const uint8_t *>payload, SLOT_WORDS * 8)
    # What is written from here on comes after all that is there, void or not, and goes not where the valid one is.
    valid = {}  # (area, slot): sequence
    for block in slots:
        decoded = decode_map_slot(block)
        if decoded is None or block[24:32] != c.uuid[:8] or decoded[0] > AREA_PENDING or decoded[1] >= c.live.slots:
            continue
        m = &c.live if decoded[0] <= AREA_LIVE_ODD else &c.missed if decoded[0] == AREA_MISSED else &c.pending
        if decoded[3] > m.sequence[<uint32_t>decoded[1]]:
            valid.setdefault((m.area, decoded[1]), m.sequence[<uint32_t>decoded[1]])
            m.sequence[<uint32_t>decoded[1]] = decoded[3]
    for (area, slot), sequence in valid.items():
        m = &c.live if area <= AREA_LIVE_ODD else &c.missed if area == AREA_MISSED else &c.pending
        if sequence and (m.sequence[<uint32_t>slot] - sequence) % 2:
            m.sequence[<uint32_t>slot] += 1
    for (area, slot), (_, count) in found.items():
        m = &c.live if area <= AREA_LIVE_ODD else &c.missed if area == AREA_MISSED else &c.pending
        if count < copies:
            m.dirty[<uint32_t>slot] = 1
            c.damaged = 1
    map_recount(&c.live)
    map_recount(&c.missed)
    map_recount(&c.pending)
    for i in range(MAX_MEDIA):
        if c.media[i].map.words != NULL:
            map_recount(&c.media[i].map)
