"""`ota-edge` as a person runs it: its own process, its exit code, its two streams."""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from diffcodec import available_coders
from edge_client import EdgeHome
from tests.unit.edge_client import transducer_models
from tests.unit.edge_client.fake_server import FakeServer
from tests.unit.edge_client.models import (
    CARD,
    full_diff,
    generation,
    snapshot,
    weights,
    write_recording,
)

ROOT = Path(__file__).parents[3]
PROGRAM = [sys.executable, "-c", "from edge_client.cli import main; main()"]


def ota_edge(
    *arguments: str | Path, expect: int = 0, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*PROGRAM, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == expect, done.stderr
    assert "Traceback" not in done.stderr
    return done


def error_of(*arguments: str | Path) -> str:
    """The one line that a failing command prints."""
    done = ota_edge(*arguments, expect=1)
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return write_recording(tmp_path / "yes.wav")


def test_the_whole_story(tmp_path: Path, server: FakeServer, recording: Path) -> None:
    home = tmp_path / "home"
    enrolled = ota_edge(
        "enroll", "--home", home, "--server", server.address, "--ca", server.ca_file(tmp_path),
        "--model", "digits", "--name", "k",
    )  # fmt: skip
    assert "device-1" in enrolled.stdout
    assert "updated from nothing to generation 0" in ota_edge("update", "--home", home).stdout
    assert "up to date: generation 0" in ota_edge("update", "--home", home).stdout

    server.publish_next()
    updated = ota_edge("update", "--home", home)
    assert "updated from generation 0 to generation 1" in updated.stdout
    assert generation(1).digest().hex() in updated.stdout
    assert updated.stderr == ""

    heard = ota_edge("infer", "--home", home, recording)
    path, phrase, distance = heard.stdout.rstrip("\n").split("\t")
    assert path == str(recording)
    assert phrase.encode() in CARD
    assert 0 <= float(distance) <= 2
    assert heard.stderr == ""


def test_update_as_json_tells_what_it_cost(home: EdgeHome, server: FakeServer) -> None:
    first = json.loads(ota_edge("update", "--home", home.path, "--json").stdout)
    assert (first["from_generation"], first["generation"], first["head"]) == (None, 0, 0)
    assert first["digest"] == generation(0).digest().hex()
    assert first["is_changed"]
    assert first["steps"] == [
        {"generation": 0, "diff_bytes": first["diff_bytes"], "is_snapshot": True}
    ]
    assert first["bytes_received"] > first["downloaded_bytes"] > first["diff_bytes"] > 0
    assert first["bytes_sent"] > 0
    assert first["apply_s"] > 0
    assert first["peak_rss_bytes"] >= first["apply_peak_rss_bytes"] > 10_000_000

    again = json.loads(ota_edge("update", "--home", home.path, "--json").stdout)
    assert (again["from_generation"], again["generation"], again["steps"]) == (0, 0, [])
    assert not again["is_changed"]
    assert again["diff_bytes"] == again["downloaded_bytes"] == 0


def test_peak_memory_is_the_devices_and_not_its_parents(home: EdgeHome) -> None:
    """getrusage would inherit the peak of the process that starts the device."""
    parent = "import subprocess, sys; ballast = bytearray(600_000_000); ballast[::4096] = b'x' * "
    parent += "len(ballast[::4096]); subprocess.run(sys.argv[1:], check=True)"
    command = [sys.executable, "-c", parent, *PROGRAM, "update", "--home", str(home.path), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, cwd=ROOT)
    assert json.loads(done.stdout)["peak_rss_bytes"] < 500_000_000


def test_status_before_and_after_the_first_update(home: EdgeHome, server: FakeServer) -> None:
    shown = ota_edge("status", "--home", home.path).stdout
    assert "generation     none" in shown
    assert f"coders         {', '.join(sorted(available_coders()))}" in shown
    before = json.loads(ota_edge("status", "--home", home.path, "--json").stdout)
    assert (before["generation"], before["digest"], before["slot"]) == (None, None, None)
    assert (before["model"], before["server"]) == ("digits", str(server.address))
    assert (before["metadata"], before["generation_floor"]) == (None, None)
    ota_edge("update", "--home", home.path)
    after = json.loads(ota_edge("status", "--home", home.path, "--json").stdout)
    assert (after["generation"], after["digest"]) == (0, generation(0).digest().hex())
    assert (after["metadata"], after["generation_floor"]) == ("FRESH", 0)
    assert after["weights_bytes"] == generation(0).layout.file_bytes
    slot = home.slots.active()
    assert [after[key] for key in ("weights", "graph", "card")] == [
        str(slot.weights),
        str(slot.graph),
        str(slot.card),
    ]


def test_without_a_model_the_device_follows_the_servers_only_one(tmp_path: Path) -> None:
    with FakeServer() as server:
        fleet = ("--ca", server.ca_file(tmp_path))
        ota_edge("enroll", "--home", tmp_path / "h", "--server", server.address, *fleet)
    status = json.loads(ota_edge("status", "--home", tmp_path / "h", "--json").stdout)
    assert status["model"] == "digits"


def test_a_model_without_a_card_is_for_another_program(tmp_path: Path, recording: Path) -> None:
    home = tmp_path / "other"
    with FakeServer() as server:
        server.publish(generation(0), snapshot(generation(0)), base=None, card=None)
        fleet = ("--ca", server.ca_file(tmp_path))
        ota_edge("enroll", "--home", home, "--server", server.address, *fleet, "--model", "mine")
        assert "to generation 0" in ota_edge("update", "--home", home).stdout
    status = json.loads(ota_edge("status", "--home", home, "--json").stdout)
    assert (Path(status["graph"]).name, status["card"]) == ("model.onnx", None)
    message = error_of("infer", "--home", home, recording)
    assert "found no card" in message
    assert "ota-edge status --json" in message


@pytest.mark.parametrize("command", [["status"], ["update"], ["infer", "seven.wav"]])
def test_before_enrolment_one_line_says_what_to_run(tmp_path: Path, command: list[str]) -> None:
    message = error_of(*command, "--home", tmp_path / "none")
    assert "is not enrolled; run: ota-edge enroll" in message
    assert not (tmp_path / "none").exists()


def test_inference_before_the_first_update_says_what_to_run(
    home: EdgeHome, recording: Path
) -> None:
    message = error_of("infer", "--home", home.path, recording)
    assert "holds no generation yet; run: ota-edge update" in message


def test_enrolling_again_alike_succeeds_and_otherwise_is_refused(
    home: EdgeHome, server: FakeServer
) -> None:
    alike = ("enroll", "--home", home.path, "--server", server.address, "--model")
    assert "device-1" in ota_edge(*alike, "digits").stdout
    assert "follows 'digits'" in error_of(*alike, "letters")
    assert len(server.devices) == 1


def test_enrolment_without_the_fleets_file_says_what_to_give(tmp_path: Path) -> None:
    place = ("--home", tmp_path / "h", "--server", "example.org:443")
    assert "--ca FILE" in error_of("enroll", *place)
    assert not (tmp_path / "h").exists()
    (tmp_path / "ca.pem").write_text("no certificate")
    message = error_of("enroll", *place, "--ca", tmp_path / "ca.pem")
    assert "ca.pem: expected two certificates and a private key" in message
    assert not (tmp_path / "h").exists()


def test_no_server_is_one_line(home: EdgeHome, server: FakeServer) -> None:
    server.__exit__(None, None, None)
    assert f"no server answers at {server.address}" in error_of("update", "--home", home.path)


def test_a_second_process_is_locked_out_in_one_line(home: EdgeHome) -> None:
    with home.locked():
        assert "another ota-edge process" in error_of("update", "--home", home.path)


def test_a_corrupted_diff_is_refused_and_the_old_model_still_answers(
    home: EdgeHome, server: FakeServer, recording: Path
) -> None:
    ota_edge("update", "--home", home.path)
    before = ota_edge("infer", "--home", home.path, recording).stdout
    server.publish_next()
    bad = bytearray(server.blobs[server.routes[0][0][1]])
    bad[-1] ^= 1
    server.routes[0] = [(1, server.add(bytes(bad)))]
    assert "the diff to generation 1: " in error_of("update", "--home", home.path)
    assert ota_edge("infer", "--home", home.path, recording).stdout == before


def test_a_diff_for_other_weights_is_refused_with_both_digests(
    home: EdgeHome, server: FakeServer
) -> None:
    ota_edge("update", "--home", home.path)
    server.publish(generation(1), full_diff(weights(5), generation(1)), base=0)
    message = error_of("update", "--home", home.path)
    assert weights(5).digest().hex() in message
    assert generation(0).digest().hex() in message
    assert server.outcomes()[-1] == ("FAILED", "WRONG_BASE")


def test_unreadable_recordings_are_named_and_the_others_answered(
    home: EdgeHome, recording: Path, tmp_path: Path
) -> None:
    ota_edge("update", "--home", home.path)
    empty, missing = tmp_path / "empty.wav", tmp_path / "missing.wav"
    empty.write_bytes(b"")
    done = ota_edge("infer", "--home", home.path, empty, recording, missing, expect=1)
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == [str(recording)]
    assert [line.split(": ")[:2] for line in done.stderr.splitlines()] == [
        ["error", str(empty)],
        ["error", str(missing)],
    ]


def test_inference_as_json_answers_a_list_from_stdin(
    home: EdgeHome, recording: Path, tmp_path: Path
) -> None:
    ota_edge("update", "--home", home.path)
    other = write_recording(tmp_path / "with space.wav", seed=1)
    listed = f"{recording}\n\n{other}\n{tmp_path}\n"
    done = ota_edge(
        "infer", "--home", home.path, "--files-from", "-", "--json", stdin=listed, expect=1
    )
    content = json.loads(done.stdout)
    assert [result["path"] for result in content["results"]] == [
        str(recording),
        str(other),
        str(tmp_path),
    ]
    assert [set(result) for result in content["results"]] == [
        {"path", "text", "phrase", "distance", "audio_s", "infer_s"},
        {"path", "text", "phrase", "distance", "audio_s", "infer_s"},
        {"path", "error"},
    ]
    assert content["generation"] == 0
    assert content["digest"] == generation(0).digest().hex()
    assert content["load_s"] > 0
    assert content["audio_s"] == 1.0
    assert content["infer_s"] > 0
    assert content["real_time_factor"] == content["infer_s"] / content["audio_s"]
    assert content["peak_rss_bytes"] > 10_000_000


def test_a_list_in_a_file_is_read(home: EdgeHome, recording: Path, tmp_path: Path) -> None:
    ota_edge("update", "--home", home.path)
    (tmp_path / "list").write_text(f"{recording}\n")
    done = ota_edge("infer", "--home", home.path, "--files-from", tmp_path / "list")
    assert done.stdout.startswith(f"{recording}\t")


@pytest.mark.parametrize(
    ("content", "found"),
    [(None, "No such file"), (b"caf\xe9.wav\n", "0xe9 at 3"), ("folder", "Is a directory")],
)
def test_a_list_that_cannot_be_read_is_named(
    home: EdgeHome, tmp_path: Path, content: bytes | str | None, found: str
) -> None:
    listing = tmp_path / "listing"
    if content == "folder":
        listing.mkdir()
    elif content is not None:
        listing.write_bytes(content)
    message = error_of("infer", "--home", home.path, "--files-from", listing)
    assert message.startswith(f"error: {listing}: expected a list of paths")
    assert found in message
    assert "Errno" not in message


def test_wrong_usage_is_exit_code_2(tmp_path: Path) -> None:
    ota_edge("infer", "--home", tmp_path, expect=2)
    ota_edge("update", expect=2)
    ota_edge("update", "--home", tmp_path, "--nonsense", expect=2)


@pytest.mark.parametrize("command", ["enroll", "update", "status", "infer"])
def test_help_shows_an_example(command: str) -> None:
    assert f"Example: ota-edge {command}" in " ".join(ota_edge(command, "--help").stdout.split())


@pytest.fixture
def dictation(tmp_path: Path) -> Path:
    """The home of a device with a transducer."""
    home = tmp_path / "dictation"
    content = transducer_models.weights(0)
    graph, card = transducer_models.MODEL.read_bytes(), transducer_models.CARD.to_json().encode()
    with FakeServer() as server:
        server.publish(content, snapshot(content), base=None, graph=graph, card=card)
        fleet = ("--ca", server.ca_file(tmp_path))
        ota_edge("enroll", "--home", home, "--server", server.address, *fleet)
        ota_edge("update", "--home", home)
    return home


def test_a_sentence_is_printed_with_its_log_probability(dictation: Path, recording: Path) -> None:
    path, text, score = (
        ota_edge("infer", "--home", dictation, recording).stdout.rstrip("\n").split("\t")
    )
    assert path == str(recording)
    assert set(text.split()) <= {"light", "lights", "the", "a", "on", "o", "off"}
    assert float(score) < 0


def test_a_sentence_as_json_has_a_text_and_no_phrase(dictation: Path, recording: Path) -> None:
    content = json.loads(ota_edge("infer", "--home", dictation, "--json", recording).stdout)
    (result,) = content["results"]
    assert set(result) == {"path", "text", "log_probability", "audio_s", "infer_s"}
    assert content["real_time_factor"] > 0


def test_the_width_of_the_beam_can_be_chosen(dictation: Path, recording: Path) -> None:
    found = {
        width: ota_edge("infer", "--home", dictation, "--beam", width, recording).stdout
        for width in ("1", "16")
    }
    assert found["16"] == ota_edge("infer", "--home", dictation, recording).stdout
    assert found["1"] != found["16"]
    ota_edge("infer", "--home", dictation, "--beam", "0", recording, expect=2)


def test_the_text_so_far_is_printed_while_it_grows(dictation: Path, recording: Path) -> None:
    *partial, final = ota_edge(
        "infer", "--home", dictation, "--partial", recording
    ).stdout.splitlines()
    assert [final] == ota_edge("infer", "--home", dictation, recording).stdout.splitlines()
    assert partial
    texts = [line.split("\t")[1] for line in partial]
    assert all(text.endswith(" ...") for text in texts)
    assert all(before != after for before, after in pairwise(texts))
    ota_edge("infer", "--home", dictation, "--partial", "--json", recording, expect=2)
