"""Where the catalog lies: a DuckDB file, or a DuckLake: tables as Parquet files, their index in a database."""

import os
import re
from pathlib import Path

from data_catalog.files import absolute, is_url
from data_catalog.object_storage import checked_place
from data_catalog.places import home
from data_catalog.redaction import has_password
from data_catalog.refs import Spec

LAKE = "ducklake:"
POSTGRES = "postgres:"


class Lake(Spec):
    """A DuckLake: several processes may write to it at once if its index is in PostgreSQL."""

    index: str  # postgres:<connection string of libpq, without a password>, or the path of a file
    data: str  # the folder or s3:// URL of the Parquet files

    @property
    def is_shared(self) -> bool:
        """Whether several processes may have it open at once."""
        return self.index.startswith(POSTGRES)

    def __str__(self) -> str:
        return f"{LAKE}{self.index}"


Place = Path | Lake


def place() -> Place:
    """The catalog of this environment: EVERGREEN_CATALOG, by default `catalog.duckdb` in the home.

    Raises ValueError if it is written wrongly, or holds a secret.
    """
    return parsed(os.environ.get("EVERGREEN_CATALOG", ""), os.environ.get("EVERGREEN_CATALOG_DATA"))


def parsed(text: str, data: str | None = None) -> Place:
    """A place as it is written in the environment or a command; `data`: where the files of a DuckLake lie."""
    if not text.startswith(LAKE):
        if is_url(text):
            raise ValueError(
                f"the catalog is a DuckDB file or a DuckLake, not {text!r}; for object storage: "
                f"EVERGREEN_CATALOG='{LAKE}{POSTGRES}dbname=lake host=...' with EVERGREEN_CATALOG_DATA=s3://bucket/lake"
            )
        return Path(text or home() / "catalog.duckdb").resolve()
    index = text.removeprefix(LAKE)
    if index.startswith(POSTGRES):
        _refuse_secrets(index)
    elif not index or ":" in index:
        raise ValueError(
            f"EVERGREEN_CATALOG is {text!r}, expected {LAKE}{POSTGRES}dbname=... host=..., or {LAKE}FILE with the path "
            "of a file for the index"
        )
    else:
        index = absolute(index)
    return Lake(index=index, data=_checked_data(data, index))


def _refuse_secrets(index: str) -> None:
    if has_password(index) or re.search(r"password\s*=", index, re.IGNORECASE):
        raise ValueError(
            "EVERGREEN_CATALOG holds a password: write it without, and give the password in PGPASSWORD, in ~/.pgpass, "
            "or in the file that PGPASSFILE names"
        )


def _checked_data(data: str | None, index: str) -> str:
    if not data:
        if index.startswith(POSTGRES):
            raise ValueError(
                "EVERGREEN_CATALOG_DATA is missing: set it to the folder or s3:// URL that holds the files of the "
                "DuckLake, one that every process with this EVERGREEN_CATALOG can reach"
            )
        return f"{index}.files/"
    where = checked_place(data, "EVERGREEN_CATALOG_DATA")
    if is_url(where) and not where.startswith("s3://"):
        raise ValueError(f"EVERGREEN_CATALOG_DATA is {where!r}: a DuckLake keeps its files in a folder, or at s3://")
    return f"{where}/"
