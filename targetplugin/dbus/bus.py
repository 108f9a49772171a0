"""A connection to a message bus. The only importer of jeepney.

Calls that come in while an answer is waited for are kept, and given by `receive` afterwards.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import jeepney
from jeepney.bus_messages import message_bus
from jeepney.io.blocking import open_dbus_connection

from targetplugin.dbus.objects import Answer, Call, Unknown

ANSWER_SECONDS = 20.0  # for what another program is asked
_DO_NOT_QUEUE = 4  # asked of RequestName
_OWNER, _ALREADY = 1, 4  # what it says
_HEADER = jeepney.HeaderFields


class Failed(Exception):
    """A call was answered with an error, or not in time."""


class Bus:
    """The system's bus, or the one that DBUS_SYSTEM_BUS_ADDRESS names.

    Raises:
        OSError: there is none, or it has ended; of each method as well.
    """

    def __init__(self) -> None:
        try:
            self._connection = open_dbus_connection(bus="SYSTEM", auth_timeout=ANSWER_SECONDS)
        except ValueError as error:  # jeepney's AuthenticationError, or an address that is none
            raise OSError(str(error)) from error
        self._inbox: deque[Any] = deque()
        self._kept = self._connection.filter(jeepney.MatchRule(), queue=self._inbox)

    def close(self) -> None:
        self._kept.close()
        self._connection.close()

    # --- names ----------------------------------------------------------------------------------

    def watch(self, name: str) -> None:
        """Has `receive` return whenever a name gets another owner."""
        rule = jeepney.MatchRule(
            type="signal", interface=message_bus.interface, member="NameOwnerChanged"
        )
        rule.add_arg_condition(0, name)
        self._asked(message_bus.AddMatch(rule))

    def own(self, name: str) -> bool:
        """Takes a name that nobody has. Whether it is ours now."""
        (said,) = self._asked(message_bus.RequestName(name, _DO_NOT_QUEUE))
        return said in (_OWNER, _ALREADY)

    def release(self, name: str) -> None:
        self._asked(message_bus.ReleaseName(name))

    def owner(self, name: str) -> str:
        """The connection that has a name; "" where nobody has it."""
        try:
            return str(self._asked(message_bus.GetNameOwner(name))[0])
        except Failed:
            return ""

    def others_wait(self, name: str) -> bool:
        """Whether another program waits for a name that is ours."""
        (waiting,) = self._asked(message_bus.ListQueuedOwners(name))
        return len(waiting) > 1

    @property
    def own_name(self) -> str:
        """This connection's."""
        return str(self._connection.unique_name)

    # --- calls ----------------------------------------------------------------------------------

    def call(
        self, name: str, path: str, interface: str, member: str, signature: str, *body: Any
    ) -> tuple[Any, ...]:
        """What another program answers. Raises Failed."""
        address = jeepney.DBusAddress(path, bus_name=name, interface=interface)
        return self._asked(jeepney.new_method_call(address, member, signature, body))

    def receive(self, seconds: float, answer: Callable[[Call], Answer]) -> bool:
        """Answers the calls that are there, and those that come until something else does.

        Returns:
            False: a name has another owner, or nothing came for so many seconds.
        """
        if not self._inbox:
            try:
                self._connection.recv_messages(timeout=seconds)
            except TimeoutError:
                return False
        calls = True
        while self._inbox:
            message = self._inbox.popleft()
            if message.header.message_type is jeepney.MessageType.method_call:
                self._answer(message, answer)
            elif message.header.message_type is jeepney.MessageType.signal:
                calls = False
        return calls

    def _answer(self, message: Any, answer: Callable[[Call], Answer]) -> None:
        fields = message.header.fields
        call = Call(
            fields[_HEADER.path],
            fields.get(_HEADER.interface, ""),
            fields[_HEADER.member],
            tuple(message.body),
        )
        try:
            said = answer(call)
            reply = jeepney.new_method_return(message, said.signature or None, said.body)
        except Unknown as error:
            reply = jeepney.new_error(message, error.name, "s", (str(error),))
        if not message.header.flags & jeepney.MessageFlag.no_reply_expected:
            self._connection.send(reply)

    def _asked(self, message: Any) -> tuple[Any, ...]:
        try:
            reply = self._connection.send_and_get_reply(message, timeout=ANSWER_SECONDS)
        except TimeoutError as error:
            raise Failed(f"there was no answer for {ANSWER_SECONDS:.0f} s") from error
        if reply.header.message_type is jeepney.MessageType.error:
            raise Failed(str(reply.body[0]) if reply.body else "an error without a word")
        return tuple(reply.body)
