"""Secrets and personal data leave a line, whatever stands around them; everything else of it stays, to the character."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harkline.contract import LogLine
from harkline.errors import SettingsError
from harkline.lines.decoded import CUT
from harkline.lines.patterns import DEFAULT, NAMES, PATTERNS, chosen
from harkline.lines.redaction import Redactor, redactor_of
from harkline.settings import load_settings

ALL = Redactor(NAMES)
USUAL = Redactor(DEFAULT)
KEPT_CHARS = 8192

A = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJ"  # 36 characters
HEX = "0123456789abcdef" * 2
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJlLWhlcmU"
KEY = "MIIEowIBAAKCAQEA7bq1f3kMZyQ0\nq9Jb0aZ1\nabc="

# What is sent, and what is kept; `<name>` stands for the mark of a pattern.
SECRETS = {
    "AWS": ("using AKIAIOSFODNN7EXAMPLE now", "using <aws_key> now"),
    "AWS, temporary": ("'ASIAIOSFODNN7EXAMPLE'", "'<aws_key>'"),
    "GitHub": (f"clone with ghp_{A}!", "clone with <github_token>!"),
    "GitHub, OAuth": (f"gho_{A},ghs_{A}", "<github_token>,<github_token>"),
    "GitHub, fine-grained": ("github_pat_11ABCDEFG0abcdefghijkl_mnop/x", "<github_token>/x"),
    "GitLab": ("glpat-abcdefghij0123456789.", "<gitlab_token>."),
    "Slack": ("xoxb-123456789012-abcdef and xapp-1-A0123456789", "<slack_token> and <slack_token>"),
    "Slack's webhook": (
        "POST https://hooks.slack.com/services/T000/B000/XXXXabcdefgh 404",
        "POST https://hooks.slack.com/services/<slack_token> 404",
    ),
    "Stripe": ("sk_live_abcdefgh12345678 rk_live_abcdefgh12345678", "<stripe_key> <stripe_key>"),
    "Google": (f"key AIza{A[:35]}.", "key <google_key>."),
    "npm": (f"//registry/:npm_{A}", "//registry/:<npm_token>"),
    "model providers": (f"sk-ant-api03-{A}1 (sk-{A}9)", "<ai_key> (<ai_key>)"),
    "SendGrid": (f"SG.{A[:22]}.{A}", "<sendgrid_key>"),
    "Twilio": (f"SK{HEX}", "<twilio_key>"),
    "JWT": (f"got {JWT}; ok", "got <jwt>; ok"),
    "JWT, cut": ("got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOi", "got <jwt>"),
    "private key": (f"x -----BEGIN RSA PRIVATE KEY-----\n{KEY}\n-----END RSA PRIVATE KEY----- y", "x <private_key> y"),
    "private key, newlines written out": (
        r'"-----BEGIN PRIVATE KEY-----\nMIIEowIBAAKCAQEA\nabc=\n-----END PRIVATE KEY-----\n"',
        r'"<private_key>\n"',
    ),
    "private key, end cut": (
        f"-----BEGIN EC PRIVATE KEY-----\n{KEY}\nabcde",
        "-----BEGIN EC PRIVATE KEY-----\n<private_key>",
    ),
    "private key, beginning cut": (f"{KEY}\n-----END PRIVATE KEY----- x", "<private_key>\n-----END PRIVATE KEY----- x"),
    "Bearer": ("sent Bearer abc123def456 to x", "sent Bearer <authorization> to x"),
    "Basic": ("basic dXNlcjpwYXNz", "basic <authorization>"),
    "Authorization": ("Authorization: Bearer abc.def -> 401", "Authorization: Bearer <authorization> -> 401"),
    "Authorization without a scheme": ("'authorization': 'abcdef'", "'authorization': '<authorization>'"),
    "Authorization in Go's map": ("map[Authorization:[Bearer abcdef]]", "map[Authorization:[Bearer <authorization>]]"),
    "Authorization, Digest": (
        'Authorization: Digest username="bob", response="0123abc" next',
        "Authorization: Digest <authorization> next",
    ),
    "Authorization, AWS": (
        "Authorization: AWS4-HMAC-SHA256 Credential=x/2026, SignedHeaders=host, Signature=abc done",
        "Authorization: AWS4-HMAC-SHA256 <authorization> done",
    ),
    "URL": ("postgres://app:s3cr3t@db:5432/x is down", "postgres://app:<url_password>@db:5432/x is down"),
    "URL without a user": ("redis://:p@ss@host:6379/0", "redis://:<url_password>@host:6379/0"),
    "URL in escaped JSON": (r"https:\/\/u:pa\/ss@h\/x", r"https:\/\/u:<url_password>@h\/x"),
    "URL with what none may hold": ("amqp://u:a/b#c@h", "amqp://u:<url_password>@h"),
    "Cookie": ("Cookie: sid=abc; theme=dark (from x)", "Cookie: <cookie> (from x)"),
    "Set-Cookie": ('"Set-Cookie":"sid=abc; Path=/; Expires=Wed, 1 Jan"', '"Set-Cookie":"<cookie>"'),
    "password": ("password=hunter2 user=bob", "password=<secret_value> user=bob"),
    "password in prose": ("Login with Password: hunter2, then", "Login with Password: <secret_value>, then"),
    "a name with a prefix": ("DB_PASSWORD=hunter2", "DB_PASSWORD=<secret_value>"),
    "a name with a prefix in small": ("dbPasswd:hunter2", "dbPasswd:<secret_value>"),
    "pass": ("MYSQL_PASS=hunter2", "MYSQL_PASS=<secret_value>"),
    "pwd": ("Server=x;Uid=sa;Pwd=a;b,c&d;Encrypt=1", "Server=x;Uid=sa;Pwd=<secret_value>;Encrypt=1"),
    "JSON": ('{"user":"bob","password":"a\\"b, c","n":1}', '{"user":"bob","password":"<secret_value>","n":1}'),
    "JSON in JSON": (r"{\"apiKey\":\"a b\",\"n\":1}", r"{\"apiKey\":\"<secret_value>\",\"n\":1}"),
    "Python": ("{'client_secret': 'abc', 'n': 1}", "{'client_secret': '<secret_value>', 'n': 1}"),
    "Ruby": (":api_key=>'abc', :n=>1", ":api_key=>'<secret_value>', :n=>1"),
    "PHP": ("['access_key'] => abc)", "['access_key'] => <secret_value>)"),
    "Java": ("User(name=bob, password=abc)", "User(name=bob, password=<secret_value>)"),
    "a query": ("GET /x?token=abc&n=1 HTTP/1.1", "GET /x?token=<secret_value>&n=1 HTTP/1.1"),
    "a header": ('-H "X-Api-Key: 0123abcd"', '-H "X-Api-Key: <secret_value>"'),
    "XML": ("<wsse:Password Type='x'>abc</wsse:Password>", "<wsse:Password Type='x'><secret_value></wsse:Password>"),
    "SQL": (
        "ALTER USER x PASSWORD 'abc'; y IDENTIFIED BY 'def'",
        "ALTER USER x PASSWORD '<secret_value>'; y IDENTIFIED BY '<secret_value>'",
    ),
    "an option": ("COMMAND=x --db-password abc -v", "COMMAND=x --db-password <secret_value> -v"),
    "a quote that does not close": ('password="a b c', 'password="<secret_value>'),
    "a value too long for a remark": (f'"password":"is {"ever so " * 12}long"', '"password":"<secret_value>"'),
    "the one that knows most names it": (f'"token":"{JWT}"', '"token":"<jwt>"'),
    "card": ("card 4111111111111111 declined", "card <card> declined"),
    "card in groups": ("4111 1111 1111 1111 100 EUR", "<card> 100 EUR"),
    "card with dashes": ("n=5555-5555-5555-4444;", "n=<card>;"),
    "card behind another number": ("4000 4111 1111 1111 1111", "4000 <card>"),
    "American Express": ("3782 822463 10005, 378282246310005", "<card>, <card>"),
    "Diners, JCB, Discover": ("30569309025904 3530111333300000 6011111111111117", "<card> <card> <card>"),
    "IBAN": ("to DE89370400440532013000 EUR", "to <iban> EUR"),
    "IBAN in groups": ("GB82 WEST 1234 5698 7654 32 PAID", "<iban> PAID"),
    "social security number": ("ssn 123-45-6789,123-45-6780", "ssn <us_ssn>,<us_ssn>"),
    "e-mail": ("mail to bob.b+x@mail.example.com.", "mail to <email>."),
}

# Ordinary lines, which must come back as they are.
ORDINARY = [
    "Access denied for user 'root'@'localhost' (using password: YES)",
    "Failed password for invalid user admin from 10.0.0.1 port 22 ssh2",
    "sudo: bob : TTY=pts/0 ; PWD=/home/bob ; USER=root ; COMMAND=/bin/ls",
    "gdm-password]: pam_unix(gdm-password:auth): authentication failure; logname= uid=0",
    "Invalid password: must be at least 8 characters",
    'SyntaxError: unexpected token: } at line 3; Unexpected token: "identifier"',
    "max_tokens=4096 prompt_tokens: 12 token=17 token_type=bearer passwordless=true",
    'password=null token="" secret=*** api_key=${KEY} pwd=<your password> access_key=[FILTERED] x_token=%s',
    'MountVolume failed: secret "db-tls" not found; secret=kube-system/db-tls {"secret":"orders-tls"}',
    "Skipping AppWindowToken{df0798e token=Token{78af589 ActivityRecord{3b04890}}}",
    "Bad activity token: android.os.BinderProxy@2bd79ce",
    "stream/token: com.apple.xpc.activity/4505: 132: request for stale data",
    "authorization: denied for bob; Bearer token expired; basic authentication failed; Bearer authentication",
    "table=0 cookie=0x273b6cf8e558 flows=0; mode=http cookie=insert; Set-Cookie header missing",
    "pass=12 fail=0 skipped_pass=3",
    "http://registry:4873/@scope/pkg http://[::1]:5000/x?mail=a@b git@github.com:org/repo",
    "docker pull reg:5000/app@sha256:" + HEX * 2,
    "blk_-4111111111111111 blk_4111111111111111 order_id=4111111111111111 load 0.4111111111111111",
    'trace_id="4539148803436467" at 1795335139443 span 1795335139443001 4111111111111112',
    "REPORT : 4007 5002 1500 8924 then 4111-1111-1111-1112",
    "DE89370400440532013001 GB00WEST12345698765432 ZZ89370400440532013000 SHA256 AES128",
    "phone 555-123-4567, 000-12-3456, 666-12-3456, 912-34-5678, part 1123-45-6789, 123-45-67890",
    "task-scheduler-worker-7f9c6 disk-usage-collector-Node1 risk-assessment-service-2024A sk-loading-indicator-wrapper-x",
    "eyJ is how base64 writes an object; eyJ.a AKIA_NOT_A_KEY ghp_short npm_config_registry_url SG.x.y",
    "-----BEGIN CERTIFICATE-----\nMIIDdzCCAl+gAwIBAgIEAgAAuTANBgkq\n-----END CERTIFICATE-----",
    "no '-----BEGIN PRIVATE KEY-----' in /etc/tls/key.pem",
]


def marked(text: str) -> str:
    for name in NAMES:
        text = text.replace(f"<{name}>", f"[redacted:{name}]")
    return text


@pytest.mark.parametrize("kind", SECRETS)
def test_a_secret_goes_and_the_rest_stays(kind: str) -> None:
    """Each kind of secret is replaced by the mark of its pattern, and nothing else of the line changes; a second pass finds nothing more."""
    sent, kept = SECRETS[kind]
    redacted, counts = ALL.redact(sent)
    assert redacted == marked(kept)
    assert counts.total() == redacted.count("[redacted:") > 0
    again, more = ALL.redact(redacted)
    assert again is redacted
    assert not more


@pytest.mark.parametrize("line", ORDINARY)
def test_an_ordinary_line_is_the_same_object(line: str) -> None:
    """What stands where a secret would, ids that look like cards, and names of things are left, without a copy."""
    redacted, counts = USUAL.redact(line)
    assert redacted is line
    assert not counts


def test_every_pattern_is_tried_above() -> None:
    """No pattern is without an example."""
    shown = " ".join(kept for _, kept in SECRETS.values())
    assert [name for name in NAMES if f"<{name}>" not in shown] == []


def _run(alphabet: str, low: int, high: int) -> st.SearchStrategy[str]:
    return st.text(alphabet=alphabet, min_size=low, max_size=high)


UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
DIGITS = "0123456789"
WORD = UPPER + UPPER.lower() + DIGITS
URL_SAFE = WORD + "_-"
# Secrets told by their name hold a digit and a letter: words that say why a login failed are left.
CHOSEN = st.builds("{}{}{}".format, st.sampled_from(UPPER.lower()), st.integers(10, 99), _run(WORD, 6, 40))


def _luhn(body: str) -> str:
    total = sum(sum(divmod(int(digit) * (2 - place % 2), 10)) for place, digit in enumerate(reversed(body)))
    return body + str(-total % 10)


def _iban(account: str) -> str:
    rest = int("".join(str(int(char, 36)) for char in account + "DE00")) % 97
    return f"DE{98 - rest:02}{account}"


CARD = st.builds(
    lambda start, rest: _luhn(start + rest), st.sampled_from(("4", "51", "2221", "6011", "3528")), _run(DIGITS, 16, 16)
).map(str)
PLANTED = {
    "aws_key": st.builds("{}{}".format, st.sampled_from(("AKIA", "ASIA")), _run(UPPER + "234567", 16, 16)),
    "github_token": st.builds("{}{}".format, st.sampled_from(("ghp_", "gho_", "github_pat_")), _run(WORD, 36, 82)),
    "gitlab_token": _run(URL_SAFE, 20, 40).map("glpat-{}".format),
    "slack_token": st.builds("xox{}-{}".format, st.sampled_from("abpors"), _run(WORD + "-", 10, 60)),
    "stripe_key": st.builds("{}{}".format, st.sampled_from(("sk_live_", "rk_live_")), _run(WORD, 16, 99)),
    "google_key": _run(URL_SAFE, 35, 35).map("AIza{}".format),
    "npm_token": _run(WORD, 36, 36).map("npm_{}".format),
    "jwt": st.builds("eyJ{}.eyJ{}.{}".format, _run(URL_SAFE, 8, 60), _run(URL_SAFE, 4, 99), _run(URL_SAFE, 20, 60)),
    "private_key": st.builds(
        "-----BEGIN {0}PRIVATE KEY-----{2}{1}{2}-----END {0}PRIVATE KEY-----".format,
        st.sampled_from(("", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED ")),
        _run(WORD + "+/", 64, 200),
        st.sampled_from(("\n", "\\n", " ")),
    ),
}


@pytest.mark.parametrize("kind", PLANTED)
@given(data=st.data(), before=st.text(), after=st.text())
def test_a_key_with_a_shape_never_survives_whatever_touches_it(
    kind: str, data: st.DataObject, before: str, after: str
) -> None:
    """Keys with a prefix of their maker's are found with any text directly before and behind them."""
    secret = data.draw(PLANTED[kind])
    redacted, counts = USUAL.redact(before + secret + after)
    assert secret not in redacted
    assert counts[kind] >= 1


# Those that begin or end as words and numbers do need a boundary, but any.
BOUNDED = {
    "ai_key": st.builds("sk-{}A1{}".format, _run(URL_SAFE, 8, 40), _run(URL_SAFE, 10, 40)),
    "sendgrid_key": st.builds("SG.{}.{}".format, _run(URL_SAFE, 22, 22), _run(URL_SAFE, 43, 43)),
    "twilio_key": _run("0123456789abcdef", 32, 32).map("SK{}".format),
    "card": st.builds(
        lambda body, mark: mark.join((body[:4], body[4:8], body[8:12], body[12:])),
        st.builds(
            lambda start, rest: _luhn((start + rest)[:15]),
            st.sampled_from(("4", "51", "2221", "6011", "3528")),
            _run(DIGITS, 15, 15),
        ),
        st.sampled_from(("", " ", "-")),
    ),
    "iban": _run(DIGITS, 18, 18).map(_iban),
    "us_ssn": st.builds("{:03}-{:02}-{:04}".format, st.integers(1, 665), st.integers(1, 99), st.integers(1, 9999)),
    "email": st.builds("{}@{}.example.com".format, _run(WORD + "._%+-", 1, 30), _run(WORD, 1, 20)),
}
BOUNDARIES = st.sampled_from(" \t\n,;:|()[]{}<>\"'=/!?")


@pytest.mark.parametrize("kind", BOUNDED)
@given(data=st.data(), before=st.text(), after=st.text(), left=BOUNDARIES, right=BOUNDARIES)
def test_what_looks_like_a_word_or_a_number_never_survives_standing_alone(
    kind: str, data: st.DataObject, before: str, after: str, left: str, right: str
) -> None:
    """Cards, account numbers, addresses and short prefixes are found between any two signs, whatever is beyond them."""
    secret = data.draw(BOUNDED[kind])
    before = before.rstrip("=:# ").rstrip("dDkKqQtTnNrReEsS")  # `order_id=4111...` says itself that it is no card
    redacted, _ = ALL.redact(f"{before}{left}{secret}{right}{after}")
    assert secret not in redacted


NAMES_OF_SECRETS = st.builds(
    "{}{}".format,
    st.sampled_from(("", "db_", "x-", "my.", "user", "SPRING_")),
    st.from_regex(
        r"(?i:passw(or)?d|pwd|token|api[_-]?key|access_?key|client_?secret|secret_key)",
        fullmatch=True,
        alphabet=URL_SAFE,
    ),
)
WAYS = [
    "{name}={secret}",
    "{name}:{secret}",
    "{name}: {secret}",
    "{name} = {secret}",
    '{name}="{secret}"',
    "{name}: '{secret}'",
    '"{name}":"{secret}"',
    '"{name}": "{secret}"',
    "'{name}': '{secret}'",
    '\\"{name}\\":\\"{secret}\\"',
    '"{name}" => "{secret}"',
    "<{name}>{secret}</{name}>",
    "?{name}={secret}&",
    "[{name}={secret}]",
]


@given(before=st.text(), name=NAMES_OF_SECRETS, way=st.sampled_from(WAYS), secret=CHOSEN, after=st.text())
@example(before="", name="token", way="{name}={secret}", secret="abc123", after="{x")
@example(before="pwd=/", name="password", way="{name}={secret}", secret="abc123", after="")
def test_the_value_of_a_secrets_name_never_survives(before: str, name: str, way: str, secret: str, after: str) -> None:
    """However a value is given to a password's or a token's name, it goes, whatever touches it."""
    redacted, _ = USUAL.redact(before + way.format(name=name, secret=secret) + after)
    assert secret not in redacted


@given(secret=st.text(min_size=1).map("S3{}".format), level=st.integers(1, 3), ascii_only=st.booleans())
@example(secret="S3\\", level=2, ascii_only=True)
@example(secret='S3\\"\\\\', level=3, ascii_only=True)
def test_no_character_of_a_json_value_survives(secret: str, level: int, ascii_only: bool) -> None:
    """A secret of any characters, in JSON and in JSON within JSON, goes to its last one, and what follows stays."""
    text = json.dumps({"password": secret, "next": "kept"}, ensure_ascii=ascii_only)
    for _ in range(level - 1):
        text = json.dumps(text, ensure_ascii=ascii_only)
    redacted, counts = Redactor(["secret_value"]).redact(text)
    assert counts.total() == 1
    value: object = redacted
    for _ in range(level):
        assert isinstance(value, str)
        value = json.loads(value)
    assert value == {"password": "[redacted:secret_value]", "next": "kept"}


@given(secret=st.text(min_size=1).map("S3{}".format))
def test_no_character_of_a_python_value_survives(secret: str) -> None:
    """The same for a dictionary as Python prints it, with either quote."""
    redacted, _ = Redactor(["secret_value"]).redact(repr({"token": secret, "next": "kept"}))
    assert redacted in (
        "{'token': '[redacted:secret_value]', 'next': 'kept'}",
        "{'token': \"[redacted:secret_value]\", 'next': 'kept'}",
    )


@given(before=st.text(), user=_run(WORD, 0, 12), secret=_run(URL_SAFE + "!$&*+,;=%~@", 6, 40), after=st.text())
def test_the_password_of_a_url_never_survives(before: str, user: str, secret: str, after: str) -> None:
    """A password between a user and a host goes, and both stay."""
    secret = f"x{secret.strip('@')}7"
    redacted, _ = Redactor(["url_password"]).redact(f"{before} https://{user}:{secret}@host.example/{after}")
    assert f"{secret}@host" not in redacted
    assert f"https://{user}:[redacted:url_password]@host.example/" in redacted


@given(before=st.text(), scheme=st.sampled_from(("Bearer ", "Basic ", "Token ", "")), secret=CHOSEN, after=st.text())
def test_the_credentials_of_a_header_never_survive(before: str, scheme: str, secret: str, after: str) -> None:
    """Whatever the scheme, what Authorization carries goes; so does a cookie."""
    redacted, _ = USUAL.redact(f"{before}Authorization: {scheme}{secret} {after}Cookie: sid={secret}; a={secret}")
    assert secret not in redacted


# Pieces of secrets, and of what is written around them.
WORDS = (
    "password|passwd|pwd|secret|token|api_key|access_key|key|authorization|bearer|basic|cookie|set-cookie|digest|by|--|identified|"
    "4111|1111|111111|4000|3782|822463|10005|DE89|GB82|WEST|3704|0044|123-45-6789|45|eyJ|eyJhbGci|sk-|SG.|SK|ghp_|AKIA|xoxb-|"
    "-----BEGIN|-----END|PRIVATE KEY-----|RSA|abcdefghijklmnopqrstuvwxyz0123456789|ABCDEFGHIJKLMNOP|hunter2|null|YES|bob|"
    "example.com|[redacted:jwt]|[redacted:|home|é|İ"
)
SIGNS = r""" =:,;&/<>{}()[]|-_%$@.\"'é"""
PIECES = [*WORDS.split("|"), *SIGNS, "\n", ": ", '\\"', "\\n", "://", "</"]
SOUP = st.lists(st.sampled_from(PIECES), max_size=30).map("".join)


@given(text=SOUP | st.text())
def test_a_text_without_secrets_is_the_same_object_and_a_redacted_one_holds_no_more(text: str) -> None:
    """Nothing found means nothing touched; what is found is found at once, so that a second pass changes nothing."""
    redacted, counts = ALL.redact(text)
    if counts:
        assert redacted.count("[redacted:") >= 1
    else:
        assert redacted is text
    again, _ = ALL.redact(redacted)
    assert again == redacted


@pytest.mark.parametrize("name", NAMES)
@given(text=SOUP)
def test_no_screen_hides_what_a_pattern_finds(name: str, text: str) -> None:
    """The quick look before a pattern is a necessary condition of it: wherever a pattern finds something, its screen hits."""
    pattern = next(pattern for pattern in PATTERNS if pattern.name == name)
    spans = list(pattern.find(text))
    if spans:
        assert all(0 <= start < end <= len(text) for start, end in spans)
        assert Redactor([name]).redact(text)[1][name] >= 1


@given(texts=st.lists(SOUP, min_size=1, max_size=6))
def test_lines_are_redacted_as_texts_are(texts: list[str]) -> None:
    """Company changes nothing: a line of a batch is redacted as it would be alone, except for keys that go on over lines."""
    redactor = Redactor([name for name in NAMES if name != "private_key"])
    lines, counts = redactor.redact_lines([LogLine(text) for text in texts], KEPT_CHARS)
    alone = [redactor.redact(text) for text in texts]
    assert [line.message for line in lines] == [text for text, _ in alone]
    assert counts == sum((found for _, found in alone), start=type(counts)())


def test_all_that_a_sender_writes_freely_is_redacted() -> None:
    """Message, level, id, and the names and values of labels; service and environment stay. The other lines are the same objects."""
    secret = "password=hunter2"
    line = LogLine(
        secret, secret, secret, 1.5, secret, secret, {"note": secret, secret: "x", "db_password": "hunter2", "n": "1"}
    )
    other = LogLine("plain", "s", "e", 2.5, "info", "7", {"a": "b"})
    (redacted, kept), counts = USUAL.redact_lines([line, other], KEPT_CHARS)
    mark = "password=[redacted:secret_value]"
    labels = {"note": mark, mark: "x", "db_password": "[redacted:secret_value]", "n": "1"}
    assert redacted == LogLine(mark, secret, secret, 1.5, mark, mark, labels)
    assert kept is other
    assert counts == {"secret_value": 6}


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("password", "correct horse", "[redacted:secret_value]"),
        ("http.request.header.authorization", "Bearer abc", "[redacted:authorization]"),
        ("set-cookie", "a=b", "[redacted:cookie]"),
        ("api_key", "${KEY}", "${KEY}"),
        ("token", "3", "3"),
        ("cookie", "insert", "insert"),
        ("secret_name", "db", "db"),
    ],
)
def test_a_labels_name_tells_that_its_value_is_a_secret(name: str, value: str, kept: str) -> None:
    """The whole value goes where the name is a secret's, unless it only stands in for one."""
    (line,), _ = USUAL.redact_lines([LogLine("m", labels={name: value})], KEPT_CHARS)
    assert line.labels == {name: kept}


@pytest.mark.parametrize("field", ["message", "level", "id", "labels"])
def test_a_field_is_looked_at_though_the_others_are_clean(field: str) -> None:
    """A secret is found wherever it alone is, also where the message gives no cause to look."""
    given: dict[str, Any] = {"message": "m", field: {"a": "token=abc123"} if field == "labels" else "token=abc123"}
    (line, kept), counts = USUAL.redact_lines([LogLine(**given), LogLine("n")], KEPT_CHARS)
    assert "abc123" not in repr(line)
    assert kept == LogLine("n")
    assert counts == {"secret_value": 1}


def test_lines_without_secrets_are_the_same_list() -> None:
    """A clean request pays for one look at it."""
    lines = [LogLine(line, labels={"a": "b"}) for line in ORDINARY]
    assert USUAL.redact_lines(lines, KEPT_CHARS) == (lines, {})
    plain = [LogLine("all is well"), LogLine("still")]
    assert USUAL.redact_lines(plain, KEPT_CHARS).lines is plain


KEY_LINES = ["Ab1+" * 16, "Cd2/" * 16, "Ef3=" * 1]


def test_a_key_that_is_sent_line_by_line_is_told_by_its_neighbours() -> None:
    """Plain lines split a key: between BEGIN and END, base64 goes, also behind a header; other lines between and around stay."""
    messages = ["done", "-----BEGIN RSA PRIVATE KEY-----", "Proc-Type: 4,ENCRYPTED", KEY_LINES[0], "other line"]
    messages += [
        f"Nov 22 host app: {KEY_LINES[1]}",
        KEY_LINES[2],
        "-----END RSA PRIVATE KEY-----",
        "done",
        KEY_LINES[0],
    ]
    lines, counts = USUAL.redact_lines([LogLine(message) for message in messages], KEPT_CHARS)
    mark = "[redacted:private_key]"
    expected = messages.copy()
    expected[3], expected[5], expected[6] = mark, f"Nov 22 host app: {mark}", mark
    assert [line.message for line in lines] == expected
    assert counts == {"private_key": 3}


@pytest.mark.parametrize("missing", ["BEGIN", "END"])
def test_a_key_of_which_one_end_is_in_another_request_is_told_by_the_other(missing: str) -> None:
    """A request that ends or begins within a key still gives its base64 lines away."""
    messages = ["-----BEGIN PRIVATE KEY-----", *KEY_LINES, "-----END PRIVATE KEY-----"]
    messages = messages[1:] if missing == "BEGIN" else messages[:-1]
    lines, _ = USUAL.redact_lines([LogLine(message) for message in [*messages, "after"]], KEPT_CHARS)
    left = "".join(line.message for line in lines)
    assert KEY_LINES[0] not in left
    assert KEY_LINES[1] not in left
    assert lines[-1].message == "after"


@pytest.mark.parametrize("at", range(3990, 4120, 10))
def test_a_secret_across_the_cut_of_a_long_line_goes(at: int) -> None:
    """Long lines keep head and tail; they are redacted before they are cut, so no half of a secret is left in either."""
    secret = "password=" + "Zq9" * 30
    message = "x" * at + " " + secret + " " + "y" * 8000
    (line,), counts = USUAL.redact_lines([LogLine(message)], KEPT_CHARS)
    assert "Zq9" not in line.message
    assert len(line.message) == KEPT_CHARS
    assert CUT in line.message
    assert counts == {"secret_value": 1}


def test_marks_do_not_push_a_line_past_its_limits() -> None:
    """Marks are longer than short secrets: a line full of them is cut as any other."""
    text = "pwd=a1 " * 585
    (line,), counts = USUAL.redact_lines([LogLine(text, labels={"note": text[:4096]})], KEPT_CHARS)
    assert len(line.message) == KEPT_CHARS
    assert line.labels is not None
    assert len(line.labels["note"]) <= 4096
    assert counts["secret_value"] > 1000


HOSTILE = [
    *(
        "password=",
        'password="',
        'password=\\"',
        'password="\\"',
        "password=a,",
        "password= a=",
        "pwd=/",
        "token=Token{",
        "token={{",
        "token> ",
    ),
    *(
        "--token ",
        "password 'a",
        "api key",
        "eyJ",
        "eyJaaaaaaaa.",
        "sk-",
        "SG.aaaaaaaaaaaaaaaa.",
        "://",
        "://a:b",
        "://a:b/",
        "a@a.",
        "a.a",
    ),
    *(
        "authorization: Digest a=b,",
        "authorization: x ",
        "bearer a",
        "cookie: a;",
        "4",
        "4111 ",
        "DE89 ",
        "AA00AAAA",
        "111-11-",
    ),
    *("-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----a", "\\", "\\n", "[redacted:", "é://a:b@"),
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_a_hostile_line_of_a_megabyte_takes_linear_time(piece: str) -> None:
    """Nothing backtracks: a line that is made to nearly match everywhere costs a microsecond a character, not minutes."""
    ALL.redact("password=hunter2")
    text = "password=hunter2 4111111111111111 " + piece * (2**20 // len(piece)) + ".@ ' \""
    began = time.process_time()
    redacted, _ = ALL.redact(text)
    assert time.process_time() - began < 5
    assert "hunter2 " not in redacted


CHOICES: dict[str, tuple[str, ...]] = {
    "": DEFAULT,
    "default": DEFAULT,
    " All ": NAMES,
    "off": (),
    "card, jwt": ("jwt", "card"),
    "default,email": NAMES,
    "all,-iban,-email": tuple(name for name in DEFAULT if name != "iban"),
    "jwt,jwt": ("jwt",),
}


@pytest.mark.parametrize("said", CHOICES)
def test_a_setting_means_patterns(said: str) -> None:
    """Names and groups, in any order; a minus takes one out; e-mail addresses only where they are asked for."""
    assert chosen(said) == CHOICES[said]


@pytest.mark.parametrize("said", ["pasword", "off,card", "default,-cards", "-"])
def test_an_unknown_pattern_is_named_and_the_known_ones_are_listed(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A typing mistake must not leave secrets in: the system does not start, and says what may be said."""
    monkeypatch.setenv("HARKLINE_REDACT", said)
    with pytest.raises(SettingsError) as raised:
        load_settings()
    (problem,) = raised.value.problems
    assert problem.startswith("HARKLINE_REDACT: ")
    assert repr(next(part for part in said.split(",") if part not in ("card", "default"))) in problem
    assert all(name in problem for name in NAMES)


def test_off_redacts_nothing_and_still_cuts() -> None:
    """Without patterns lines are what they were, within their length."""
    (line,), counts = redactor_of("off").redact_lines([LogLine("password=hunter2" + "x" * 9000)], KEPT_CHARS)
    assert line.message.startswith("password=hunter2")
    assert len(line.message) == KEPT_CHARS
    assert not counts


def test_one_pattern_alone_leaves_the_others_secrets() -> None:
    """What is not chosen is not touched."""
    redacted, counts = redactor_of("card").redact("password=hunter2 4111111111111111")
    assert redacted == "password=hunter2 [redacted:card]"
    assert counts == {"card": 1}
