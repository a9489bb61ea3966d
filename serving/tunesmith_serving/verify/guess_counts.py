"""How many tokens were guessed, and how many of them the model took."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Guesses:
    """Counts: passes that checked guesses, tokens that were guessed, and those that were taken."""

    passes: int
    guessed: int
    taken: int

    @property
    def acceptance(self) -> float:
        """Part of the guessed tokens that the model took; 0 where none were guessed."""
        return self.taken / self.guessed if self.guessed else 0.0

    @property
    def tokens_per_pass(self) -> float:
        """Tokens of a pass: its own, and the guesses that it took."""
        return 1 + self.taken / self.passes if self.passes else 1.0

    def __sub__(self, other: "Guesses") -> "Guesses":
        """What came after `other`."""
        return Guesses(
            self.passes - other.passes, self.guessed - other.guessed, self.taken - other.taken
        )


@dataclass(frozen=True, slots=True)
class GuessedTokens:
    """What was guessed while `num_tokens` tokens of `num_answers` answers were generated."""

    num_answers: int
    num_tokens: int
    guesses: Guesses

    @property
    def passes(self) -> int:
        """Of the model, with guesses to check or without: each gives a token of its own.

        At least those that are counted, beside the first of each answer, which checks none: what is
        taken beyond the end of an answer is counted as well.
        """
        taken = self.guesses.taken
        return max(self.num_tokens - taken, self.num_answers + self.guesses.passes)

    def cost_of_guess(self, *, ratio: float) -> float | None:
        """What a guess costs, in passes of the model by itself; None where nothing was guessed.

        `ratio` is tokens/s with guesses to tokens/s without. With g guesses a pass takes 1 + c g
        passes of the model by itself, of which c is sought, and with a part a of them taken it
        gives 1 + a g tokens; so guessing is faster if and only if a > c (as of Leviathan et al.
        2023, arXiv 2211.17192, corollary 3.9). What checking several tokens costs more than
        checking one is part of c.
        """
        if not self.guesses.guessed:
            return None
        cost_of_pass = self.num_tokens / self.passes / ratio
        return max(0.0, (cost_of_pass - 1) * self.passes / self.guesses.guessed)
