"""`ota-server` as people call it; `serve` is tested in tests/integration."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from diffcodec import ParameterSet, apply, decode, fit_sparse
from diffcodec.weights import write_weights
from server.cli import main
from server.home import ServerHome
from server.publishing import weights_of
from tests.unit.server.models import snapshot, sparse, weights
from tests.unit.server.test_graph import WEIGHTS, save_model


class Cli:
    """Runs the command line in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        """Exit status, stdout, stderr."""
        self._monkeypatch.setattr(sys, "argv", ["ota-server", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = self._capsys.readouterr()
        return int(ended.value.code or 0), out, err


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(monkeypatch, capsys)


@pytest.fixture
def srv(tmp_path: Path, cli: Cli) -> Path:
    assert cli("init", tmp_path / "srv")[0] == 0
    return tmp_path / "srv"


def weights_file(folder: Path, content: ParameterSet, name: str) -> Path:
    write_weights(folder / name, content)
    return folder / name


def published(cli: Cli, *arguments: object) -> dict[str, object]:
    status, out, err = cli("publish", *arguments, "--json")
    assert status == 0, err
    return json.loads(out)


def weights_in(srv: Path, number: int) -> ParameterSet:
    home = ServerHome.open(srv)
    try:
        return weights_of(home, "digits", number)
    finally:
        home.close()


def test_publishing_prints_generation_digest_bytes_and_ratio(
    cli: Cli, srv: Path, tmp_path: Path
) -> None:
    old = weights_file(tmp_path, weights(1), "old.safetensors")
    status, out, _ = cli("publish", srv, "--model", "digits", old)
    assert status == 0
    for part in ("generation 0 of digits", weights(1).digest().hex(), "bytes", "ratio"):
        assert part in out


def test_without_a_budget_the_generation_is_exactly_the_weights(
    cli: Cli, srv: Path, tmp_path: Path
) -> None:
    for number in (0, 1):
        file = weights_file(tmp_path, weights(number), f"{number}.safetensors")
        facts = published(cli, srv, "--model", "digits", file)
        assert (facts["generation"], facts["digest"]) == (number, weights(number).digest().hex())


def test_with_a_budget_the_update_fits_it_and_the_first_generation_is_exact(
    cli: Cli, srv: Path, tmp_path: Path
) -> None:
    for number in (0, 1):
        file = weights_file(tmp_path, weights(number), f"{number}.safetensors")
        facts = published(cli, srv, "--model", "digits", file, "--budget", "4KB")
    assert facts["bytes"] <= 4000  # type: ignore[operator]
    assert facts["ratio"] == pytest.approx(68_000 / facts["bytes"], abs=0.01)  # type: ignore[operator]
    assert weights_in(srv, 0) == weights(0)
    assert weights_in(srv, 1) != weights(1)


def test_a_finished_diff_is_published_as_it_is(cli: Cli, srv: Path, tmp_path: Path) -> None:
    old, new = weights(1), weights(2)
    (tmp_path / "first.ndiff").write_bytes(snapshot(old))
    (tmp_path / "update.ndiff").write_bytes(fit_sparse(old, new, 4000))
    published(cli, srv, "--model", "digits", tmp_path / "first.ndiff")
    facts = published(cli, srv, "--model", "digits", tmp_path / "update.ndiff")
    assert facts["bytes"] == (tmp_path / "update.ndiff").stat().st_size


def test_a_finished_diff_from_an_older_generation_needs_the_option_branch(
    cli: Cli, srv: Path, tmp_path: Path
) -> None:
    (tmp_path / "old.ndiff").write_bytes(fit_sparse(weights(0), weights(2), 4000))
    for number in (0, 1):
        file = weights_file(tmp_path, weights(number), f"{number}.safetensors")
        published(cli, srv, "--model", "digits", file)
    status, out, err = cli("publish", srv, "--model", "digits", tmp_path / "old.ndiff")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "from generation 1, the newest of model 'digits', found one from generation 0" in err
    facts = published(cli, srv, "--model", "digits", tmp_path / "old.ndiff", "--branch")
    assert facts["generation"] == 2


def test_from_adds_direct_diffs_that_skip_generations(cli: Cli, srv: Path, tmp_path: Path) -> None:
    near = apply(weights(0), decode(sparse(weights(0), 3), weights(0).layout))
    for number, content in enumerate((weights(0), weights(1), near)):
        bases = ("--from", "0", "--from", "1") if number == 2 else ()
        file = weights_file(tmp_path, content, f"{number}.safetensors")
        published(cli, srv, "--model", "digits", file, *bases)
    home = ServerHome.open(srv)
    to_head = {step.base for step in home.registry.steps("digits") if step.target == 2}
    home.close()
    assert to_head == {None, 0, 1}


def test_an_onnx_file_brings_its_graph_and_an_unchanged_graph_is_kept(
    cli: Cli, srv: Path, tmp_path: Path
) -> None:
    twice = ParameterSet.from_arrays({n: 2 * a for n, a in WEIGHTS.arrays.items()})
    for number, content in enumerate((WEIGHTS, twice)):
        save_model(tmp_path / "model.onnx", external=False, weights=content)
        facts = published(cli, srv, "--model", "digits", tmp_path / "model.onnx")
        assert (facts["generation"], facts["digest"]) == (number, content.digest().hex())
    home = ServerHome.open(srv)
    first, second = home.registry.generations("digits")
    home.close()
    assert first.graph is not None
    assert first.graph == second.graph


@pytest.mark.parametrize("finished", [False, True], ids=["safetensors", "ndiff"])
def test_a_graph_given_with_weights_inside_travels_without_them(
    cli: Cli, srv: Path, tmp_path: Path, finished: bool
) -> None:
    save_model(tmp_path / "model.onnx", external=False)
    if finished:
        file = tmp_path / "first.ndiff"
        file.write_bytes(snapshot(WEIGHTS))
    else:
        file = weights_file(tmp_path, WEIGHTS, "first.safetensors")
    published(cli, srv, "--model", "digits", file, "--graph", tmp_path / "model.onnx")
    home = ServerHome.open(srv)
    graph = home.registry.generation("digits", 0).graph
    home.close()
    assert graph is not None
    assert graph.length < 1_000


def test_status_lists_generations_bytes_and_devices(cli: Cli, srv: Path, tmp_path: Path) -> None:
    for number in (0, 1):
        file = weights_file(tmp_path, weights(number), f"{number}.safetensors")
        facts = published(cli, srv, "--model", "digits", file, "--budget", "4KB")
    [model] = json.loads(cli("status", srv, "--json")[1])["models"]
    assert (model["model"], model["head"], model["devices_without_model"]) == ("digits", 1, 0)
    [first, second] = model["generations"]
    assert (first["number"], first["parent"], first["update_bytes"]) == (0, None, None)
    assert (second["digest"], second["updates"]["fast"]) == (facts["digest"], facts["bytes"])
    assert second["update_bytes"] == min(second["updates"].values())
    assert second["snapshot_bytes"] == min(second["snapshots"].values())
    assert f"fast {facts['bytes']:,} B" in cli("status", srv)[1]
    assert "digits: head 1" in cli("status", srv)[1]


def test_status_says_what_the_store_holds_and_what_collect_would_free(
    cli: Cli, srv: Path, tmp_path: Path
) -> None:
    published(cli, srv, "--model", "digits", weights_file(tmp_path, weights(0), "a.safetensors"))
    stored = [path for path in (srv / "artifacts").glob("*/*") if path.is_file()]
    total = sum(path.stat().st_size for path in stored)
    assert json.loads(cli("status", srv, "--json")[1])["artifacts"] == {
        "files": len(stored),
        "bytes": total,
        "collectable_files": 0,
        "collectable_bytes": 0,
    }
    line = f"artifacts: {len(stored)} files, {total:,} B; `collect` would free 0 B"
    assert line in cli("status", srv)[1]


def test_collect_shows_what_it_would_delete_and_why_then_deletes_it(
    cli: Cli, srv: Path, tmp_path: Path
) -> None:
    for number in (0, 1):
        file = weights_file(tmp_path, weights(number), f"{number}.safetensors")
        published(cli, srv, "--model", "digits", file)
    assert json.loads(cli("collect", srv, "--json")[1])["files"] == []  # all of it is new
    options = (srv, "--older-than", "0", "--keep", "1")
    status, out, _ = cli("collect", *options, "--dry-run")
    assert status == 0
    assert "digits: snapshot of 0: on no device's way" in out
    assert "would be deleted: 2 files" in out
    facts = json.loads(cli("collect", *options, "--json")[1])
    assert [one["what"] for one in facts["files"]].count("digits: snapshot of 0") == 1
    assert "deleted: 0 files, 0 B" in cli("collect", *options)[1]
    [model] = json.loads(cli("status", srv, "--json")[1])["models"]
    assert [one["snapshot_bytes"] is None for one in model["generations"]] == [True, False]
    assert "artifacts.collect" in cli("audit", srv)[1]


@pytest.mark.parametrize("option", ["--older-than", "--history-older-than"])
def test_an_age_that_is_none_is_wrong_usage(cli: Cli, srv: Path, option: str) -> None:
    status, _, err = cli("collect", srv, option, "soon")
    assert status == 2
    assert "expected a duration" in err


def test_status_of_an_empty_home_says_so(cli: Cli, srv: Path) -> None:
    assert cli("status", srv)[:2] == (0, "no models yet\n")


def test_weights_of_another_layout_are_one_line_with_tensor_and_both_shapes(
    cli: Cli, srv: Path, tmp_path: Path
) -> None:
    published(cli, srv, "--model", "digits", weights_file(tmp_path, weights(1), "1.safetensors"))
    grown = weights_file(tmp_path, weights(1, columns=301), "grown.safetensors")
    status, out, err = cli("publish", srv, "--model", "digits", grown)
    assert (status, out, err.count("\n")) == (1, "", 1)
    for part in ("error: ", "encoder.W", "300", "301"):
        assert part in err
    assert json.loads(cli("status", srv, "--json")[1])["models"][0]["head"] == 0


@pytest.fixture
def one_generation(cli: Cli, srv: Path, tmp_path: Path) -> Path:
    file = weights_file(tmp_path, weights(1), "1.safetensors")
    published(cli, srv, "--model", "digits", file)
    return file


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.safetensors"], "missing.safetensors"),
        (["missing.ndiff"], "missing.ndiff"),
        (["text.ndiff"], "expected"),
        (["text.safetensors"], "text.safetensors"),
        (["text.onnx"], "text.onnx"),
        (["1.safetensors", "--budget", "10"], "10"),
        (["1.safetensors", "--from", "7"], "generation 7"),
        (["1.safetensors", "--card", "text.ndiff"], "expected a card"),
        (["1.safetensors", "--card", "missing.json"], "missing.json"),
        (["1.safetensors", "--graph", "text.onnx"], "text.onnx"),
        (["1.safetensors", "--model", "a/b"], "expected a model name"),
        (["1.safetensors", "--model", ""], "expected a model name"),
    ],
)
@pytest.mark.usefixtures("one_generation")
def test_bad_input_is_one_line_and_status_1_and_publishes_nothing(
    cli: Cli,
    srv: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for suffix in ("ndiff", "safetensors", "onnx"):
        (tmp_path / f"text.{suffix}").write_text("neither weights nor diff")
    status, out, err = cli("publish", srv, "--model", "digits", *arguments)
    assert (status, out, err.count("\n")) == (1, "", 1), err
    assert err.startswith("error: ")
    assert message in err
    assert json.loads(cli("status", srv, "--json")[1])["models"][0]["head"] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["1.safetensors", "--budget", "forty"],
        ["1.ndiff", "--budget", "40KB"],
        ["1.safetensors", "--from", "first"],
        [],
    ],
)
def test_a_wrong_call_is_status_2(cli: Cli, srv: Path, arguments: list[str]) -> None:
    assert cli("publish", srv, "--model", "digits", *arguments)[0] == 2


@pytest.mark.parametrize("command", ["status", "publish", "serve"])
def test_what_is_no_home_is_one_line_and_status_1(cli: Cli, tmp_path: Path, command: str) -> None:
    (tmp_path / "1.ndiff").write_bytes(snapshot(weights(1)))
    rest = {
        "status": [],
        "publish": ["--model", "m", tmp_path / "1.ndiff"],
        "serve": ["--listen", "127.0.0.1:0"],
    }
    status, out, err = cli(command, tmp_path / "nowhere", *rest[command])
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "ota-server init" in err


@pytest.mark.parametrize("command", ["init", "serve", "publish", "status"])
def test_help_shows_an_example(cli: Cli, command: str) -> None:
    status, out, _ = cli(command, "--help")
    assert status == 0
    assert f"ota-server {command}" in out


def test_training_without_torch_says_what_to_install(
    cli: Cli, srv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    soundfile.write(corpus / "a.wav", np.zeros(8000, dtype=np.float32), 16_000)
    (corpus / "manifest.csv").write_text(
        "path,speaker,text,seconds,split\na.wav,x,yes,0.5,train\na.wav,y,yes,0.5,test\n"
    )
    for name in [name for name in sys.modules if name.startswith("server.training.")]:
        if name not in ("server.training.errors", "server.training.cli"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    status, out, err = cli("train", srv, "--corpus", corpus, "--method", "dense")
    assert (status, out) == (1, "")
    assert err == "error: expected the package torch, found none: pip install 'neuraldiff[train]'\n"
