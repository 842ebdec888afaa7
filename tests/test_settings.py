"""Settings: one table, one sentence for each mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.errors import SettingInvalid
from holdfast.settings import TABLE, Settings, unknown_variables


def test_the_table_and_the_attributes_are_the_same() -> None:
    settings = Settings()
    assert list(Settings.__annotations__) == [setting.name for setting in TABLE] == list(Settings.__slots__)
    for setting in TABLE:
        assert setting.help
        assert setting.unit
        if setting.default is not None:
            assert type(setting.default) is setting.kind
            assert getattr(settings, setting.name) == setting.default


def test_an_argument_wins_over_the_environment_and_that_over_the_default() -> None:
    env = {"HOLDFAST_LEASE_S": " 60 ", "HOLDFAST_DEATHS_MAX": "5", "HOLDFAST_POOL": "", "HOME": "/root"}
    settings = Settings.load(env, lease_s=30, grace_s=None)
    assert (settings.lease_s, settings.deaths_max, settings.grace_s, settings.pool) == (30.0, 5, 5.0, "default")


def test_the_heartbeat_follows_the_lease_unless_it_is_set() -> None:
    assert Settings().heartbeat_s == 5
    assert Settings(lease_s=3).heartbeat_s == 1
    assert Settings(lease_s=3, heartbeat_s=1.5).heartbeat_s == 1.5
    with pytest.raises(SettingInvalid, match="at most half of lease_s"):
        Settings(lease_s=3, heartbeat_s=2)


@pytest.mark.parametrize(
    ("env", "says"),
    [
        (
            {"HOLDFAST_LEASE_S": "soon"},
            r"^HOLDFAST_LEASE_S is 'soon', .* a number of at least 0\.1 and at most 86400 \(seconds\)$",
        ),
        ({"HOLDFAST_LEASE_S": "nan"}, "HOLDFAST_LEASE_S is nan"),
        ({"HOLDFAST_GRACE_S": "inf"}, "HOLDFAST_GRACE_S is inf"),
        ({"HOLDFAST_DEATHS_MAX": "2.5"}, "whole number of at least 1"),
        ({"HOLDFAST_DEATHS_MAX": "0"}, "whole number of at least 1"),
        ({"HOLDFAST_GRACE_S": "-1"}, "at least 0"),
    ],
)
def test_a_bad_variable_is_named(env: dict[str, str], says: str) -> None:
    with pytest.raises(SettingInvalid, match=says):
        Settings.load(env)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"lease": 3}, "there is no setting lease; did you mean lease_s"),
        ({"zzz": 3}, "there is no setting zzz$"),
        ({"deaths_max": True}, "deaths_max is True"),
        ({"deaths_max": "3"}, "deaths_max is '3'"),
        ({"pool": " "}, "pool is empty"),
        ({"pool": 3}, "pool is 3, but has to be text"),
    ],
)
def test_a_bad_argument_is_named(given: dict[str, object], says: str) -> None:
    with pytest.raises(SettingInvalid, match=says):
        Settings.load({}, **given)


def test_settings_do_not_change() -> None:
    settings = Settings()
    with pytest.raises(AttributeError, match="with_changes"):
        settings.lease_s = 3
    changed = settings.with_changes(grace_s=1)
    assert (changed.grace_s, settings.grace_s, changed.lease_s) == (1.0, 5.0, 15.0)
    assert changed == Settings(grace_s=1) != settings


def test_a_key_is_never_shown_and_a_key_file_is_read_late(tmp_path: Path) -> None:
    assert "hunter2" not in repr(Settings(secret_key="hunter2"))
    with pytest.raises(SettingInvalid) as refused:
        Settings(secret_key=b"hunter2")
    assert "hunter2" not in str(refused.value)

    file = tmp_path / "key"
    settings = Settings(secret_key_file=str(file))
    with pytest.raises(SettingInvalid, match="can't be read: No such file"):
        settings.read_keys()
    file.write_text("new\nold\n")
    assert settings.read_keys() == "new\nold\n"
    assert Settings(secret_key="k", secret_key_file=str(file)).read_keys() == "k"
    assert Settings().read_keys() is None


def test_misspelt_variables_are_found() -> None:
    assert unknown_variables({"HOLDFAST_LEASE": "3", "HOLDFAST_LEASE_S": "3", "PATH": ""}) == ["HOLDFAST_LEASE"]
