"""What LIO does not tell, or let do, a user-backed store, so that no volume can have it, and what it gets
wrong itself. Owns these sentences, each with its proof; docs/conformance.md shows them.
"""

from __future__ import annotations

# What is missing; what it comes to for hosts; what proves it.
LIMITS = (
    (
        "who sent a command",
        "A unit attention of the volume's own (28h/00h after a recover or swap, 2Ah/09h when it has grown)"
        " is told once, to whoever sends the next command, and not to each initiator. LIO's own"
        " attentions, those of reservations and resets, reach each as they should",
        "an entry of the ring (`struct tcmu_cmd_entry`) has a CDB and buffers, and no nexus; LIO's"
        " `target_ua_allocate_lun` is called by nothing that a store or configfs could say those codes by:"
        " `dev_size` only keeps the number. `test_two_initiators.py` shows that one of two is told",
    ),
    (
        "task attributes",
        "Only SIMPLE is offered (VPD 86h): ORDERED and HEAD OF QUEUE commands are done as SIMPLE ones",
        "`target_handle_task_attr` returns at once for a passthrough store, and the ring has no field for it",
    ),
    (
        "target ports",
        "No relative port or port group in VPD 83h, and TPGS is 0: a host's multipath has all paths as alike,"
        " which they are",
        "the ring does not tell by which port a command came; LIO answers REPORT TARGET PORT GROUPS for its"
        " own stores alone (`passthrough_parse_cdb`)",
    ),
    (
        "overflow residuals",
        "A READ or WRITE whose blocks are more than the transfer that the host prepared is refused (24h/00h)",
        "`target_set_cmd_data_length` only ever lowers a passthrough command's length",
    ),
    (
        "reservation commands that say no length",
        "A host that prepares a transfer for one whose CDB asks for no bytes (RESERVE (10), RELEASE (10),"
        " PERSISTENT RESERVE) loses its session, and logs in again; Linux' own tools send no such thing",
        "the target's log: `read_data_left is zero`, `iscsit_get_datain_values failed`. LIO parses these"
        " itself; `python3 -m tests.vm.hostile` leaves them out, for it wants its session",
    ),
)


def text() -> list[str]:
    """A section, in lines."""
    lines = ["## What LIO keeps from a user-backed store, or gets wrong", ""]
    lines += ["| what | what it comes to | proof |", "| --- | --- | --- |"]
    return lines + [f"| {what} | {so} | {proof} |" for what, so, proof in LIMITS]
