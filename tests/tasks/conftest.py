"""A database of MLflow whose tables are there already."""

import shutil

import pytest
from mlflow import MlflowClient


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """MLflow needs seconds to make its tables: once for all tests."""
    file = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture
def own_database(own_home, tmp_path, empty_database):
    """That of the home of a test."""
    (tmp_path / "home").mkdir(exist_ok=True)
    shutil.copy(empty_database, tmp_path / "home" / "mlflow.db")
