"""What each extension brings: its parameters, its EHLO line; and VRFY."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from support import Client, running, talking, witnessed

from smtp_blinker.extensions import (
    DEFAULT_EXTENSIONS,
    EXTENSIONS,
    OPT_IN_EXTENSIONS,
    ehlo_lines,
    set_mail_parameters,
    set_rcpt_parameters,
)
from smtp_blinker.session import Address, DeliverBy, Envelope, RecipientValidSince, Session
from smtp_blinker.smtp.dates import parse_date_time
from smtp_blinker.smtp.paths import parse_parameters
from smtp_blinker.smtp.reply import Reject

NOW = datetime(2026, 11, 29, 10, 20, 30, 400_000, tzinfo=UTC)
ALL = DEFAULT_EXTENSIONS | OPT_IN_EXTENSIONS


def facts(**changes: Any) -> Any:
    values = {
        "max_messages": None,
        "max_recipients": None,
        "max_rcpt_domains": None,
        "max_hold": 1000,
        "binarymime": False,
        "now": NOW,
        "forwarding": lambda verb: False,
    }
    return SimpleNamespace(**values | changes)


def mail(parameters: str, **changes: Any) -> Envelope:
    envelope = Envelope()
    set_mail_parameters(parse_parameters(f" {parameters}"), ALL, envelope, facts(**changes))
    return envelope


def rcpt(parameters: str) -> Address:
    address = Address("b@example.com")
    set_rcpt_parameters(parse_parameters(f" {parameters}"), ALL, address)
    return address


def refusal(call: Any, parameters: str) -> str:
    with pytest.raises(Reject) as caught:
        call(parameters)
    return f"{caught.value.code} {caught.value.enhanced}"


def test_a_client_that_says_nothing_leaves_each_field_none() -> None:
    envelope = mail("")
    for name in ("auth", "deliver_by", "priority", "hold_for", "hold_until", "size"):
        assert getattr(envelope, name) is None
    assert rcpt("").rrvs is None


def test_what_is_a_promise_is_opt_in() -> None:
    promises = {"DELIVERBY", "MT-PRIORITY", "FUTURERELEASE", "RRVS"}
    assert promises <= OPT_IN_EXTENSIONS
    assert not promises & DEFAULT_EXTENSIONS
    assert "LIMITS" in DEFAULT_EXTENSIONS


@pytest.mark.parametrize("parameter", ["BY=1;R", "MT-PRIORITY=1", "HOLDFOR=1", "HOLDUNTIL=x"])
def test_a_parameter_of_mail_whose_extension_is_not_offered_is_unknown(parameter: Any) -> None:
    with pytest.raises(Reject) as caught:
        set_mail_parameters(
            parse_parameters(f" {parameter}"), DEFAULT_EXTENSIONS, Envelope(), facts()
        )
    assert caught.value.code == 555
    assert refusal(rcpt, parameter) == "555 5.5.4"


def test_rrvs_belongs_to_rcpt_and_to_its_extension() -> None:
    args = parse_parameters(" RRVS=2014-04-03T23:01:00Z")
    with pytest.raises(Reject) as caught:
        set_rcpt_parameters(args, DEFAULT_EXTENSIONS, Address("b@example.com"))
    assert caught.value.code == 555
    assert refusal(mail, "RRVS=2014-04-03T23:01:00Z") == "555 5.5.4"


# DELIVERBY


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1;R", DeliverBy(1, "R", False)),
        ("+1;r", DeliverBy(1, "R", False)),
        ("999999999;RT", DeliverBy(999_999_999, "R", True)),
        ("0;N", DeliverBy(0, "N", False)),
        ("-0;nt", DeliverBy(0, "N", True)),
        ("-999999999;NT", DeliverBy(-999_999_999, "N", True)),
        ("000000001;R", DeliverBy(1, "R", False)),
    ],
)
def test_by_takes_seconds_a_mode_and_a_trace(value: Any, expected: Any) -> None:
    assert mail(f"BY={value}").deliver_by == expected


@pytest.mark.parametrize(
    "parameter",
    [
        *("BY", "BY=0;R", "BY=+0;R", "BY=-0;R", "BY=-1;R", "BY=1000000000;R", "BY=0000000001;R"),
        *("BY=1", "BY=1;", "BY=;R", "BY=1;X", "BY=1;RN", "BY=1;TR", "BY=1;RTT", "BY=1R", "BY=R;1"),
        *("BY=+-1;R", "BY=1.5;R", "BY=1;R;T", "BY=\uff11;R", "BY=1_0;R", "BY=1;\u017f"),
    ],
)
def test_by_takes_nothing_else(parameter: Any) -> None:
    assert refusal(mail, parameter) == "501 5.5.4"


# MT-PRIORITY


@pytest.mark.parametrize("priority", range(-9, 10))
def test_priority_is_minus_9_to_9(priority: Any) -> None:
    assert mail(f"MT-PRIORITY={priority}").priority == priority


@pytest.mark.parametrize("value", ["10", "-10", "+1", "-0", "00", "01", "-", "1.0", "x", "\uff11"])
def test_priority_is_nothing_else(value: Any) -> None:
    assert refusal(mail, f"MT-PRIORITY={value}") == "501 5.5.4"
    assert refusal(mail, "MT-PRIORITY") == "501 5.5.4"


# FUTURERELEASE


@pytest.mark.parametrize("seconds", [1, 999, 1000])
def test_hold_for_takes_seconds_up_to_the_longest(seconds: Any) -> None:
    assert mail(f"HOLDFOR={seconds}").hold_for == seconds


def test_hold_for_has_nine_digits_at_most() -> None:
    assert mail("HOLDFOR=999999999", max_hold=999_999_999).hold_for == 999_999_999
    with pytest.raises(Reject):
        mail("HOLDFOR=1000000000", max_hold=2**40)


@pytest.mark.parametrize(
    "parameter",
    [
        *("HOLDFOR", "HOLDFOR=0", "HOLDFOR=01", "HOLDFOR=-1", "HOLDFOR=+1", "HOLDFOR=1001"),
        *("HOLDFOR=9999999999", "HOLDFOR=1.5", "HOLDFOR=1s", "HOLDFOR=\uff11"),
        *("HOLDUNTIL", "HOLDUNTIL=60", "HOLDUNTIL=2026-11-29", "HOLDUNTIL=tomorrow"),
        # not in the future, and too far in it
        *("HOLDUNTIL=2026-11-29T10:20:30Z", "HOLDUNTIL=2026-11-29T10:20:30.4Z"),
        *("HOLDUNTIL=2026-11-29T10:37:10.5Z", "HOLDUNTIL=9999-12-31T23:59:60Z"),
        *("HOLDUNTIL=0001-01-01T00:00:00+23:59", "HOLDUNTIL=9999-12-31T23:59:59-23:59"),
        # the two together, in both orders
        "HOLDFOR=60 HOLDUNTIL=2026-11-29T10:30:00Z",
        "HOLDUNTIL=2026-11-29T10:30:00Z HOLDFOR=60",
    ],
)
def test_hold_takes_nothing_else(parameter: Any) -> None:
    assert refusal(mail, parameter) == "501 5.5.4"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-11-29T10:20:31Z", datetime(2026, 11, 29, 10, 20, 31, tzinfo=UTC)),
        ("2026-11-29t10:37:10.4z", datetime(2026, 11, 29, 10, 37, 10, 400_000, tzinfo=UTC)),
        ("2026-11-29T11:30:00+01:00", datetime(2026, 11, 29, 10, 30, tzinfo=UTC)),
    ],
)
def test_hold_until_is_an_aware_time_in_utc(value: Any, expected: Any) -> None:
    held = mail(f"HOLDUNTIL={value}").hold_until
    assert held == expected
    assert held is not None
    assert held.utcoffset() == timedelta(0)


# RRVS


@pytest.mark.parametrize(
    ("value", "action"),
    [("", "R"), (";R", "R"), (";r", "R"), (";C", "C"), (";c", "C")],
)
def test_rrvs_takes_a_time_and_an_action(value: Any, action: Any) -> None:
    since = datetime(2014, 4, 3, 23, 1, tzinfo=UTC)
    assert rcpt(f"RRVS=2014-04-03T23:01:00Z{value}").rrvs == RecipientValidSince(since, action)


@pytest.mark.parametrize(
    "value",
    [
        *("RRVS", "RRVS=C", "RRVS=;C", "RRVS=2014-04-03T23:01:00Z;", "RRVS=2014-04-03;R"),
        *("RRVS=2014-04-03T23:01:00Z;X", "RRVS=2014-04-03T23:01:00Z;C;R"),
        *("RRVS=2014-04-03T23:01:00Z;CR", "RRVS=2014-04-03T23:01:00"),
        # RFC 7293 section 3.1: no fraction of a second
        *("RRVS=2014-04-03T23:01:00.5Z", "RRVS=2014-04-03T23:01:00.000Z;C"),
    ],
)
def test_rrvs_takes_nothing_else(value: Any) -> None:
    assert refusal(rcpt, value) == "501 5.5.4"


# AUTH


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("<>", "<>"),
        ("a@example.org", "a@example.org"),
        ("e+3Dmc2@example.com", "e=mc2@example.com"),
        ("+22a+20b+22@example.com", '"a b"@example.com'),
        ("a@[192.0.2.1]", "a@[192.0.2.1]"),
        ("a@xn--bcher-kva.example", "a@b\u00fccher.example"),
    ],
)
def test_auth_takes_a_mailbox_or_nothing_known(value: Any, expected: Any) -> None:
    assert mail(f"AUTH={value}").auth == expected


@pytest.mark.parametrize(
    "parameter",
    [
        *("AUTH", "AUTH=", "AUTH=me", "AUTH=<a@example.org>", "AUTH=<", "AUTH=a@", "AUTH=@b"),
        *("AUTH=a@b@c", "AUTH=bad+ZZ", "AUTH=a+3db@example.org", "AUTH=a+0D+0Ab@example.org"),
        *("AUTH=a@-b", "AUTH=a+20b@example.org", "AUTH=a@[300.1.1.1]", "AUTH=a..b@example.org"),
        *("AUTH=\u00e9@example.org", "AUTH=+C3+A9@example.org", f"AUTH=a@{'b' * 300}"),
        *("SMTPUTF8 AUTH=+C3@example.org", "SMTPUTF8 AUTH=+E9@example.org", "SMTPUTF8 AUTH=+C3+A9"),
        "SMTPUTF8 AUTH=a@+E2+80+A8.example",
    ],
)
def test_auth_takes_nothing_else(parameter: Any) -> None:
    assert refusal(mail, parameter) == "501 5.5.4"


@pytest.mark.parametrize("value", ["\u00e9@b\u00fccher.example", "+C3+A9@b+C3+BCcher.example"])
def test_auth_takes_utf8_beside_smtputf8_in_any_order(value: Any) -> None:
    expected = "\u00e9@b\u00fccher.example"
    assert mail(f"SMTPUTF8 AUTH={value}").auth == expected
    assert mail(f"AUTH={value} SMTPUTF8").auth == expected
    assert refusal(mail, f"AUTH={value}") == "501 5.5.4"


# BODY


@pytest.mark.parametrize(
    ("binarymime", "text"),
    [(False, "BODY takes 7BIT or 8BITMIME"), (True, "BODY takes 7BIT, 8BITMIME or BINARYMIME")],
)
def test_a_wrong_body_is_told_what_it_takes(binarymime: Any, text: Any) -> None:
    with pytest.raises(Reject) as caught:
        mail("BODY=x", binarymime=binarymime)
    assert (caught.value.code, caught.value.enhanced, caught.value.text) == (501, "5.5.4", text)


# EHLO


def line(keyword: str, **changes: Any) -> str | None:
    [row] = [one for one in EXTENSIONS if one.keyword == keyword]
    return row.keyword if row.line is None else row.line(facts(**changes))


def test_limits_shows_what_is_set_and_fits() -> None:
    assert line("LIMITS") is None
    assert line("LIMITS", max_messages=20) == "LIMITS MAILMAX=20"
    assert line("LIMITS", max_recipients=1000, max_rcpt_domains=1) == (
        "LIMITS RCPTMAX=1000 RCPTDOMAINMAX=1"
    )
    assert line("LIMITS", max_messages=999_999, max_recipients=10**6) == "LIMITS MAILMAX=999999"


def test_future_release_shows_both_limits_and_the_later_one_by_the_minute() -> None:
    assert line("FUTURERELEASE") == "FUTURERELEASE 1000 2026-11-29T10:36:40Z"
    later = NOW.replace(second=59, microsecond=0)
    assert line("FUTURERELEASE", now=later) == "FUTURERELEASE 1000 2026-11-29T10:36:40Z"


def test_ehlo_has_the_lines_of_what_is_offered() -> None:
    offered = frozenset({"DELIVERBY", "MT-PRIORITY", "RRVS", "LIMITS"})
    assert ehlo_lines(offered, facts()) == ["DELIVERBY", "MT-PRIORITY", "RRVS"]


# Times


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1985-04-12T23:20:50.52Z", datetime(1985, 4, 12, 23, 20, 50, 520_000, tzinfo=UTC)),
        ("1996-12-19T16:39:57-08:00", datetime(1996, 12, 20, 0, 39, 57, tzinfo=UTC)),
        ("1990-12-31T23:59:60Z", datetime(1991, 1, 1, tzinfo=UTC)),
        ("1990-12-31T15:59:60-08:00", datetime(1991, 1, 1, tzinfo=UTC)),
        ("2024-02-29T00:00:00-00:00", datetime(2024, 2, 29, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
        ("9999-12-31T23:59:59.9999999Z", datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
        ("2026-01-01T00:00:00+23:59", datetime(2025, 12, 31, 0, 1, tzinfo=UTC)),
        ("2026-01-01T00:00:00.1234567Z", datetime(2026, 1, 1, microsecond=123_456, tzinfo=UTC)),
        (f"2026-01-01T00:00:00.{'0' * 5000}Z", datetime(2026, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_date_time_is_read_into_utc(text: Any, expected: Any) -> None:
    moment = parse_date_time(text)
    assert moment == expected
    assert moment.tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    [
        *("", "2026-01-01", "2026-01-01T00:00Z", "2026-01-01T00:00:00", "2026-01-01 00:00:00Z"),
        *("2026-13-01T00:00:00Z", "2026-00-01T00:00:00Z", "2026-02-30T00:00:00Z"),
        *("2026-01-01T24:00:00Z", "2026-01-01T00:60:00Z", "2026-01-01T00:00:61Z"),
        *("2026-01-01T12:00:60Z", "2026-01-01T23:59:60+01:00", "0000-01-01T00:00:00Z"),
        *("2026-01-01T00:00:00+24:00", "2026-01-01T00:00:00+00:60", "2026-01-01T00:00:00+0100"),
        *("2026-01-01T00:00:00.Z", "2026-01-01T00:00:00,5Z", "2026-1-1T00:00:00Z"),
        *("2026-01-01T00:00:00Zx", " 2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z\n"),
        *("12026-01-01T00:00:00Z", "-2026-01-01T00:00:00Z", "\uff12026-01-01T00:00:00Z"),
        *("0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01", "9999-12-31T23:59:60Z"),
    ],
)
def test_what_is_no_date_time_is_a_value_error(text: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        parse_date_time(text)


# On the wire


def test_what_mail_and_rcpt_asked_is_on_the_envelope() -> None:
    envelopes: list[Envelope] = []
    with talking(
        extensions=ALL - {"REQUIRETLS"},
        on_data=lambda stream, session: envelopes.append(session.envelope),
    ) as client:
        client.ok(
            "MAIL FROM:<a@example.org> BY=120;RT MT-PRIORITY=-3 HOLDFOR=60 AUTH=a+40example.org",
            "RCPT TO:<b@example.com> RRVS=2014-04-03T23:01:00Z;C",
            "RCPT TO:<c@example.com>",
            "DATA",
        )
        client.send(b".\r\n")
        client.reply()
        client.ok("MAIL FROM:<a@example.org>")
        assert client.cmd("RCPT TO:<b@example.com> RRVS=now").startswith("501 5.5.4")
        [envelope] = envelopes
        assert envelope.deliver_by == DeliverBy(120, "R", True)
        assert (envelope.priority, envelope.hold_for, envelope.hold_until) == (-3, 60, None)
        assert envelope.auth == "a@example.org"
        since = datetime(2014, 4, 3, 23, 1, tzinfo=UTC)
        assert [one.rrvs for one in envelope.rcpt_to] == [RecipientValidSince(since, "C"), None]


def test_ehlo_announces_the_longest_hold_and_the_server_keeps_to_it() -> None:
    with talking(extensions=ALL - {"REQUIRETLS"}, max_hold=3600, hello=None) as client:
        before = datetime.now(UTC)
        reply = client.ok("EHLO me")
        after = datetime.now(UTC)
        [latest] = re.findall(r"^250.FUTURERELEASE 3600 (\S+)$", reply, re.M)
        hour, minute = timedelta(hours=1), timedelta(minutes=1)
        assert before + hour - minute < parse_date_time(latest) <= after + hour
        assert client.cmd("MAIL FROM:<> HOLDFOR=3601").startswith("501 5.5.4")
        far = (after + 2 * hour).strftime("%Y-%m-%dT%H:%M:%SZ")
        assert client.cmd(f"MAIL FROM:<> HOLDUNTIL={far}").startswith("501 5.5.4")
        client.ok(f"MAIL FROM:<> HOLDUNTIL={latest}")


def test_ehlo_shows_the_limits_that_are_set() -> None:
    with running(max_messages=5, max_rcpt_domains=2) as server:
        lines = Client(server).ok("EHLO me").split("\n")
        assert "LIMITS MAILMAX=5 RCPTMAX=1000 RCPTDOMAINMAX=2" in [line[4:] for line in lines]
    for options in (
        {"max_recipients": None},
        {"max_messages": 5, "extensions": DEFAULT_EXTENSIONS - {"LIMITS"}},
    ):
        with running(**options) as server:
            assert "LIMITS" not in Client(server).ok("EHLO me")


def test_one_domain_too_many_is_refused_and_those_accepted_stay() -> None:
    def on_rcpt_to(address: Address, session: Session) -> None:
        if address.address.startswith("no"):
            raise Reject(550)

    with talking(max_rcpt_domains=2, on_rcpt_to=on_rcpt_to) as client:
        for _ in range(2):  # the counting begins anew with each transaction
            client.ok("MAIL FROM:<>", "RCPT TO:<b@example.com>", "RCPT TO:<postmaster>")
            # One that was refused has brought no domain along.
            assert client.cmd("RCPT TO:<no@example.edu>").startswith("550")
            client.ok("RCPT TO:<c@example.org>")
            third = "452 4.5.3 Too many recipient domains"
            assert client.cmd("RCPT TO:<b@example.net>") == third
            assert client.cmd("RCPT TO:<b@[192.0.2.1]>") == third
            client.ok("RCPT TO:<d@EXAMPLE.Com>", "RCPT TO:<PostMaster>", "RCPT TO:<e@example.org>")
            client.ok("DATA")
            client.send(b".\r\n")
            assert client.reply().startswith("250")


def test_domains_are_not_counted_without_a_limit() -> None:
    with talking() as client:
        client.ok("MAIL FROM:<>", *(f"RCPT TO:<b@d{number}.example>" for number in range(50)))


# VRFY


@pytest.mark.parametrize("verb", ["VRFY", "vrfy"])
def test_on_vrfy_names_the_mailbox_or_tells_nothing(verb: Any) -> Any:
    asked: list[tuple[str, str]] = []

    def on_vrfy(argument: str, session: Session) -> str | None:
        asked.append((argument, session.id))
        if argument == "secret":
            raise Reject(550, "no such user", "5.1.1")
        return {"fred": "Fred <fred@example.com>", "five": "5 lines\r\n250 x"}.get(argument)

    with talking(on_vrfy=on_vrfy) as client:
        assert client.cmd(f"{verb} fred") == "250 2.1.5 Fred <fred@example.com>"
        assert client.cmd(f"{verb} five") == "250 2.1.5 5 lines 250 x"
        assert client.cmd(f"{verb} b\u00e4r").startswith("252 2.5.0")
        assert client.cmd(f"{verb} secret") == "550 5.1.1 no such user"
        assert client.cmd(verb).startswith("501 5.5.4")
        assert [argument for argument, _ in asked] == ["fred", "five", "b\u00e4r", "secret"]
        assert client.cmd("EXPN fred").startswith("502 5.5.1")


def test_the_parameter_smtputf8_of_vrfy_is_no_part_of_the_name() -> None:
    asked: list[str] = []

    def on_vrfy(argument: str, session: Session) -> str:
        asked.append(argument)
        return "<b@example.com>"

    for extensions in (DEFAULT_EXTENSIONS, DEFAULT_EXTENSIONS - {"SMTPUTF8"}):
        with talking(on_vrfy=on_vrfy, extensions=extensions) as client:
            client.ok("VRFY b\u00e4r smtputf8", "VRFY SMTPUTF8", "VRFY x  SMTPUTF8")
    assert asked == [
        *("b\u00e4r", "SMTPUTF8", "x"),
        *("b\u00e4r smtputf8", "SMTPUTF8", "x  SMTPUTF8"),
    ]


def test_vrfy_inside_a_transaction_leaves_it_alone() -> None:
    with talking(on_vrfy=lambda argument, session: "<b@example.com>") as client:
        client.ok("MAIL FROM:<>", "VRFY b", "RCPT TO:<b@example.com>", "VRFY b", "DATA")
        client.send(b".\r\n")
        assert client.reply().startswith("250")


@pytest.mark.parametrize(
    "result",
    [False, True, 0, 250, "", " ", b"b@example.com", ["b"], {}, "550 no", "252", "2.1.5 yes"],
    ids=repr,
)
def test_on_vrfy_returns_a_text_or_none_and_else_is_a_fault(result: Any) -> None:
    with witnessed(on_vrfy=lambda argument, session: result) as client:
        assert client.cmd("VRFY b").startswith("451 4.3.0")
        event = client.witness.one("error")
        assert event.code == "HookError"
        assert "on_vrfy" in str(event.error)
        client.ok("NOOP")
