"""The process that speaks: one speaker, then it ends.

`python -m simulator.synthesis.worker` reads one JSON object from stdin (voice, rate_wpm, pitch,
pitch_range, phrases) and writes to stdout, for each phrase in the order given, its number of
samples (uint32, little-endian) and its samples (int16, little-endian, 22,050 Hz).

Kept apart from everything else for two reasons: the engine is GPLv3, and it keeps hidden state
between calls that no re-initialisation clears (see the package).
"""

import ctypes
import json
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

EXIT_NO_ENGINE = 3
SAMPLE_RATE_HZ = 22_050

# From espeak-ng's speak_lib.h.
AUDIO_OUTPUT_SYNCHRONOUS = 2
INITIALIZE_DONT_EXIT = 0x8000
PARAMETER_RATE, PARAMETER_PITCH, PARAMETER_RANGE = 1, 3, 4
CHARS_UTF8 = 1

SynthCallback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


def main() -> int:
    """Speak what stdin asks for."""
    try:
        import espeakng_loader
    except ImportError:
        return EXIT_NO_ENGINE
    request = json.load(sys.stdin)
    data = Path(espeakng_loader.get_data_path())
    try:
        engine = _open_engine(ctypes.CDLL(str(espeakng_loader.get_library_path())), data, request)
        speak_all(engine, request["phrases"])
    except (OSError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _open_engine(engine: ctypes.CDLL, data: Path, request: dict[str, Any]) -> ctypes.CDLL:
    voice = str(request["voice"])
    _, _, variant = voice.partition("+")
    if variant and not (data / "voices" / "!v" / variant).is_file():
        raise RuntimeError(f"the engine has no voice variant {variant!r}")
    rate = engine.espeak_Initialize(
        AUDIO_OUTPUT_SYNCHRONOUS, 0, str(data).encode(), INITIALIZE_DONT_EXIT
    )
    if rate != SAMPLE_RATE_HZ:
        raise RuntimeError(f"expected an engine at {SAMPLE_RATE_HZ} Hz, found {rate}")
    if engine.espeak_SetVoiceByName(voice.encode()) != 0:
        raise RuntimeError(f"the engine has no voice {voice!r}")
    for parameter, name in (
        (PARAMETER_RATE, "rate_wpm"),
        (PARAMETER_PITCH, "pitch"),
        (PARAMETER_RANGE, "pitch_range"),
    ):
        engine.espeak_SetParameter(parameter, int(request[name]), 0)
    return engine


def speak_all(engine: ctypes.CDLL, phrases: Sequence[str]) -> None:
    """Write every phrase to stdout, framed by its number of samples."""
    spoken = bytearray()

    def collect(samples: Any, count: int, _events: Any) -> int:
        if samples and count > 0:
            spoken.extend(ctypes.string_at(samples, 2 * count))
        return 0

    callback = SynthCallback(collect)  # a local: the engine does not keep it alive
    engine.espeak_SetSynthCallback(callback)
    for phrase in phrases:
        spoken.clear()
        text = phrase.encode() + b"\0"
        if engine.espeak_Synth(text, len(text), 0, 1, 0, CHARS_UTF8, None, None) != 0:
            raise RuntimeError(f"the engine cannot speak {phrase!r}")
        engine.espeak_Synchronize()
        sys.stdout.buffer.write(struct.pack("<I", len(spoken) // 2))
        sys.stdout.buffer.write(spoken)


if __name__ == "__main__":
    sys.exit(main())
