"""The methods of the control socket are the subsystem's verbs: names and parameters agree."""

from __future__ import annotations

import inspect

import msgspec
import pytest

from targetplugin.control.methods import METHODS
from targetplugin.subsystem import Subsystem

# What a verb takes that the door fills in.
DOORS = {"door", "request"}


@pytest.mark.parametrize("name", METHODS)
def test_a_method_takes_what_its_verb_takes(name: str) -> None:
    method = METHODS[name]
    verb = inspect.signature(getattr(Subsystem, method.verb))
    taken = {p.name: p.default is p.empty for p in verb.parameters.values() if p.name != "self"}
    given = {f.name: f.required for f in msgspec.structs.fields(method.params)}
    if "request" in given:
        assert taken.keys() >= DOORS
    given.pop("request", None)
    assert given == {name: must for name, must in taken.items() if name not in DOORS}


@pytest.mark.parametrize("name", METHODS)
def test_what_is_required_goes_in_the_verbs_order(name: str) -> None:
    method = METHODS[name]
    verb = inspect.signature(getattr(Subsystem, method.verb))
    order = [p.name for p in verb.parameters.values() if p.default is p.empty and p.name != "self"]
    assert [f.name for f in msgspec.structs.fields(method.params) if f.required] == order
