"""Word errors: how many words of a text were recognised wrongly.

The word error rate (WER) of a test set is the sum of the errors of its recordings by the sum of
the words that were said; it is not the mean of their rates.

    >>> sum(map(word_errors, said, heard), WordErrors()).rate
    0.114

Texts are cut at white space and words compared as they are: who minds case or punctuation takes
it out first.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class WordErrors:
    """The fewest changes that turn what was said into what was heard. Errors add up.

    Attributes:
        substitutions: Words heard as another.
        deletions: Words not heard.
        insertions: Words heard that nobody said.
        words: Words that were said.
    """

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    words: int = 0

    @property
    def errors(self) -> int:
        """All of them."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors by words said: 0 is best, and insertions can bring it above 1.

        Raises:
            ValueError: no word was said.
        """
        if not self.words:
            raise ValueError("expected at least one word that was said, found none")
        return self.errors / self.words

    def __add__(self, other: "WordErrors") -> "WordErrors":
        return WordErrors(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.words + other.words,
        )


def word_errors(said: str, heard: str) -> WordErrors:
    """Compare two texts by the Levenshtein distance over their words.

    Where several alignments have the fewest errors, the one with most substitutions counts.
    """
    reference, hypothesis = said.split(), heard.split()
    # row[j]: the errors between the reference so far and the first j words of the hypothesis.
    row = [WordErrors(insertions=j) for j in range(len(hypothesis) + 1)]
    for i, wanted in enumerate(reference, start=1):
        above, row = row, [WordErrors(deletions=i, words=i)]
        for j, found in enumerate(hypothesis, start=1):
            wrong = WordErrors(substitutions=int(wanted != found), words=1)
            row.append(
                min(
                    above[j - 1] + wrong,
                    above[j] + WordErrors(deletions=1, words=1),
                    row[j - 1] + WordErrors(insertions=1),
                    key=lambda found: (found.errors, -found.substitutions),
                )
            )
    return row[-1]
