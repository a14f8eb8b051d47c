"""Symbols as few bytes: interleaved rANS with tables that learn, a whole vector at a time.

A range-ANS coder (Duda 2013, arXiv:1311.2540) keeps a state x and takes a symbol of frequency f
and first slot s out of T = 2**TOTAL_BITS slots in with

    x' = (x // f) * T + x % f + s

Numpy is quick only on vectors, so L lanes, each with its own state, take one symbol each per
step and share one stream of 16-bit words. Symbols are coded in *calls* of any length; a call is
cut into steps of L, the i-th symbol of a step goes through lane i. Encoding runs backwards over
all calls, so that decoding runs forwards and in bounded memory.

A `Model` holds one table per context. It learns after each call from the symbols of that call,
so tables are never sent. All of it is integer arithmetic: the same on every machine.

    writer = Writer()                        reader = Reader(read, length)
    writer.symbols(model, contexts, symbols) symbols = reader.symbols(model, contexts)
    writer.bits(values, widths)              values = reader.bits(widths)
    coded = writer.finish()                  reader.finish()

Letters: L lanes, N symbols of a call, C contexts, S symbols of an alphabet.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from diffcodec.errors import FormatError

TOTAL_BITS = 14
TOTAL = 1 << TOTAL_BITS
WORD_BITS = 16
LOWEST_STATE = 1 << WORD_BITS
MAX_LANE_BITS = 12
# A lane costs two bytes, those of the lower bound of its last state. Few keep small streams small
# (near 0.2 %), many make large ones quick; a reader takes any number.
SYMBOLS_PER_LANE = 4_096
MANY_SYMBOLS = 2**21
READ_BYTES = 65_536
# A table is rebuilt once its counts have grown by this share: often while it is young.
REBUILD_SHARE = 8
# The weight of one symbol against the prior counts that a model starts from.
COUNT_STEP = 16
# A call teaches by its first symbols alone where it is longer: by then the tables know enough.
LEARNT_SYMBOLS = 1 << 14
# So many stale tables are made anew without asking whether a call needs them.
FEW_CONTEXTS = 16
# Counts are halved above this, so that tables follow data that drifts.
MAX_WEIGHT = 1 << 22

_HALF, _LOW_HALF = np.uint32(WORD_BITS), np.uint32(0xFFFF)
_TOTAL_SHIFT, _SLOT_MASK = np.uint32(TOTAL_BITS), np.uint32(TOTAL - 1)

Indices = NDArray[np.int64]


class Model:
    """Frequency tables of C contexts over S symbols, learnt from what was coded.

    Args:
        prior: Weights to start from, integers >= 0, shape (C, S), S <= 256.
    """

    def __init__(self, prior: NDArray[np.int64]) -> None:
        self.contexts, self.alphabet = prior.shape
        self.weights = prior.astype(np.int64)
        self.seen = 0  # symbols that were coded, of all contexts
        self._fresh = np.zeros(self.contexts, dtype=np.int64)
        self._sums = self.weights.sum(axis=1)
        self._is_stale = np.ones(self.contexts, dtype=bool)
        # (frequency << 16 | first slot) of every context and symbol; symbol of every slot.
        self.spans = np.zeros(self.contexts * self.alphabet, dtype=np.uint32)
        self.slots = np.zeros(self.contexts << TOTAL_BITS, dtype=np.uint8)

    def prepare(self, contexts: Indices, *, is_decoding: bool) -> None:
        """Bring the tables of these contexts up to date, before a call uses them."""
        stale = np.flatnonzero(self._is_stale)
        if stale.size > FEW_CONTEXTS:  # most of them are not used yet
            is_used = np.zeros(self.contexts, dtype=bool)
            is_used[contexts] = True
            stale = stale[is_used[stale]]
        if not stale.size:
            return
        frequencies = normalise(self.weights[stale])
        firsts = np.cumsum(frequencies, axis=1) - frequencies
        self.spans.reshape(self.contexts, -1)[stale] = frequencies << 16 | firsts
        if is_decoding:
            symbols = np.tile(np.arange(self.alphabet, dtype=np.uint8), stale.size)
            slots = np.repeat(symbols, frequencies.reshape(-1))
            self.slots.reshape(self.contexts, TOTAL)[stale] = slots.reshape(-1, TOTAL)
        self._is_stale[stale] = False

    def learn(self, contexts: Indices, symbols: NDArray[np.uint8]) -> None:
        """Count the symbols of a call, after it was coded."""
        self.seen += symbols.size
        flat = contexts[:LEARNT_SYMBOLS] * self.alphabet + symbols[:LEARNT_SYMBOLS]
        hits = np.bincount(flat, minlength=self.weights.size).reshape(self.weights.shape)
        hits *= COUNT_STEP
        self.weights += hits
        self._fresh += hits.sum(axis=1)
        due = np.flatnonzero((self._fresh * REBUILD_SHARE >= self._sums) & (self._fresh > 0))
        if not due.size:
            return
        weights = self.weights[due]
        weights >>= (weights.sum(axis=1, keepdims=True) > MAX_WEIGHT).astype(np.int64)
        self.weights[due] = weights
        self._sums[due] = weights.sum(axis=1)
        self._fresh[due] = 0
        self._is_stale[due] = True

    def reset(self, context: int, weights: Indices) -> None:
        """Let one context start again from other weights (shape (S,))."""
        self.weights[context] = weights
        self._sums[context] = weights.sum()
        self._fresh[context] = 0
        self._is_stale[context] = True


def normalise(weights: Indices) -> Indices:
    """Frequencies >= 1 that sum to TOTAL, in proportion to weights; per context, shape (C, S).

    What rounding down leaves over goes to the first of the largest.
    """
    share = TOTAL - weights.shape[1]
    sums = np.maximum(1, weights.sum(axis=1, keepdims=True))
    frequencies: Indices = weights * share // sums + 1
    largest = (np.arange(len(weights)), np.argmax(frequencies, axis=1))
    frequencies[largest] += TOTAL - frequencies.sum(axis=1)
    return frequencies


class Writer:
    """Collects calls, and codes them all at the end."""

    def __init__(self) -> None:
        self._calls: list[tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.uint8]]] = []
        self._symbols = 0

    def symbols(self, model: Model, contexts: Indices, symbols: NDArray[np.uint8]) -> None:
        """Code one symbol per context, and let the model learn them."""
        if not symbols.size:
            return
        model.prepare(contexts, is_decoding=False)
        spans = model.spans[contexts * model.alphabet + symbols]
        bits = np.full(symbols.size, TOTAL_BITS, dtype=np.uint8)
        self._append(spans & _LOW_HALF, spans >> _HALF, bits)
        model.learn(contexts, symbols)

    def bits(self, values: Indices, widths: NDArray[np.uint8]) -> None:
        """Code values as they are, in widths of 0 to 32 bits; width 0 costs nothing."""
        is_wide = widths > WORD_BITS
        low = np.where(is_wide, WORD_BITS, widths).astype(np.uint8)
        self._raw(values & ((1 << low.astype(np.int64)) - 1), low)
        self._raw(values[is_wide] >> WORD_BITS, widths[is_wide] - np.uint8(WORD_BITS))

    def finish(self) -> bytes:
        """All calls as bytes: lane exponent, states, words."""
        exponent = (self._symbols // SYMBOLS_PER_LANE).bit_length()
        if self._symbols > MANY_SYMBOLS:
            exponent = MAX_LANE_BITS
        lanes = 1 << exponent
        state = np.full(lanes, LOWEST_STATE, dtype=np.uint64)
        words: list[NDArray[np.uint16]] = []
        for starts, frequencies, bits in reversed(self._calls):
            for at in range((starts.size - 1) // lanes * lanes, -1, -lanes):
                part = slice(at, at + lanes)
                words.append(_encode_step(state, starts[part], frequencies[part], bits[part]))
        stream = np.concatenate([*words[::-1], np.empty(0, np.uint16)]).astype("<u2")
        return bytes([exponent]) + state.astype("<u4").tobytes() + stream.tobytes()

    def _raw(self, values: Indices, widths: NDArray[np.uint8]) -> None:
        kept = np.flatnonzero(widths)
        if kept.size:
            ones = np.ones(kept.size, dtype=np.uint32)
            self._append(values[kept].astype(np.uint32), ones, widths[kept])

    def _append(
        self, starts: NDArray[np.uint32], frequencies: NDArray[np.uint32], bits: NDArray[np.uint8]
    ) -> None:
        self._calls.append((starts, frequencies, bits))
        self._symbols += starts.size


def _encode_step(
    lanes: NDArray[np.uint64],
    starts: NDArray[np.uint32],
    frequencies: NDArray[np.uint32],
    bits: NDArray[np.uint8],
) -> NDArray[np.uint16]:
    """Take one symbol into each of the first lanes; the words that they give off."""
    state = lanes[: starts.size]
    wide = frequencies.astype(np.uint64)
    is_full = state >= wide << (np.uint64(32) - bits)
    words = state[is_full].astype(np.uint16)
    state[is_full] >>= np.uint64(WORD_BITS)
    quotient, rest = np.divmod(state, wide)
    state[:] = (quotient << bits.astype(np.uint64)) + rest + starts
    return words


class Reader:
    """Decodes calls in order from bytes that are read forwards.

    Args:
        read: Gives exactly the next n bytes (uint8), or raises FormatError.
        length: Bytes of the stream.

    Raises:
        FormatError: the stream cannot be one.
    """

    def __init__(self, read: Callable[[int], NDArray[np.uint8]], length: int) -> None:
        self._read, self._left = read, length
        exponent = int(self._bytes(1)[0])
        if exponent > MAX_LANE_BITS:
            raise FormatError(
                f"rANS stream: expected at most 2**{MAX_LANE_BITS} lanes, found 2**{exponent}"
            )
        self._lanes = 1 << exponent
        self._state = self._bytes(4 << exponent).view("<u4").astype(np.uint32)
        if self._left % 2:
            raise FormatError(f"rANS stream: expected whole words, found {self._left} bytes")
        if int(self._state.min()) < LOWEST_STATE:
            raise FormatError("rANS stream: expected states of 2**16 or more")
        self._words = np.empty(0, dtype=np.uint32)
        self._at = 0

    def symbols(self, model: Model, contexts: Indices) -> NDArray[np.uint8]:
        """One symbol per context; the model learns them.

        Raises:
            FormatError: the words end early.
        """
        found = np.empty(contexts.size, dtype=np.uint8)
        if not contexts.size:
            return found
        model.prepare(contexts, is_decoding=True)
        slots, spans, all_lanes = model.slots, model.spans, self._state
        slot_base, span_base = contexts << TOTAL_BITS, contexts * model.alphabet
        for at in range(0, contexts.size, self._lanes):
            part = slice(at, at + self._lanes)
            bases = slot_base[part]
            state = all_lanes[: bases.size]
            slot = state & _SLOT_MASK
            symbol = slots.take(bases + slot)
            span = spans.take(span_base[part] + symbol)
            state >>= _TOTAL_SHIFT
            state *= span >> _HALF
            state += slot
            state -= span & _LOW_HALF
            found[part] = symbol
            self._refill(state)
        model.learn(contexts, found)
        return found

    def bits(self, widths: NDArray[np.uint8]) -> Indices:
        """Values of widths of 0 to 32 bits.

        Raises:
            FormatError: the words end early.
        """
        is_wide = widths > WORD_BITS
        if not is_wide.any():
            return self._raw(widths)
        values = self._raw(np.where(is_wide, WORD_BITS, widths).astype(np.uint8))
        values[is_wide] |= self._raw(widths[is_wide] - np.uint8(WORD_BITS)) << WORD_BITS
        return values

    def finish(self) -> None:
        """Require that the stream is over and left nothing behind.

        Raises:
            FormatError: words are left over, or a lane does not end where encoding began.
        """
        left = self._words.size - self._at + self._left // 2
        if left or (self._state != LOWEST_STATE).any():
            raise FormatError(f"rANS stream: expected its end, found {left} words more")

    def _raw(self, widths: NDArray[np.uint8]) -> Indices:
        values = np.zeros(widths.size, dtype=np.int64)
        kept = np.flatnonzero(widths)
        for at in range(0, kept.size, self._lanes):
            part = kept[at : at + self._lanes]
            width = widths[part].astype(np.uint32)
            state = self._state[: part.size]
            values[part] = state & ((np.uint32(1) << width) - np.uint32(1))
            state >>= width
            self._refill(state)
        return values

    def _refill(self, state: NDArray[np.uint32]) -> None:
        """Give each lane that ran below the lower bound its next word, in lane order."""
        empty = (state < LOWEST_STATE).nonzero()[0]
        if self._words.size - self._at < empty.size:
            self._fetch(empty.size)
        words = self._words[self._at : self._at + empty.size]
        self._at += empty.size
        state[empty] = (state[empty] << _HALF) | words

    def _fetch(self, needed: int) -> None:
        rest = self._words[self._at :]
        fresh = self._bytes(min(READ_BYTES, self._left)).view("<u2").astype(np.uint32)
        self._words, self._at = np.concatenate([rest, fresh]), 0
        if self._words.size < needed:
            raise FormatError(f"rANS stream: expected {needed} words more, found its end")

    def _bytes(self, count: int) -> NDArray[np.uint8]:
        if count > self._left:
            raise FormatError(f"rANS stream: expected {count} bytes more, found {self._left}")
        self._left -= count
        return self._read(count)
