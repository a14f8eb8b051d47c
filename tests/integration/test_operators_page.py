"""The operator's page as HTTP: what is answered, and to whom."""

import json
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest

from server.clock import utc_now
from server.home import ServerHome
from tests import fleet
from tests.integration.served_home import home_with
from tests.integration.served_page import COMMAND, ROOT, TIMEOUT_S, ServedPage, served_page
from tests.integration.server_process import check_in
from tests.made_up_fleet import fill

NAME = "ota.example.org"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home") / "srv"
    ServerHome.create(folder, names=[NAME]).close()
    opened = home_with(folder, generations=12)
    fill(opened.registry, 40, utc_now())
    opened.close()
    return folder


@pytest.fixture(scope="module")
def page(home: Path) -> Iterator[ServedPage]:
    with served_page(home) as served:
        yield served


def ask(page: ServedPage, path: str, method: str = "GET", **headers: str) -> HTTPResponse:
    connection = HTTPConnection("127.0.0.1", page.port, timeout=TIMEOUT_S)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    answer.text = answer.read().decode()  # type: ignore[attr-defined]
    connection.close()
    return answer


def talk(page: ServedPage, text: bytes) -> bytes:
    """Say whatever, and read until it is over."""
    with socket.create_connection(("127.0.0.1", page.port), timeout=TIMEOUT_S) as connection:
        connection.sendall(text)
        answer = b""
        while more := connection.recv(65_536):
            answer += more
    return answer


def test_page_command_and_json_say_the_same(page: ServedPage, home: Path) -> None:
    answered = json.loads(ask(page, "/api/status.json").text)
    command = [*COMMAND, "status", str(home), "--json"]
    printed = json.loads(subprocess.check_output(command, cwd=ROOT, timeout=TIMEOUT_S))
    for overview in (answered, printed):
        assert datetime.fromisoformat(overview.pop("at")).utcoffset() is not None
        overview.pop("failures_since")
        # The server that runs takes rollouts on meanwhile, and what is left of times goes by.
        for key in ("rollouts", "notices", "signing", "audit"):
            assert overview.pop(key)
    assert printed.pop("artifacts")["files"] > 0  # to list the store is too much for a page
    assert answered == printed
    assert answered["fleet"]["devices"] == 40


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", ["/", "/api/status.json"])
def test_nothing_but_reading_is_answered(page: ServedPage, method: str, path: str) -> None:
    answer = ask(page, path, method)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


def test_head_is_get_without_a_body(page: ServedPage) -> None:
    head, get = (ask(page, "/static/page.css", method) for method in ("HEAD", "GET"))
    assert (head.status, head.text) == (200, "")
    assert head.headers["Content-Length"] == get.headers["Content-Length"] == str(len(get.text))


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "[::1]:9", f"{NAME}:443"])
def test_names_of_this_server_are_answered(page: ServedPage, host: str) -> None:
    assert ask(page, "/", Host=host).status == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", f"{NAME}.evil", ""])
@pytest.mark.parametrize("path", ["/", "/api/status.json", "/static/page.js", "/nowhere"])
def test_a_name_that_leads_here_and_is_not_ours_reads_nothing(
    page: ServedPage, host: str, path: str
) -> None:
    answer = ask(page, path, Host=host)
    assert answer.status == 421
    assert answer.text.startswith("error: expected a name of this server")
    assert "digits" not in answer.text
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"


def test_no_host_and_two_hosts_read_nothing(page: ServedPage) -> None:
    for hosts in (b"", b"Host: localhost\r\nHost: evil.example\r\n"):
        answer = talk(page, b"GET / HTTP/1.1\r\n" + hosts + b"Connection: close\r\n\r\n")
        assert answer.split()[1] in (b"400", b"421")
        assert b"digits" not in answer


@pytest.mark.parametrize("path", ["/", "/api/status.json", "/static/page.js", "/nowhere"])
@pytest.mark.parametrize("host", ["localhost", "evil.example"])
def test_every_answer_tells_the_browser_what_it_may_do(
    page: ServedPage, path: str, host: str
) -> None:
    headers = ask(page, path, Host=host).headers
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "*" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Cache-Control"] in ("no-store", "no-cache")
    assert headers["Server"] == "ota-server"
    assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize(
    "path",
    [
        "/nowhere",
        "/static/",
        "/static/site.py",
        "/static/../site.py",
        "/static/%2e%2e/site.py",
        "/static/..%2fsite.py",
        "//etc/passwd",
        "/api/",
    ],
)
def test_nothing_else_is_there(page: ServedPage, path: str) -> None:
    answer = ask(page, path)
    assert (answer.status, answer.text) == (404, "error: Not Found\n")


@pytest.mark.parametrize(
    "query", ["audit=" + "9" * 4000, "audit=-1&look=x", "x=<script>alert(1)</script>", "&&==%00"]
)
def test_an_odd_query_is_the_beginning_of_every_list(page: ServedPage, query: str) -> None:
    answer = ask(page, f"/?{query}".replace("<", "%3C"))
    assert answer.status == 200
    assert "page 1 of" in answer.text
    assert "alert(1)" not in answer.text


def test_what_is_no_http_harms_nobody(page: ServedPage) -> None:
    for noise in (b"\x16\x03\x01\x02\x00" * 40, b"GET / HTTP/9.9\r\n\r\n", b"G" * 70_000):
        assert talk(page, noise + b"\r\n\r\n").startswith(b"HTTP/1.")
    assert ask(page, "/").status == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_page_and_server_together(home: Path, number: signal.Signals) -> None:
    opened = ServerHome.open(home)
    device = fleet.enrolled(opened, model="digits")[1]
    opened.close()
    with served_page(home) as served:
        assert check_in(served.grpc_address, device).head == 11
        # A browser keeps its connection open.
        idle = HTTPConnection("127.0.0.1", served.port, timeout=TIMEOUT_S)
        idle.request("GET", "/")
        assert idle.getresponse().read()
        began = time.monotonic()
        served.process.send_signal(number)
        _, stderr = served.process.communicate(timeout=TIMEOUT_S)
        assert served.process.returncode == 0
        assert time.monotonic() - began < 30
        assert "Traceback" not in stderr
        idle.close()


def test_without_the_option_there_is_no_page_and_nothing_of_it_is_loaded() -> None:
    probe = "import server.cli, sys; print({'aiohttp', 'jinja2'} & set(sys.modules))"
    command = [COMMAND[0], "-c", probe]
    assert subprocess.check_output(command, cwd=ROOT, text=True, timeout=TIMEOUT_S) == "set()\n"


@pytest.mark.parametrize(
    ("listen", "message"),
    [
        ("TAKEN", "error: cannot listen on 127.0.0.1:"),
        ("203.0.113.1:0", "error: cannot listen on 203.0.113.1:0"),
        ("nonsense", "error: expected an address HOST:PORT"),
        ("99999", "error: expected an address HOST:PORT"),
    ],
)
def test_where_no_page_can_be_nothing_is_served(
    page: ServedPage, home: Path, listen: str, message: str
) -> None:
    listen = str(page.port) if listen == "TAKEN" else listen
    ended = subprocess.run(
        [*COMMAND, "serve", str(home), "--listen", "127.0.0.1:0", "--page", listen],
        cwd=ROOT,
        text=True,
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith(message)
    assert ended.stderr.count("\n") == 1


def test_a_page_for_the_network_is_warned_of(home: Path) -> None:
    with served_page(home) as served:
        served.process.terminate()
        assert "asks nobody" not in served.process.communicate(timeout=TIMEOUT_S)[1]
    command = [*COMMAND, "serve", str(home), "--listen", "127.0.0.1:0", "--page", "0.0.0.0:0"]
    process = subprocess.Popen(
        command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("listening on ")
        process.terminate()
        assert "asks nobody who they are" in process.communicate(timeout=TIMEOUT_S)[1]
    finally:
        process.kill()
