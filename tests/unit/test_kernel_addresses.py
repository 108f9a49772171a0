"""Names and addresses of iSCSI: what is taken, in which spelling, and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from targetplugin.errors import Reason, Refused
from targetplugin.kernel import addresses, rtnetlink

ONE = ["10.0.0.1"]
TWO = ["10.0.0.1", "fd00::1"]


@pytest.mark.parametrize(
    ("text", "portal"),
    [
        ("10.0.0.1", ("10.0.0.1", 3260)),
        ("10.0.0.1:860", ("10.0.0.1", 860)),
        ("fd00::1", ("[fd00::1]", 3260)),
        ("[fd00:0::1]:860", ("[fd00::1]", 860)),
        ("0.0.0.0", ("0.0.0.0", 3260)),
    ],
)
def test_portals_are_read_in_one_spelling(text: str, portal: tuple[str, int]) -> None:
    assert addresses.parse_portal(text) == portal
    assert addresses.parse_portal(addresses.format_portal(*portal)) == portal


@pytest.mark.parametrize("text", ["", "host", "10.0.0", "10.0.0.1:0", "10.0.0.1:65536", "[x]:1"])
def test_what_is_no_portal_is_refused(text: str) -> None:
    with pytest.raises(Refused) as refused:
        addresses.parse_portal(text)
    assert refused.value.reason is Reason.USAGE


def test_without_a_portal_the_machines_one_address_is_taken() -> None:
    assert addresses.check_portals(None, ONE) == ["10.0.0.1:3260"]


@pytest.mark.parametrize(("there", "said"), [(TWO, r"\[fd00::1\]"), ([], "no address")])
def test_without_a_portal_a_machine_with_several_or_no_addresses_refuses(
    there: list[str], said: str
) -> None:
    with pytest.raises(Refused, match=said):
        addresses.check_portals([], there)


@pytest.mark.skipif(shutil.which("ip") is None, reason="iproute2 is not there")
def test_the_kernel_tells_what_ip_shows() -> None:
    command = ["ip", "-json", "address", "show", "scope", "global"]
    shown = json.loads(subprocess.run(command, check=True, capture_output=True).stdout or "[]")
    locals_ = [one["local"] for link in shown for one in link.get("addr_info", []) if one]
    assert sorted(rtnetlink.global_addresses()) == sorted(locals_)


def test_a_portal_on_another_machine_is_refused() -> None:
    with pytest.raises(Refused, match=r"10\.0\.0\.2 is not on this machine"):
        addresses.check_portals(["10.0.0.1", "10.0.0.2"], ONE)


def test_portals_for_this_machine_alone_or_for_all_its_addresses_are_taken() -> None:
    assert addresses.check_portals(["127.0.0.1", "[::]:860"], ONE) == ["127.0.0.1:3260", "[::]:860"]


@pytest.mark.parametrize(
    "name", ["iqn.2026-11.org.example:disk-1", "iqn.1993-08.org.debian:01:ab.c", "iqn.2026-11.a.b"]
)
def test_initiator_names_that_lio_takes(name: str) -> None:
    assert addresses.check_iqn(name.upper()) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "iqn.2026-13.org.example:x",
        "iqn.2026-11.example:x",  # no dot in the domain
        "iqn.2026-11.org.example:a_b",
        "iqn.2026-11.org.example:a/b",
        "iqn.2026-11.org.example:a b",
        "iqn.2026-11.org.example:" + "x" * 200,
    ],
)
def test_initiator_names_that_lio_does_not_take_are_refused(name: str) -> None:
    with pytest.raises(Refused) as refused:
        addresses.check_iqn(name)
    assert refused.value.reason is Reason.USAGE


def test_a_volume_has_a_target_name_whatever_it_is_called() -> None:
    assert addresses.default_target("Ledger_2") == "iqn.2026-11.org.targetplugin:ledger-2"


@pytest.mark.parametrize(
    ("user", "password"), [("", "x" * 12), ("u", "x" * 11), ("u", "x" * 256), ("NULL", "x" * 12)]
)
def test_credentials_that_configfs_would_garble_are_refused(user: str, password: str) -> None:
    with pytest.raises(Refused) as refused:
        addresses.check_secret(user, password)
    assert password not in str(refused.value)
