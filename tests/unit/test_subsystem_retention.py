"""Which saves rules keep: as backup tools do, and never none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from targetplugin.subsystem.saves.retention import COUNTS, PERIODS, Candidate, Rules, judge

MONDAY = datetime(2026, 11, 23, 0, 30, tzinfo=UTC)


def taken(*hours: float, **changed: object) -> list[Candidate]:
    """Saves so many hours after Monday 00:30, named by their place."""
    return [
        Candidate(str(number), MONDAY + timedelta(hours=hour), **changed)  # type: ignore[arg-type]
        for number, hour in enumerate(hours)
    ]


def kept(rules: Rules, saves: list[Candidate]) -> list[str]:
    return [one.candidate.name for one in judge(rules, saves) if one.why]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (Rules(last=2), "56"),
        (Rules(last=99), "0123456"),
        (Rules(hourly=3), "456"),
        (Rules(daily=2), "56"),
        (Rules(daily=3), "256"),
        (Rules(daily=99), "256"),
        (Rules(weekly=2), "6"),
        (Rules(monthly=1), "6"),
        (Rules(last=1, daily=3), "256"),
        (Rules(hourly=4, daily=1), "3456"),
    ],
)
def test_each_rule_keeps_the_newest_of_its_newest_periods(rules: Rules, expected: str) -> None:
    saves = taken(0, 1, 2, 24, 25, 26, 48)
    assert kept(rules, saves) == list(expected)


def test_two_saves_of_one_hour_count_once_and_the_newer_stays() -> None:
    saves = taken(0, 0.2, 0.4, 5)
    assert kept(Rules(hourly=2), saves) == ["2", "3"]


def test_weeks_begin_on_monday_and_a_year_s_end_is_one_week() -> None:
    sunday = datetime(2026, 12, 27, 12, tzinfo=UTC)
    days = [sunday + timedelta(days=n) for n in range(9)]  # until Monday 2027-01-04
    saves = [Candidate(f"{day:%m-%d}", day) for day in days]
    assert kept(Rules(weekly=9), saves) == ["12-27", "01-03", "01-04"]


def test_why_a_save_is_kept_names_every_rule() -> None:
    (only,) = judge(Rules(last=3, daily=7, monthly=1), taken(0))
    assert only.why == ("last 1 of 3", "daily 2026-11-23", "monthly 2026-11")


def test_what_is_labelled_stays_if_that_is_a_rule() -> None:
    saves = [*taken(0, 1), Candidate("night", MONDAY + timedelta(hours=2), "night"), *taken(3)]
    assert kept(Rules(last=1), saves[:3]) == ["night"]
    saves = [Candidate("night", MONDAY, "night"), Candidate("new", MONDAY)]
    assert kept(Rules(last=1), saves) == ["new"]
    assert kept(Rules(last=1, keep_labelled=True), saves) == ["night", "new"]


def test_what_is_not_whole_keeps_no_other_from_counting() -> None:
    good, bad = taken(0), taken(1, 2, 3, counts=False)
    saves = [Candidate("good", MONDAY), *bad]
    assert kept(Rules(last=1), saves) == ["good"]
    assert kept(Rules(last=1), good) == ["0"]


def test_the_only_saves_are_not_all_released_even_if_none_counts() -> None:
    assert kept(Rules(last=1), taken(0, 1, counts=False)) == ["1"]


def test_a_clock_that_was_set_back_does_not_make_the_newest_an_old_one() -> None:
    assert kept(Rules(last=1), taken(48, 0)) == ["1"]
    assert kept(Rules(daily=1), taken(48, 0)) == ["1"]


def test_what_is_fixed_stays_and_counts() -> None:
    saves = [*taken(0), Candidate("held", MONDAY + timedelta(hours=1), fixed=("it is held",))]
    found = judge(Rules(last=1), saves)
    assert [one.why for one in found] == [(), ("it is held", "last 1 of 1")]


def test_rules_are_told_and_stored_as_they_were_given() -> None:
    rules = Rules(last=3, weekly=4, keep_labelled=True)
    assert str(rules) == "last 3, weekly 4, all that are labelled"
    assert Rules(**rules.stored()) == rules
    assert rules
    assert not Rules(keep_labelled=True)


LIFE = st.lists(
    st.tuples(st.integers(0, 24 * 60), st.booleans(), st.booleans(), st.booleans()), max_size=40
)
ANY = st.builds(Rules, **{name: st.integers(0, 9) for name in COUNTS}, keep_labelled=st.booleans())


@given(LIFE, ANY)
def test_no_rule_keeps_more_than_it_says_and_what_it_keeps_suffices(
    life: list[tuple[int, bool, bool, bool]], rules: Rules
) -> None:
    saves = [
        Candidate(
            f"{number}",
            MONDAY + timedelta(hours=sum(hours for hours, *_ in life[: number + 1])),
            "night" if labelled else "",
            whole,
            ("it is held",) if fixed else (),
        )
        for number, (_, labelled, whole, fixed) in enumerate(life)
    ]
    found = judge(rules, saves)
    assert [one.candidate for one in found] == saves
    stay = [one.candidate for one in found if one.why]
    assert stay or not saves
    for one in found:
        assert one.why or not one.candidate.fixed
        assert one.why or not (rules.keep_labelled and one.candidate.label)
    whole = [save for save in saves if save.counts]
    assert set(whole[len(whole) - rules.last :] if rules.last else []) <= set(stay)
    for name, bucket in PERIODS.items():
        periods = sorted({bucket(save.created) for save in whole})[-getattr(rules, name) :]
        if not getattr(rules, name):
            continue
        assert sum(w.startswith(name) for one in found for w in one.why) == len(periods)
        for period in periods:
            newest = [save for save in whole if bucket(save.created) == period][-1]
            assert newest in stay
    if rules and whole:
        assert whole[-1] in stay
