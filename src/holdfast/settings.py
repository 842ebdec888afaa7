"""Every setting, as one table: its name, what it is without being set, its unit and what it is for.

A setting is given as an argument (`hf.open(url, lease_s=60)`) or by its environment variable, which is HOLDFAST_ and
its name in capitals; an argument wins. docs/reference/settings.md is generated from the table. How secrets are sealed
with the keys: seal.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from holdfast.errors import SettingInvalid


class Setting(NamedTuple):
    """`default` None: not set, or derived as `help` says. A number is at least `least` and at most `most`."""

    name: str
    kind: type[int] | type[float] | type[str]
    default: int | float | str | None
    unit: str
    help: str
    least: float = 0
    most: float = float("inf")
    secret: bool = False

    @property
    def variable(self) -> str:
        """The environment variable."""
        return f"HOLDFAST_{self.name.upper()}"


TABLE: Final = (
    Setting("database", str, "sqlite:///holdfast.db", "URL", "where tasks are kept, when no other place is named"),
    Setting("pool", str, "default", "name", "which tasks a worker takes, and where tasks go that name no other pool"),
    Setting(
        "lease_s", float, 15.0, "seconds",
        "how long a worker may write after its last heartbeat; a dead one's tasks are taken over after it", 0.1, 86_400,
    ),
    Setting(
        "heartbeat_s", float, None, "seconds", "how often a worker says that it lives; a third of lease_s if not set",
        0.01, 28_800,
    ),
    Setting(
        "deaths_max", int, 3, "count",
        "how many workers a step may take down with it before its task rests for a person (reason poison)", 1,
    ),
    Setting("grace_s", float, 5.0, "seconds", "how long a step that was asked to stop, or ran out of time, may go on"),
    Setting(
        "value_bytes_max", int, 1 << 20, "bytes", "how large one stored input, result or checkpoint may be",
        1024, 1 << 30,
    ),
    Setting(
        "retention_s", float, 30 * 86_400.0, "seconds",
        "how long an ended task is kept, and then for how long its tag still answers that it is gone",
    ),
    Setting("feed_retention_s", float, 7 * 86_400.0, "seconds", "how long events are kept for who comes back late", 0),
    Setting(
        "webhook_networks", str, None, "networks",
        "where webhooks may go beside public addresses, as 10.1.0.0/16,127.0.0.0/8",
    ),
    Setting("webhook_timeout_s", float, 10.0, "seconds", "how long a webhook's receiver may take to answer", 0.1, 60),
    Setting(
        "webhook_give_up_s", float, 3 * 86_400.0, "seconds", "how long a webhook may fail before it is disabled", 0
    ),
    Setting(
        "workers_max", int, 32, "count", "how many thread steps, and how many process steps, run at once", 1, 10_000
    ),
    Setting(
        "progress_interval_s", float, 0.5, "seconds", "how often at most a step's progress is stored; the latest wins"
    ),
    Setting("poll_s", float, 0.05, "seconds", "how often a worker looks for what other processes did", 0.001, 60),
    Setting("busy_timeout_s", float, 5.0, "seconds", "how long a write waits for a locked database", 0, 3_600),
    Setting(
        "database_timeout_s", float, 10.0, "seconds",
        "how long a request to the service waits for the database before it is answered 503; after half of it without a"
        " word from PostgreSQL it is found out whether the server lives", 0.1, 3_600,
    ),
    Setting("batch_max", int, 512, "count", "how many writes one commit may carry", 1, 100_000),
    Setting(
        "secret_key", str, None, "keys", "seals secrets: one or more keys, newest first (`holdfast key new`)",
        secret=True,
    ),
    Setting("secret_key_file", str, None, "path", "a file with what secret_key would hold; read when it is needed"),
    Setting(
        "url", str, None, "URL",
        "the service that commands are given to, as http://127.0.0.1:8760; not set: they go to the database itself",
    ),
    Setting("token", str, None, "token", "who asks, for the commands that are given to a service", secret=True),
    Setting(
        "project", str, None, "name",
        "for which project the commands ask, where the service takes that from a header (identity none)",
    ),
    Setting("patience_s", float, 30.0, "seconds", "how long a command tries a service that gives no answer", 0),
    Setting("host", str, "127.0.0.1", "address", "where `holdfast serve` listens"),
    Setting("port", int, 8760, "number", "the port that `holdfast serve` listens on; 0: one that is free", 0, 65_535),
    Setting(
        "identity", str, "none", "word",
        "how the service knows who asks: none (loopback only), tokens, keystone-proxy or oidc",
    ),
    Setting(
        "tokens_file", str, None, "path", "identity tokens: JSON, the sha256 of each token -> user, project, roles"
    ),
    Setting(
        "trusted_proxies", str, "127.0.0.1,::1", "addresses",
        "identity keystone-proxy: the peers, as addresses or networks, whose X-… headers are believed",
    ),
    Setting("oidc_issuer", str, None, "URL", "identity oidc: who signs the tokens, as their `iss` says"),
    Setting("oidc_audience", str, None, "name", "identity oidc: what the tokens' `aud` must name"),
    Setting("oidc_jwks_url", str, None, "URL", "identity oidc: where the keys are; found at the issuer if not set"),
    Setting("oidc_user_claim", str, "sub", "name", "identity oidc: the claim that names the user"),
    Setting(
        "oidc_project_claim", str, "project_id", "name",
        "identity oidc: the claim that names the project; a dot leads into an object",
    ),
    Setting(
        "oidc_roles_claim", str, "roles", "name",
        "identity oidc: the claim that lists the roles; a dot leads into an object (realm_access.roles)",
    ),
    Setting("policy_file", str, None, "path", "JSON, rule -> roles: what differs from the built-in policy"),
    Setting(
        "rate_limit", str, None, "rate", "how many requests a project may make, as 100/second; not set: as many as come"
    ),
    Setting(
        "quota_live_tasks", int, None, "count",
        "how many tasks of one project may be unended at once; not set: as many as come", 1,
    ),
    Setting(
        "quota_queue_length", int, None, "count",
        "how many tasks may wait for one resource; not set: as many as come", 1,
    ),
    Setting("body_bytes_max", int, 2 << 20, "bytes", "how large a request's body may be", 1024, 1 << 30),
    Setting("header_bytes_max", int, 32_768, "bytes", "how large a request's line and headers may be", 1024, 1 << 20),
    Setting("connections_max", int, 12_000, "count", "how many connections the service keeps at once", 1, 1_000_000),
    Setting(
        "request_timeout_s", float, 10.0, "seconds",
        "how long a client may take to send a request, and a connection may lie idle", 0.1, 3_600,
    ),
    Setting("wait_s_max", float, 60.0, "seconds", "how long a request may wait for its task (?wait=, Prefer: wait)"),
    Setting("stop_s", float, 4.0, "seconds", "how long `holdfast serve` takes to stop at most, streams and all", 0.1),
    Setting(
        "sync_interval_s", float, 60.0, "seconds",
        "how often resources are looked at whether they still are as applied; 0: never", 0, 86_400 * 30,
    ),
    Setting("server_dir", str, "holdfast-servers", "path", "where the servers of the driver `process` are kept"),
    Setting("server_boot_s", float, 30.0, "seconds", "how long a server may take to come up", 0.1, 86_400),
    Setting("server_stop_s", float, 60.0, "seconds", "how long a server may take to shut down when asked", 0.1, 86_400),
    Setting(
        "server_faults", int, 0, "0 or 1", "1: a server's metadata may ask for faults, for tests and demonstrations",
        0, 1,
    ),
    Setting(
        "node_calls_max", int, 50, "count", "how many calls to BMCs run at once; each BMC is called once at a time",
        1, 10_000,
    ),
    Setting("node_call_s", float, 20.0, "seconds", "how long one call to a BMC may take", 0.1, 3_600),
    Setting(
        "node_timeout_s", float, 300.0, "seconds",
        "how long a machine may take for what it is told, where the request doesn't say", 0.1, 86_400,
    ),
    Setting(
        "node_poll_s", float, 1.0, "seconds",
        "how often a machine is looked at that was told something; more seldom the longer it takes", 0.01, 3_600,
    ),
    Setting(
        "node_settle_s", float, 15.0, "seconds",
        "for how long a machine may still go off after its soft power off was taken back, to be put on again", 0, 3_600,
    ),
    Setting("access_log", str, "off", "word", "off, or on: a line for each request to the logger holdfast.access"),
    Setting("log_format", str, "text", "word", "how `serve` and `worker` write their logs to stderr: text, or json"),
    Setting(
        "otel_endpoint", str, None, "URL",
        "where traces go, by OTLP over HTTP, as http://127.0.0.1:4318; not set: as OTEL_* variables say, else nowhere",
    ),
)  # fmt: skip

_BY_NAME: Final = {setting.name: setting for setting in TABLE}


class Settings:
    """The settings of one Holdfast; an attribute each. Not to be changed: `with_changes` makes another."""

    database: str
    pool: str
    lease_s: float
    heartbeat_s: float
    deaths_max: int
    grace_s: float
    value_bytes_max: int
    retention_s: float
    feed_retention_s: float
    webhook_networks: str | None
    webhook_timeout_s: float
    webhook_give_up_s: float
    workers_max: int
    progress_interval_s: float
    poll_s: float
    busy_timeout_s: float
    database_timeout_s: float
    batch_max: int
    secret_key: str | None
    secret_key_file: str | None
    url: str | None
    token: str | None
    project: str | None
    patience_s: float
    host: str
    port: int
    identity: str
    tokens_file: str | None
    trusted_proxies: str
    oidc_issuer: str | None
    oidc_audience: str | None
    oidc_jwks_url: str | None
    oidc_user_claim: str
    oidc_project_claim: str
    oidc_roles_claim: str
    policy_file: str | None
    rate_limit: str | None
    quota_live_tasks: int | None
    quota_queue_length: int | None
    body_bytes_max: int
    header_bytes_max: int
    connections_max: int
    request_timeout_s: float
    wait_s_max: float
    stop_s: float
    sync_interval_s: float
    server_dir: str
    server_boot_s: float
    server_stop_s: float
    server_faults: int
    node_calls_max: int
    node_call_s: float
    node_timeout_s: float
    node_poll_s: float
    node_settle_s: float
    access_log: str
    log_format: str
    otel_endpoint: str | None

    __slots__ = tuple(_BY_NAME)

    def __init__(self, **values: Any) -> None:
        for setting in TABLE:
            value = values.pop(setting.name, None)
            object.__setattr__(
                self, setting.name, setting.default if value is None else _checked(setting, value, setting.name)
            )
        for name in values:
            raise SettingInvalid(_unknown(name))
        if self.heartbeat_s is None:
            object.__setattr__(self, "heartbeat_s", self.lease_s / 3)
        if self.heartbeat_s > self.lease_s / 2:
            raise SettingInvalid(
                f"heartbeat_s is {self.heartbeat_s:g} and lease_s {self.lease_s:g}: a worker that misses one heartbeat "
                "would lose its tasks; make heartbeat_s at most half of lease_s"
            )

    @classmethod
    def load(cls, env: Mapping[str, str] | None = None, **given: Any) -> Settings:
        """The settings of the environment (the process's, if `env` is None), under those that are `given`; one given
        as None counts as not given.

        Raises: SettingInvalid: one sentence that names the setting or the variable, and what it takes.
        """
        if env is None:
            import os

            env = os.environ
        values = {name: value for name, value in given.items() if value is not None}
        for setting in TABLE:
            text = env.get(setting.variable)
            if text is not None and text.strip() and setting.name not in values:
                values[setting.name] = _parsed(setting, text.strip())
        return cls(**values)

    def with_changes(self, **changes: Any) -> Settings:
        """The same settings but for some. A derived one stays as it is."""
        return Settings(**{name: changes.pop(name, getattr(self, name)) for name in _BY_NAME}, **changes)

    def read_keys(self) -> str | None:
        """The keys that seal secrets, as `Sealer` wants them; None: there are none.

        Raises: SettingInvalid: secret_key_file can't be read.
        """
        if self.secret_key is not None or self.secret_key_file is None:
            return self.secret_key
        try:
            with open(self.secret_key_file, encoding="ascii") as file:
                return file.read()
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "it isn't text"
            raise SettingInvalid(f"secret_key_file {self.secret_key_file} can't be read: {why}") from None

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"settings don't change; with_changes({name}=…) makes others")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Settings):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in _BY_NAME)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = (
            f"{setting.name}={'***' if setting.secret else repr(value)}"
            for setting in TABLE
            if (value := getattr(self, setting.name)) != setting.default
        )
        return f"Settings({', '.join(shown)})"


def unknown_variables(env: Mapping[str, str]) -> list[str]:
    """The variables that look like a setting of Holdfast's and are none: probably misspelt. For `holdfast doctor`."""
    known = {setting.variable for setting in TABLE}
    return sorted(name for name in env if name.startswith("HOLDFAST_") and name not in known)


def _parsed(setting: Setting, text: str) -> int | float | str:
    try:
        value = setting.kind(text)
    except ValueError:
        raise SettingInvalid(_invalid(setting, text, setting.variable)) from None
    return _checked(setting, value, setting.variable)


def _checked(setting: Setting, value: Any, called: str) -> int | float | str:
    if setting.kind is float and type(value) is int:
        value = float(value)
    if type(value) is not setting.kind:
        raise SettingInvalid(_invalid(setting, value, called))
    if isinstance(value, str):
        if not value.strip():
            raise SettingInvalid(f"{called} is empty: leave it out or give it a {setting.unit}")
        return value
    number: int | float = value
    if not setting.least <= number <= setting.most or number == float("inf"):
        raise SettingInvalid(_invalid(setting, value, called))
    return number


def _invalid(setting: Setting, value: object, called: str) -> str:
    if setting.kind is str:
        wants = "text"
    else:
        wants = f"a {'whole ' if setting.kind is int else ''}number of at least {setting.least:g}"
        if setting.most != float("inf"):
            wants += f" and at most {setting.most:g}"
        wants += f" ({setting.unit})"
    return f"{called} is {'***' if setting.secret else repr(value)}, but has to be {wants}"


def _unknown(name: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, _BY_NAME, 1)
    return f"there is no setting {name}" + (f"; did you mean {near[0]}?" if near else "")
