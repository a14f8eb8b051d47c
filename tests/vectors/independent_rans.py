"""The rANS stream and the models of row classes (4.5 of docs/diff-format-v1.md)."""

import struct
from collections.abc import Iterator

T = 1 << 14


class Model:
    """Adaptive frequencies, by context."""

    def __init__(self, priors: list[list[int]]):
        self.weights = [list(prior) for prior in priors]
        self.fresh = [0] * len(priors)
        self.sums = [sum(prior) for prior in priors]
        self.tables = [frequencies(prior) for prior in priors]
        self.symbols = 0

    def restart(self, context: int, prior: list[int]) -> None:
        self.weights[context] = list(prior)
        self.fresh[context], self.sums[context] = 0, sum(prior)
        self.tables[context] = frequencies(prior)

    def learn(self, contexts: list[int], symbols: list[int]) -> None:
        self.symbols += len(symbols)
        for context, symbol in list(zip(contexts, symbols, strict=True))[:16_384]:
            self.weights[context][symbol] += 16
            self.fresh[context] += 16
        for context, weights in enumerate(self.weights):
            if self.fresh[context] > 0 and 8 * self.fresh[context] >= self.sums[context]:
                halve = sum(weights) > 1 << 22
                self.restart(context, [w >> 1 for w in weights] if halve else weights)


def frequencies(weights: list[int]) -> list[int]:
    total = max(1, sum(weights))
    f = [w * (T - len(weights)) // total + 1 for w in weights]
    f[f.index(max(f))] += T - sum(f)
    return f


class Stream:
    """Lanes of rANS, read in calls."""

    def __init__(self, section: bytes):
        lanes = 1 << section[0]
        self.states = list(struct.unpack_from(f"<{lanes}I", section, 1))
        words = section[1 + 4 * lanes :]
        self.words = iter(struct.unpack(f"<{len(words) // 2}H", words))

    def steps(self, count: int) -> Iterator[tuple[int, int]]:
        """The lane of each of count values, all of a step before its words are taken."""
        lanes = len(self.states)
        for start in range(0, count, lanes):
            step = range(min(lanes, count - start))
            for lane in step:
                yield start + lane, lane
            for lane in step:
                if self.states[lane] < 1 << 16:
                    self.states[lane] = self.states[lane] << 16 | next(self.words)

    def symbols(self, model: Model, contexts: list[int]) -> list[int]:
        found = []
        for i, lane in self.steps(len(contexts)):
            x, f = self.states[lane], model.tables[contexts[i]]
            slot, symbol, first = x % T, 0, 0
            while first + f[symbol] <= slot:
                first += f[symbol]
                symbol += 1
            self.states[lane] = f[symbol] * (x // T) + slot - first
            found.append(symbol)
        if found:
            model.learn(contexts, found)
        return found

    def symbol(self, model: Model, context: int = 0) -> int:
        return self.symbols(model, [context])[0]

    def bits(self, widths: list[int]) -> list[int]:
        values = [0] * len(widths)
        for low in (0, 16):
            wide = [i for i, width in enumerate(widths) if width > low]
            for i, lane in self.steps(len(wide)):
                b = min(widths[wide[i]] - low, 16)
                values[wide[i]] |= (self.states[lane] & (1 << b) - 1) << low
                self.states[lane] >>= b
        return values

    def number(self, width: int) -> int:
        return self.bits([width])[0]

    def expect_end(self) -> None:
        assert all(x == 1 << 16 for x in self.states)
        assert next(self.words, None) is None


def call_lengths(count: int, least: int, done: int = 0) -> Iterator[int]:
    """Calls that are each as long as all before them, at least `least`, count together."""
    stop = done + count
    while done < stop:
        yield min(max(done, least), stop - done)
        done += min(max(done, least), stop - done)
