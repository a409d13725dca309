"""What may be shown of texts that have URLs in them: messages, findings, logs."""

import re

_PASSWORD = re.compile(r"://[^/@\s]*:[^/@\s]*@")


def has_password(text: str) -> bool:
    """Whether a URL in a text has a user with a password."""
    return _PASSWORD.search(text) is not None


def shown(text: str) -> str:
    """A text whose URLs have neither user nor password, and no query, which may be a signature; no `password=`."""
    without_users = re.sub(r"(?<=://)[^/\s'\"]*@", "***@", text)
    without_queries = re.sub(r"(://[^\s'\"?]*)\?[^\s'\")]*", r"\1?***", without_users)
    return re.sub(r"(password\s*=\s*)[^\s'\"]+", r"\1***", without_queries, flags=re.IGNORECASE)  # as libpq takes it
