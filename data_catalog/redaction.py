"""What may be shown of texts that have URLs in them: messages, findings, logs."""

import re


def shown(text: str) -> str:
    """A text whose URLs have neither user nor password, and no query, which may be a signature."""
    without_users = re.sub(r"(?<=://)[^/\s'\"]*@", "***@", text)
    return re.sub(r"(://[^\s'\"?]*)\?[^\s'\")]*", r"\1?***", without_users)
