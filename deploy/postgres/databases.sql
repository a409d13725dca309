-- The image makes the database `prefect` (POSTGRES_DB); MLflow and a DuckLake get one of their own.
CREATE DATABASE mlflow;
CREATE DATABASE lake;
