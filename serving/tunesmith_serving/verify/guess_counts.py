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
