"""Settings: one reader, all problems at once, no secret on a screen."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from harkline.errors import SettingsError
from harkline.settings import Settings, load_settings, settings_table, unknown_settings

ROOT = Path(__file__).resolve().parents[2]


def test_all_problems_are_told_at_once_and_no_value_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two wrong variables give two sentences that name them, without the (maybe secret) values."""
    monkeypatch.setenv("HARKLINE_API_PORT", "seventy-thousand")
    monkeypatch.setenv("HARKLINE_REDIS_URL", "http://hunter2@nowhere")
    with pytest.raises(SettingsError) as raised:
        load_settings()
    assert len(raised.value.problems) == 2
    assert "HARKLINE_API_PORT" in str(raised.value)
    assert "HARKLINE_REDIS_URL" in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_a_typing_mistake_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that sets nothing is named with the setting that was probably meant."""
    monkeypatch.setenv("HARKLINE_API_PROT", "5001")
    assert any("HARKLINE_API_PROT" in said and "HARKLINE_API_PORT" in said for said in unknown_settings())


def test_secrets_are_starred_where_settings_are_shown() -> None:
    """Boot logs and screens show that a secret is set, never what it is."""
    settings = Settings(
        redis_url=SecretStr("redis://:hunter2@127.0.0.1:1/0"),
        api_keys=SecretStr("hunter2"),
        flower_auth=SecretStr("a:hunter2"),
        smtp_password=SecretStr("hunter2"),
    )
    assert "hunter2" not in str(settings.shown())
    assert "hunter2" not in repr(settings)


def test_a_child_process_gets_the_same_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """environment() carries every setting that differs from its default, secrets included, and reads back equal."""
    settings = Settings(api_port=5999, api_keys=SecretStr("k1,k2"), data_dir=tmp_path, join_traces=True)
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings


def test_the_readme_shows_the_settings_that_exist() -> None:
    """The table in the README is the generated one: `harkline settings --markdown`."""
    assert settings_table() in (ROOT / "README.md").read_text()
