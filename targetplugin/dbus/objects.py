"""The objects that targetcli and tcmu-runner see on the bus, and their answers. Knows no library.

Names and signatures are tcmu-runner's (its main.c and tcmuhandler.xml).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from targetplugin.dbus.configs import DESCRIPTION
from targetplugin.kernel.tcmu import SUBTYPE

SERVICE = "org.kernel.TCMUService1"
ROOT = "/org/kernel/TCMUService1"
MANAGER = f"{SERVICE}.HandlerManager1"
MANAGER_PATH = f"{ROOT}/HandlerManager1"
OWN = f"{ROOT}/{SUBTYPE}"  # where targetcli looks
MANAGED = f"{MANAGER_PATH}/{SUBTYPE}"  # where tcmu-runner looks, to pass on what targetcli asks it

_FREEDESKTOP = "org.freedesktop.DBus"
_PROPERTY = "ConfigDesc"
_HANDLER_XML = f"""\
  <interface name="{SERVICE}">
    <method name="CheckConfig">
      <arg name="config" type="s" direction="in"/>
      <arg name="ok" type="b" direction="out"/>
      <arg name="message" type="s" direction="out"/>
    </method>
    <property name="{_PROPERTY}" type="s" access="read"/>
  </interface>
"""
_ROOT_XML = f"""\
  <interface name="{_FREEDESKTOP}.ObjectManager">
    <method name="GetManagedObjects">
      <arg name="objects" type="a{{oa{{sa{{sv}}}}}}" direction="out"/>
    </method>
  </interface>
  <node name="{SUBTYPE}"/>
"""


class Call(Struct, frozen=True):
    """A method call, as it came."""

    path: str
    interface: str  # "" where the caller left it out
    member: str
    body: tuple[Any, ...]


class Answer(Struct, frozen=True):
    """What goes back."""

    signature: str
    body: tuple[Any, ...]


class Unknown(Exception):
    """There is no such object, method or property. Args: D-Bus' name of the error, a sentence."""

    def __init__(self, what: str, message: str) -> None:
        super().__init__(message)
        self.name = f"{_FREEDESKTOP}.Error.{what}"


def answer(call: Call, trouble: Callable[[str], str]) -> Answer:
    """What a call is answered with.

    Args:
        trouble: what is wrong with a configuration string; "" if nothing is.

    Raises:
        Unknown: it is for nothing that is here.
    """
    if call.path not in (ROOT, OWN, MANAGED):
        raise Unknown("UnknownObject", f"there is no object {call.path}")
    handler = call.path != ROOT
    match (call.interface, call.member, call.body):
        case (_, "CheckConfig", (str(config),)) if handler and call.interface in ("", SERVICE):
            why = trouble(config)
            return Answer("bs", (not why, why))
        case (_, "GetManagedObjects", ()) if not handler:
            described = {SERVICE: {_PROPERTY: ("s", DESCRIPTION)}}
            return Answer("a{oa{sa{sv}}}", ({OWN: described},))
        case ("org.freedesktop.DBus.Properties", "GetAll", (str(interface),)):
            there = {_PROPERTY: ("s", DESCRIPTION)} if handler and interface == SERVICE else {}
            return Answer("a{sv}", (there,))
        case ("org.freedesktop.DBus.Properties", "Get", (str(interface), str(name))):
            if handler and (interface, name) == (SERVICE, _PROPERTY):
                return Answer("v", (("s", DESCRIPTION),))
            raise Unknown("UnknownProperty", f"{call.path} has no property {interface}.{name}")
        case ("org.freedesktop.DBus.Introspectable", "Introspect", ()):
            inner = _HANDLER_XML if handler else _ROOT_XML
            return Answer("s", (f"<node>\n{inner}</node>\n",))
        case ("org.freedesktop.DBus.Peer", "Ping", ()):
            return Answer("", ())
    raise Unknown("UnknownMethod", f"{call.path} has no method {call.interface}.{call.member}")
