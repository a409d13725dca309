-- The image makes the database `prefect` (POSTGRES_DB); MLflow gets one of its own.
CREATE DATABASE mlflow;
