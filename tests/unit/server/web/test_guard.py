"""Which Host headers are ours."""

import pytest

from server.web.guard import is_ours

NAMES = {"ota.example.org", "localhost", "::1"}


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:8080",
        "127.0.0.1:8080",
        "[::1]",
        "[::1]:8080",
        "192.0.2.7:80",
        "ota.example.org",
        "OTA.example.org.:443",
    ],
)
def test_addresses_localhost_and_names_of_the_certificate_are_ours(host: str) -> None:
    assert is_ours(host, NAMES)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "evil.example:8080",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "ota.example.org.evil.example",
        "localhost@evil.example",
        "evil.example/localhost",
        "localhost evil.example",
        "[::1].evil.example",
        "[localhost]",
        "127.0.0.1:8080:9",
        "127.0.0.1:999999",
        "127.0.0.1\r\nX: y",
        "0x7f.1",
        "a" * 10_000,
    ],
)
def test_every_other_name_is_not(host: str) -> None:
    assert not is_ours(host, NAMES)
