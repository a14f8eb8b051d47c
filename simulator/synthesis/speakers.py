"""Draw synthetic speakers: a voice variant, an English accent, rate, pitch and pitch range."""

from dataclasses import dataclass

import numpy as np

ACCENTS = (
    "en-029",
    "en-gb-scotland",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
    "en-gb-x-rp",
    "en-us",
    "en-us-nyc",
)
"""English voices of the engine. "en-gb" is none of them: asked for, it fails."""

# The engine takes an unknown variant for none at all, without a word, so the names are spelled
# out here. Left out: whispers, robots and effects, which no household would recognise.
VARIANTS = (
    *("Alex", "Alicia", "Andrea", "Andy", "Annie", "AnxiousAndy", "Denis", "Diogo", "Gene"),
    *("Gene2", "Henrique", "Hugo", "Jacky", "Lee", "Marco", "Mario", "Michael", "Mike"),
    *("Mr serious", "Nguyen", "Reed", "RicishayMax", "RicishayMax2", "RicishayMax3", "Storm"),
    *("adam", "anika", "announcer", "antonio", "aunty", "belinda", "benjamin", "boris", "caleb"),
    *("david", "ed", "edward", "edward2", "f1", "f2", "f3", "f4", "f5", "grandma", "grandpa"),
    *("gustave", "ian", "iven", "iven2", "iven3", "iven4", "john", "kaukovalta", "klatt"),
    *("klatt2", "klatt3", "klatt4", "klatt5", "klatt6", "linda", "m1", "m2", "m3", "m4", "m5"),
    *("m6", "m7", "m8", "marcelo", "max", "michel", "miguel", "mike2", "norbert", "pablo"),
    *("paul", "pedro", "quincy", "rob", "robert", "sandro", "shelby", "steph", "steph2"),
    *("steph3", "travis", "victor", "zac"),
)

MOST_SPEAKERS = len(VARIANTS) * len(ACCENTS)

# Stream names for numpy's seeding: one number for each use of a corpus seed.
STREAM_SPEAKERS, STREAM_ROOMS, STREAM_SPLIT, STREAM_SENTENCES = 1, 2, 3, 4


@dataclass(frozen=True)
class Speaker:
    """How one synthetic speaker talks.

    Units are the engine's: rate in words a minute (80..450), pitch and pitch range 0..100.
    """

    name: str
    accent: str
    variant: str
    rate_wpm: int
    pitch: int
    pitch_range: int

    @property
    def voice(self) -> str:
        """The engine's name for accent and variant together."""
        return f"{self.accent}+{self.variant}"


def draw_speakers(count: int, seed: int) -> tuple[Speaker, ...]:
    """Draw distinct speakers; no variant comes twice before every variant came once.

    Args:
        count: 1..MOST_SPEAKERS.
        seed: The corpus seed.

    Raises:
        ValueError: count is out of range.
    """
    if not 1 <= count <= MOST_SPEAKERS:
        raise ValueError(f"expected 1 to {MOST_SPEAKERS} speakers, found {count}")
    random = np.random.default_rng([seed, STREAM_SPEAKERS])
    order = random.permutation(len(VARIANTS))
    accents = np.stack([random.permutation(len(ACCENTS)) for _ in VARIANTS])
    speakers = []
    for index in range(count):
        lap, place = divmod(index, len(VARIANTS))
        variant = int(order[place])
        speakers.append(
            Speaker(
                name=f"synth-{index:03d}",
                accent=ACCENTS[accents[variant, lap]],
                variant=VARIANTS[variant],
                rate_wpm=int(random.integers(140, 205)),
                pitch=int(random.integers(30, 71)),
                pitch_range=int(random.integers(30, 71)),
            )
        )
    return tuple(speakers)
