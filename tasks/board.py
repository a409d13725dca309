"""Where workers of Ray write how far they are; a module of its own, since the actor's process imports what is in it."""


class Board:
    """An actor on which workers write, and from which the flow takes what is new."""

    def __init__(self):
        self.newest: dict[str, tuple[int, int, str]] = {}

    def put(self, label: str, done: int, total: int, note: str) -> None:
        """Replace what is known of a stage."""
        self.newest[label] = (done, total, note)

    def take(self) -> dict[str, tuple[int, int, str]]:
        """What has been written since the last look."""
        found, self.newest = self.newest, {}
        return found
