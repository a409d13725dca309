"""What is wrong outside this program: commands say it in one line, without a traceback, and end with code 1."""


class Outage(RuntimeError):
    """Something this program needs does not answer, or is held by another; the message says what to do."""


class CatalogInUse(Outage):
    """Another process had the catalog open for longer than we wait."""


class EndpointFailed(Outage):
    """A service that a captioner asks does not answer; what it answered before is kept."""
