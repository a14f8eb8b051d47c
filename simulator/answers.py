"""What devices answered, kept: equal weights, graph and card answer equal recordings alike.

Recognising takes as long as training once test sets are large, and every line of a seed begins with
the same generation 0. So an answer is kept under a hash of all that it depends on: the digest that
the device itself reported, graph, card, recordings, and the code of the device.

    >>> answers = Answers(Path("answers"))
    >>> answers.of(device, installed=(digest, graph_sha256, card_sha256), test=corpus)
    ('seven', 'nine')
"""

import json
from collections.abc import Sequence
from pathlib import Path

from simulator.jobs import job_key
from simulator.programs import Device
from simulator.sources import source_digest
from speech.corpus import Corpus

CODE_OF_ANSWERS = ("edge_client", "speech")


class Answers:
    """A folder of answers, which several runs may share."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._code = source_digest(CODE_OF_ANSWERS)

    def of(self, device: Device, installed: Sequence[str], test: Corpus) -> tuple[str, ...]:
        """The device's answers to the recordings of a corpus, in their order.

        Args:
            device: Asked where nobody with the same model was asked before.
            installed: What names the model that it runs.
            test: The recordings.

        Raises:
            ProgramError: the device failed.
        """
        path = self._folder / f"{job_key(self._code, *installed, test.digest())}.json"
        kept = _read(path)
        if kept is not None and len(kept) == len(test.utterances):
            return kept
        answers = device.recognise([u.path for u in test.utterances])
        # A name of its own: another line may be at the same.
        unfinished = path.with_name(f"{path.stem}.{device.home.name}.new")
        unfinished.write_text(json.dumps(answers, ensure_ascii=False), encoding="utf-8")
        unfinished.rename(path)
        return answers


def _read(path: Path) -> tuple[str, ...] | None:
    """None where there are none, or a power cut took them."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return tuple(map(str, content)) if isinstance(content, list) else None
