"""Fill a template's typed slots with values such as real systems print, so that the model learns the words around them and not the values.

Everything is drawn from the generator that is passed in: the same seed gives the same lines.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from string import Formatter

from harkline.errors import HarklineError

# Slots that only an envelope may hold, filled by whoever renders the line.
ENVELOPE_SLOTS = frozenset({"level", "message"})

_NAMES = """
    atlas birch cobalt delta ember falcon garnet harbor indigo juniper kestrel lotus maple nimbus onyx pine quartz
    raven sierra tundra umber vega willow zephyr
"""
_SERVICES = """
    api auth billing cart catalog checkout crm etl feed gateway geo identity inventory ledger mailer media
    notifier orders payments pricing profile quotes reports search sessions shipping sync tracker uploads users
    web worker
"""
_USERS = """
    admin alice bob carol deploy dmitri emeka fatima git jenkins jun lucia mei nagios oracle postgres priya root
    sam svc_backup tomas ubuntu www-data yuki
"""
_TABLES = """
    accounts addresses audit_log carts customers events invoices items jobs line_items messages orders payments
    products sessions shipments stock tokens transactions users
"""
_CLASSES = """
    AccountService BatchRunner CacheLoader ConnectionPool DispatcherServlet EventBus HttpClient JobExecutor
    LeaderElector MessageListener OrderController PaymentProcessor QueryPlanner RequestHandler SchedulerImpl
    SessionManager TaskRunner TokenFilter UserRepository WorkerThread
"""
_METHODS = """
    acquire apply build close commit connect dispatch execute fetch flush handle init invoke load open parse
    process publish read refresh render resolve run save send start submit sync update validate write
"""
_MODULES = """
    agent cache client config controller core db engine handler http jobs main manager network pool proxy queue
    reconciler registry router runtime scheduler server session store sync tasks transport watcher worker
"""
_WORDS = """
    alpha archive batch beta blue canary cold daily east edge export fast green hot import index internal legacy
    live main mobile nightly north partner primary public red replica report shared shard snapshot south staging
    stream west
"""
_EXTENSIONS = "bin cfg conf csv dat db gz jpg js json log parquet pdf pem py so sql tar txt xml yaml"
_DIRECTORIES = "/var/lib/ /var/log/ /var/spool/ /opt/ /srv/ /data/ /mnt/ /home/ /etc/ /usr/lib/ /tmp/"
_COUNTRIES = """
    Brazil Canada China Egypt France Germany India Japan Kenya Mexico Nigeria Poland Spain Turkey Vietnam BR CN DE
    FR IN JP NL US
"""
_REGIONS = """
    eu-central-1 eu-west-1 us-east-1 us-east-2 us-west-2 ap-south-1 ap-southeast-2 sa-east-1 westeurope
    europe-west4
"""
_TOPLEVEL = "com net org io dev example internal local"
_PATHS = """
    accounts auth/login cart catalog/items checkout events export feed graphql healthz img/logo.png login metrics
    orders profile reports search sessions static/app.js upload users v2/items webhooks
"""
_QUEUES = """
    celery default emails events high-priority imports invoices low notifications orders payments retries
    thumbnails webhooks
"""
_THREADS = """
    main http-nio-8080-exec- pool-1-thread- scheduling- worker- ForkJoinPool.commonPool-worker-
    nioEventLoopGroup-2- Thread- qtp- task-
"""
_IMAGES = "nginx redis postgres alpine busybox python node envoy grafana"
_INTERFACES = "eth0 eth1 ens3 ens192 enp4s0f1 bond0 wlan0 br0 veth4a1f2c ib0 xe-0/0/3 ge-1/0/11"
_CURRENCIES = "EUR USD GBP JPY CHF SEK INR BRL"

_EPOCH_SECONDS = (1_600_000_000, 1_800_000_000)


class SlotError(HarklineError):
    """A template names a slot that does not exist, or its braces do not match."""


def _one_of(words: str) -> Callable[[Random], str]:
    choices = words.split()
    return lambda rng: rng.choice(choices)


def _between(low: int, high: int) -> Callable[[Random], str]:
    return lambda rng: str(rng.randint(low, high))


def _spread(low_digits: int, high_digits: int) -> Callable[[Random], str]:
    """Numbers of any order: uniform in the number of digits, not in the value."""

    def draw(rng: Random) -> str:
        digits = rng.randint(low_digits, high_digits)
        return str(rng.randint(10 ** (digits - 1), 10**digits - 1))

    return draw


def _hexadecimal(low: int, high: int) -> Callable[[Random], str]:
    return lambda rng: f"{rng.getrandbits(4 * high):0{high}x}"[: rng.randint(low, high)]


def _moment(rng: Random) -> datetime:
    return datetime.fromtimestamp(rng.randint(*_EPOCH_SECONDS), tz=UTC)


def _iso(rng: Random) -> str:
    moment, milliseconds = _moment(rng), f"{rng.randrange(1000):03d}"
    return moment.strftime("%Y-%m-%dT%H:%M:%S") + rng.choice(["Z", f".{milliseconds}Z", f".{milliseconds}+00:00"])


def _clock(rng: Random) -> str:
    return _moment(rng).strftime("%H:%M:%S")


def _system_time(rng: Random) -> str:
    style = rng.choice(
        [
            "%b %d %H:%M:%S",
            "%b %d %H:%M:%S",
            "%Y-%m-%d %H:%M:%S",
            "%Y-%m-%d %H:%M:%S.%f",
            "%d %b %Y %H:%M:%S",
            "%a %b %d %H:%M:%S %Y",
        ]
    )
    return _moment(rng).strftime(style)


def klog_time(rng: Random) -> str:
    """Return the time as klog prints it right behind its one-letter level: `1122 13:05:34.123456`."""
    return _moment(rng).strftime("%m%d %H:%M:%S.%f")


def _address(rng: Random) -> str:
    first = rng.choice(["10", "172.16", "192.168", str(rng.randint(11, 223))])
    return ".".join([first, *(str(rng.randint(0, 254)) for _ in range(3 - first.count(".")))])


def _host(rng: Random) -> str:
    named = f"{_word(rng)}{rng.randint(1, 40):02d}"
    cloud = f"ip-10-0-{rng.randint(0, 255)}-{rng.randint(0, 255)}"
    return rng.choice([named, f"{_service(rng)}-{rng.randint(0, 9)}", cloud, f"node-{rng.randint(1, 300)}"])


def _fqdn(rng: Random) -> str:
    return f"{_service(rng)}.{_word(rng)}.{_toplevel(rng)}"


def _file(rng: Random) -> str:
    return f"{rng.choice([_word, _table, _module])(rng)}{rng.choice(['', str(rng.randint(1, 99))])}.{_extension(rng)}"


def _directory(rng: Random) -> str:
    return f"{_root(rng)}{rng.choice([_word, _service])(rng)}"


def _uri(rng: Random) -> str:
    return f"/{_path(rng)}{rng.choice(['', '', '/' + str(rng.randint(1, 99999)), '?page=' + str(rng.randint(1, 90))])}"


def _duration(rng: Random) -> str:
    minutes, seconds = rng.randint(1, 59), rng.randint(1, 59)
    short = [f"{seconds}s", f"{rng.randint(1, 999)}ms", f"{rng.uniform(0, 60):.3f}s"]
    return rng.choice([f"{minutes}m{seconds}s", f"{rng.randint(1, 23)}h{minutes}m", *short])


def _image(rng: Random) -> str:
    registry = rng.choice(["", f"registry.{_word(rng)}.io/", f"{_word(rng)}/"])
    return f"{registry}{_image_name(rng)}:{rng.randint(1, 20)}.{rng.randint(0, 30)}"


def _thread(rng: Random) -> str:
    name = _thread_name(rng)
    return f"{name}{rng.randint(1, 64)}" if name.endswith(("-", "exec-")) else name


_word, _service, _table, _module = (
    _one_of(f"{_WORDS} {_NAMES}"),
    _one_of(_SERVICES),
    _one_of(_TABLES),
    _one_of(_MODULES),
)
_extension, _root, _path, _toplevel = _one_of(_EXTENSIONS), _one_of(_DIRECTORIES), _one_of(_PATHS), _one_of(_TOPLEVEL)
_thread_name, _image_name = _one_of(_THREADS), _one_of(_IMAGES)

SLOTS: dict[str, Callable[[Random], str]] = {
    "int": _spread(1, 6),
    "n": _between(1, 20),
    "big": _spread(6, 10),
    "pct": _between(1, 99),
    "lowpct": _between(1, 40),
    "highpct": _between(91, 100),
    "float": lambda rng: f"{rng.uniform(0, 10 ** rng.randint(0, 4)):.{rng.randint(1, 6)}f}",
    "ms": _spread(1, 4),
    "secs": _spread(1, 3),
    "dur": _duration,
    "size": lambda rng: (
        f"{rng.randint(1, 999)}{rng.choice(['B', 'KB', 'MB', 'GB', 'KiB', 'MiB', 'GiB', ' MB', ' GB'])}"
    ),
    "bytes": _spread(2, 11),
    "ip": _address,
    "ip6": lambda rng: ":".join(f"{rng.getrandbits(16):x}" for _ in range(8)),
    "host": _host,
    "fqdn": _fqdn,
    "port": _between(1024, 65535),
    "pid": _spread(2, 6),
    "tid": _spread(2, 6),
    "uid": lambda rng: rng.choice(["0", "33", str(rng.randint(1000, 1200))]),
    "user": _one_of(_USERS),
    "path": lambda rng: f"{_directory(rng)}/{_file(rng)}",
    "file": _file,
    "dir": _directory,
    "dev": lambda rng: f"sd{rng.choice('abcdefgh')}",
    "part": lambda rng: f"sd{rng.choice('abcdefgh')}{rng.randint(1, 9)}",
    "iface": _one_of(_INTERFACES),
    "mac": lambda rng: ":".join(f"{rng.getrandbits(8):02x}" for _ in range(6)),
    "uuid": lambda rng: str(uuid.UUID(int=rng.getrandbits(128), version=4)),
    "hex": _hexadecimal(4, 16),
    "addr": lambda rng: f"0x{rng.getrandbits(48):012x}",
    "sha": _hexadecimal(7, 40),
    "url": lambda rng: f"http{rng.choice(['', 's'])}://{_fqdn(rng)}{_uri(rng)}",
    "uri": _uri,
    "email": lambda rng: f"{_one_of(_USERS)(rng)}@{_word(rng)}.{_toplevel(rng)}",
    "ts": _system_time,
    "iso": _iso,
    "date": lambda rng: _moment(rng).strftime("%Y-%m-%d"),
    "time": _clock,
    "epoch": lambda rng: str(rng.randint(*_EPOCH_SECONDS)),
    "service": _service,
    "pod": lambda rng: (
        f"{_service(rng)}-{rng.getrandbits(36):09x}-{''.join(rng.choices('bcdfghjklmnpqrstvwxz2456789', k=5))}"
    ),
    "ns": lambda rng: rng.choice(["default", "kube-system", "monitoring", "prod", "staging", _service(rng)]),
    "node": lambda rng: rng.choice([f"node-{rng.randint(1, 400)}", f"worker{rng.randint(1, 60)}", _host(rng)]),
    "container": _service,
    "image": _image,
    "db": lambda rng: rng.choice([_service(rng), f"{_word(rng)}_db", f"{_service(rng)}_prod"]),
    "table": _table,
    "index": lambda rng: f"{_table(rng)}-{_moment(rng).strftime('%Y.%m.%d')}",
    "topic": lambda rng: f"{_service(rng)}.{_table(rng)}",
    "queue": _one_of(_QUEUES),
    "key": lambda rng: f"{_service(rng)}:{rng.choice([_table, _word])(rng)}:{rng.randint(1, 99999)}",
    "id": lambda rng: rng.choice(
        [
            f"{rng.getrandbits(48):012x}",
            str(rng.randint(1000, 9_999_999)),
            f"{_word(rng)[:3]}_{rng.getrandbits(40):010x}",
        ]
    ),
    "version": lambda rng: f"{rng.randint(0, 24)}.{rng.randint(0, 30)}.{rng.randint(0, 20)}",
    "thread": _thread,
    "class": lambda rng: rng.choice(["", "", f"com.{_word(rng)}.{_module(rng)}.", "o.s."]) + _one_of(_CLASSES)(rng),
    "method": _one_of(_METHODS),
    "module": _module,
    "line": _between(1, 2500),
    "word": _word,
    "country": _one_of(_COUNTRIES),
    "amount": lambda rng: f"{rng.uniform(1, 10 ** rng.randint(1, 4)):.2f}",
    "currency": _one_of(_CURRENCIES),
    "tenant": lambda rng: rng.choice([f"tenant-{rng.randint(1, 900)}", f"acct_{rng.getrandbits(32):08x}", _word(rng)]),
    "region": _one_of(_REGIONS),
    "zone": lambda rng: _one_of(_REGIONS)(rng) + rng.choice("abc"),
}


def slots_of(template: str) -> list[str]:
    """Return the names of a template's slots in order. Raises SlotError where braces do not match or a slot carries a conversion or format."""
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise SlotError(f"braces do not match in {template!r} ({error}); double the literal ones") from error
    names = []
    for _, name, form, conversion in parts:
        if name is None:
            continue
        if form or conversion or not name.isidentifier():
            raise SlotError(f"{{{name}}} is no plain slot in {template!r}; double literal braces")
        names.append(name)
    return names


def fill(template: str, rng: Random, given: dict[str, str] | None = None) -> str:
    """Return the template with every slot filled: from `given` where it is named there, else by its generator, afresh for each occurrence."""
    pieces = []
    for text, name, _, _ in Formatter().parse(template):
        pieces.append(text)
        if name is None:
            continue
        if given is not None and name in given:
            pieces.append(given[name])
        elif name in SLOTS:
            pieces.append(SLOTS[name](rng))
        else:
            raise SlotError(f"unknown slot {{{name}}} in {template!r}; known are {', '.join(sorted(SLOTS))}")
    return "".join(pieces)
