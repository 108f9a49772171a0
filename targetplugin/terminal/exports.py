"""`targetplugin export` and `unexport`: which hosts reach a volume or see a save, and what they log
in with.
"""

from __future__ import annotations

import argparse
import sys

from targetplugin.terminal import grammar, results
from targetplugin.terminal.errors import Misused
from targetplugin.terminal.session import Session
from targetplugin.terminal.tables import say

# 16 of 64 characters are the 96 bits that RFC 7143, 12.1.3, asks for, and all that some hosts take.
_PASSWORD_LENGTH = 16
_PASSWORD_MARKS = "._"


def declare(verbs: grammar.Verbs) -> None:
    export = grammar.verb(
        verbs,
        "export",
        _export,
        "let hosts reach a volume over iSCSI, or see a save read-only",
        more=(
            "Only the initiators that are named reach it. --chap asks for a user and a password;\n"
            "where no one can be asked, or nothing is typed, they are made up and shown once.\n\n"
            "A save is a disk of its own to its hosts, which they can't write to: mount it with\n"
            "-o ro,noload (ext4) or -o ro,norecovery (XFS). Until it is withdrawn it can't be\n"
            "released, resynced or swapped; recovering from it is possible."
        ),
        examples=[
            "export ledger --initiator iqn.2026-01.org.example:host --chap",
            "export ledger --initiator iqn.2026-01.org.example:host --portal 192.0.2.1",
            "export ledger --initiator iqn.2026-01.org.example:host"
            " --chap-user night --chap-password-file /root/secret",
            "export ledger@before-night-run --initiator iqn.2026-01.org.example:host",
        ],
    )
    grammar.exported(export)
    export.add_argument(
        "--initiator",
        nargs="+",
        action="extend",
        required=True,
        metavar="IQN",
        help="iSCSI names of the hosts (on a host: /etc/iscsi/initiatorname.iscsi)",
    )
    export.add_argument("--chap", action="store_true", help="the hosts log in with a password")
    export.add_argument("--chap-user", metavar="USER", help="by default VOLUME[@SAVE]")
    secret = export.add_argument(
        "--chap-password-file",
        metavar="FILE",
        help="the password is this file's first line (- is standard input)",
    )
    grammar.completed(secret, "file")
    export.add_argument(
        "--portal",
        nargs="+",
        action="extend",
        metavar="IP[:PORT]",
        help="addresses to listen on (default: the machine's one address, port 3260)",
    )
    export.add_argument("--target", metavar="IQN", help="the target's name (default: made up)")
    grammar.preview(export)

    unexport = grammar.verb(
        verbs,
        "unexport",
        _unexport,
        "withdraw a volume or a save from hosts",
        examples=[
            "unexport ledger",
            "unexport ledger --initiator iqn.2026-01.org.example:host",
            "unexport ledger@before-night-run",
        ],
    )
    grammar.exported(unexport)
    unexport.add_argument(
        "--initiator", nargs="+", action="extend", metavar="IQN", help="only these (default: all)"
    )
    grammar.force(unexport, "withdraw it though a host is logged in")
    grammar.preview(unexport)


def _export(session: Session, args: argparse.Namespace) -> None:
    chap, made_up = _credentials(args)
    result = session.call(
        "export",
        volume=args.volume,
        initiators=args.initiator,
        chap=chap,
        portals=args.portal,
        target=args.target,
        preview=args.preview,
    )
    if made_up and not args.preview:
        result = {**result, "chap": chap}

    def tell(result: results.Fields) -> None:
        results.exports([result])
        if args.preview:
            say(
                "It would be so; nothing was done now."
                if result["changed"]
                else "It is so already."
            )
        elif made_up and chap:
            say("Log in with what follows; it is shown this once:")
            say(f"  CHAP user:     {chap['user']}")
            say(f"  CHAP password: {chap['password']}")

    session.show(result, tell)


def _credentials(args: argparse.Namespace) -> tuple[dict[str, str] | None, bool]:
    """The credentials, and whether the password was made up here."""
    if not (args.chap or args.chap_user or args.chap_password_file):
        return None, False
    user = args.chap_user or args.volume
    if args.chap_password_file:
        return {"user": user, "password": _read_password(args.chap_password_file)}, False
    if sys.stdin.isatty() and sys.stderr.isatty():
        import getpass

        if not args.chap_user:
            print(f"CHAP user [{user}]: ", end="", file=sys.stderr, flush=True)
            user = sys.stdin.readline().strip() or user
        password = getpass.getpass("CHAP password, 12 characters or more (empty: make one up): ")
        if password:
            return {"user": user, "password": password}, False
    import secrets
    import string

    letters = string.ascii_letters + string.digits + _PASSWORD_MARKS
    password = "".join(secrets.choice(letters) for _ in range(_PASSWORD_LENGTH))
    return {"user": user, "password": password}, True


def _read_password(place: str) -> str:
    try:
        if place == "-":
            line = sys.stdin.readline()
        else:
            with open(place, encoding="utf-8") as file:
                line = file.readline()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise Misused(f"the password file {place} can't be read: {why}") from error
    password = line.rstrip("\r\n")
    if not password:
        raise Misused(f"the password file {place} has nothing on its first line")
    return password


def _unexport(session: Session, args: argparse.Namespace) -> None:
    result = session.call(
        "unexport",
        volume=args.volume,
        initiators=args.initiator,
        force=args.force,
        preview=args.preview,
    )
    whom = ", ".join(args.initiator) if args.initiator else "all hosts"
    what = "would be withdrawn" if args.preview else "is withdrawn"
    session.show(result, lambda _: say(f"{args.volume} {what} from {whom}."))
