"""Clocks that write down what they said, and that say it again.

What a search decides depends on its seed, on the measured times, and on the clock: how long a round
took, what is left of the budget. The first two are in `summary.json` and in the records; the third
is what the decision log is for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from familyseer.search import Clock

# what was asked of the clock, as one letter of the log
NOW, LEFT, ELAPSED, STOPPED = "n", "l", "e", "s"


class LoggedClock(Clock):
    """A clock whose answers are kept until they are written down.

    Parameters
    ----------
    inner
        The clock that is asked.
    """

    def __init__(self, inner: Clock) -> None:
        self._inner = inner
        self._asked: list[str] = []
        self._answers: list[float] = []
        super().__init__(inner.budget_s, inner.started_at)
        self.phases = inner.phases

    def take(self) -> tuple[str, list[float]]:
        """What was asked and answered since the last call."""
        taken = "".join(self._asked), self._answers
        self._asked, self._answers = [], []
        return taken

    def _told(self, question: str, answer: float) -> float:
        self._asked.append(question)
        self._answers.append(answer)
        return answer

    @property
    def live(self) -> Clock:
        """The clock to wait by, whose answers are not kept."""
        return self._inner

    def stop(self) -> None:
        """Ends tuning as the deadline would."""
        self._inner.stop()

    @property
    def stopped(self) -> bool:
        """Whether tuning was stopped."""
        return bool(self._told(STOPPED, float(self._inner.stopped)))

    def now(self) -> float:
        """Seconds on a clock of arbitrary origin."""
        return self._told(NOW, self._inner.now())

    def elapsed_s(self) -> float:
        """Seconds since the run started."""
        return self._told(ELAPSED, self._inner.elapsed_s())

    def tuning_left_s(self) -> float:
        """Seconds that may still go into tuning."""
        return self._told(LEFT, self._inner.tuning_left_s())

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Adds the time spent inside to a phase, which decides nothing."""
        with self._inner.phase(name):
            yield


class RetoldClock(Clock):
    """Answers as a logged clock did.

    Parameters
    ----------
    answer
        Given what is asked, the next answer in the log; it raises where something else was asked.
    """

    def __init__(self, answer: Callable[[str], float]) -> None:
        self._answer = answer
        super().__init__(None, 0.0)

    @property
    def stopped(self) -> bool:
        """Whether tuning was stopped."""
        return bool(self._answer(STOPPED))

    def now(self) -> float:
        """Seconds on a clock of arbitrary origin."""
        return self._answer(NOW)

    def elapsed_s(self) -> float:
        """Seconds since the run started."""
        return self._answer(ELAPSED)

    def tuning_left_s(self) -> float:
        """Seconds that could still go into tuning."""
        return self._answer(LEFT)

    @contextmanager
    def phase(self, _name: str) -> Iterator[None]:
        """Phases are not booked a second time."""
        yield
