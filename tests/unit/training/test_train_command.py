"""`ota-server train`: what it publishes, and what it refuses before anything is published."""

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from server.cli import app
from server.errors import ConflictError, PublishError
from server.home import ServerHome
from server.training import recipes
from server.training.cli import TRAININGS
from server.training.errors import TrainingRequestError
from tests.server_home import generations
from tests.tone_corpus import write_tone_corpus

WORDS = {"red": "a", "green": "a", "blue": "b"}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_tone_corpus(tmp_path / "corpus", WORDS, speakers=3, takes=1)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    ServerHome.create(tmp_path / "srv").close()
    return tmp_path / "srv"


def train(home: Path, corpus: Path, *options: object) -> Result:
    fixed = ["train", home, "--corpus", corpus, "--steps", 20, "--json"]
    return CliRunner().invoke(app, [str(word) for word in (*fixed, *options)])


def train_first(home: Path, corpus: Path) -> dict:
    done = train(home, corpus, "--method", "dense", "--config", "tiny")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_the_first_generation_is_published_and_measured(home: Path, corpus: Path) -> None:
    facts = train_first(home, corpus)
    assert (facts["model"], facts["generation"], facts["test_speech"]) == ("slu", 0, "synthetic")
    assert facts["forgotten"] == []
    assert generations(home) == 1


def test_phrases_that_the_next_generation_forgets_are_named(home: Path, corpus: Path) -> None:
    train_first(home, corpus)
    done = train(home, corpus, "--method", "sparse", "--budget", "4KB", "--domains", "a")
    assert json.loads(done.stdout)["forgotten"] == ["blue"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--method", "dense", "--texts", "red"), "at least two phrases"),
        (("--method", "dense", "--config", "huge"), "tiny, small, paper"),
        (("--method", "sparse", "--budget", "4KB"), "--method dense"),
    ],
)
def test_impossible_orders_publish_nothing(
    options: tuple[str, ...], message: str, home: Path, corpus: Path
) -> None:
    done = train(home, corpus, *options)
    assert isinstance(done.exception, TrainingRequestError)
    assert message in str(done.exception)
    assert generations(home) == 0


def test_a_line_with_an_impossible_name_is_refused_before_training(
    home: Path, corpus: Path
) -> None:
    done = train(home, corpus, "--method", "dense", "--line", "../elsewhere")
    assert isinstance(done.exception, PublishError)
    assert "../elsewhere" in str(done.exception)


def test_a_generation_published_meanwhile_is_not_built_over(
    home: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_first(home, corpus)
    learn = recipes.train_generation

    def learn_while_another_publishes(request, progress):
        monkeypatch.setattr(recipes, "train_generation", learn)
        train(home, corpus, "--method", "hash", "--budget", "4KB")
        return learn(request, progress)

    monkeypatch.setattr(recipes, "train_generation", learn_while_another_publishes)
    done = train(home, corpus, "--method", "sparse", "--budget", "4KB")
    assert isinstance(done.exception, ConflictError)
    assert generations(home) == 2


def test_without_recordings_to_measure_on_nothing_is_published(home: Path, corpus: Path) -> None:
    manifest = corpus / "manifest.csv"
    rows = manifest.read_text().splitlines()
    kept = [row for row in rows if not (",test," in row and "blue" not in row)]
    manifest.write_text("\n".join(kept) + "\n")
    done = train(home, corpus, "--method", "dense", "--domains", "a")
    assert isinstance(done.exception, TrainingRequestError)
    assert "test split" in str(done.exception)
    assert generations(home) == 0


def test_another_configuration_than_the_heads_is_refused(home: Path, corpus: Path) -> None:
    train_first(home, corpus)
    done = train(home, corpus, "--method", "sparse", "--budget", "4KB", "--config", "small")
    assert isinstance(done.exception, TrainingRequestError)
    assert "'tiny'" in str(done.exception)
    assert generations(home) == 1


def test_a_taught_diff_is_published_and_its_teachers_are_not(home: Path, corpus: Path) -> None:
    train_first(home, corpus)
    done = train(home, corpus, "--method", "sparse", "--budget", "4KB", "--teachers")
    assert json.loads(done.stdout)["generation"] == 1
    assert generations(home) == 2
    assert not list((home / TRAININGS).iterdir())


@pytest.mark.parametrize(
    "options",
    [
        ("--method", "dense"),
        ("--method", "int8", "--budget", "4KB"),
        ("--method", "sparse", "--budget", "4KB", "--model", "rnnt"),
    ],
)
def test_teachers_of_what_cannot_imitate_them_are_wrong_usage(
    options: tuple[str, ...], home: Path, corpus: Path
) -> None:
    done = train(home, corpus, *options, "--teachers")
    assert done.exit_code == 2
    assert "to teach, found" in " ".join(done.stderr.replace("│", " ").split())


@pytest.mark.parametrize(
    "options", [("--method", "sparse"), ("--method", "hash", "--budget", "4XB")]
)
def test_a_missing_or_senseless_budget_is_wrong_usage(
    options: tuple[str, ...], home: Path, corpus: Path
) -> None:
    assert train(home, corpus, *options).exit_code == 2
