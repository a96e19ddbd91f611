"""Where the MLflow store is, how long it is waited for, and what is said if it does not answer.

The store is an SQLite file in the project; `MLFLOW_TRACKING_URI` moves runs, artifacts and registry to a server. All
commands connect here, those of `monitoring` too.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import mlflow
import requests
import sqlalchemy
from mlflow.environment_variables import (
    MLFLOW_HTTP_REQUEST_MAX_RETRIES,
    MLFLOW_HTTP_REQUEST_TIMEOUT,
    MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER,
)
from sqlalchemy.exc import ArgumentError, OperationalError, SQLAlchemyError

DEFAULT_TRACKING_URI: Final = "sqlite:///mlflow.db"
EXPERIMENT_KIND: Final = "mlflow.experimentKind"
"""Experiment tag that says what an experiment is for."""
MACHINE_LEARNING: Final = "custom_model_development"
MODE: Final = "workflowType=machine_learning"
"""Query of a page's address that shows what models need. MLflow 3.17 has the tag, but chooses by address or browser."""

_PATIENCE = {
    MLFLOW_HTTP_REQUEST_MAX_RETRIES: 2,
    MLFLOW_HTTP_REQUEST_TIMEOUT: 30,
    MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER: True,
}
"""Retries and seconds per request instead of MLflow's 7 and 120; the environment variables of these names win."""
_PATIENCE_AT_FIRST = {
    MLFLOW_HTTP_REQUEST_MAX_RETRIES: 1,
    MLFLOW_HTTP_REQUEST_TIMEOUT: 4,
    MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER: False,
}
"""For the first request of a command, so that a server that is down costs at most nine seconds."""
_DATABASE_SECONDS = 4

_NO_ANSWER = (
    requests.exceptions.ConnectionError,
    requests.exceptions.Timeout,
    requests.exceptions.RetryError,
    OperationalError,
)


class StoreUnreachable(SystemExit):
    """The MLflow store does not answer.

    A command that does not catch it ends with its sentence on standard error and exit code 1, without a traceback.
    """


def tracking_uri() -> str:
    """URI of the store."""
    return os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_TRACKING_URI


def shown_uri() -> str:
    """URI of the store without a password."""
    return re.sub(r"//[^/@]*@", "//", tracking_uri())


def is_server() -> bool:
    """Whether the store is an MLflow server, which has pages of its own."""
    return tracking_uri().startswith(("http://", "https://"))


def experiment_page(experiment_id: str, server: str) -> str:
    """Address of an experiment's page; without its query MLflow would show what agents need.

    Args:
        experiment_id: Id of an experiment.
        server: Address of a server's pages.
    """
    return f"{server.rstrip('/')}/#/experiments/{experiment_id}/runs?{MODE}"


def connect(experiment: str) -> None:
    """Point MLflow at the store and at an experiment, which is created if it is missing.

    Raises:
        StoreUnreachable: the store does not answer within nine seconds, or refuses the request.
    """
    uri = tracking_uri()
    _set_patience(_PATIENCE)
    try:
        mlflow.set_tracking_uri(uri)
        with _patience(_PATIENCE_AT_FIRST):
            _open_database(uri)
            kind = mlflow.set_experiment(experiment).tags.get(EXPERIMENT_KIND, "")
        if not kind or kind.endswith("_inferred"):
            mlflow.set_experiment_tag(EXPERIMENT_KIND, MACHINE_LEARNING)
    except (mlflow.MlflowException, SQLAlchemyError, OSError, ImportError) as error:
        raise StoreUnreachable(_sentence(error)) from None


@contextlib.contextmanager
def plain_errors(advice: str = "") -> Iterator[None]:
    """Turn the error of a store that has stopped answering into `StoreUnreachable`; other errors pass.

    Args:
        advice: A sentence to add.
    """
    try:
        yield
    except Exception as error:
        if not does_not_answer(error):
            raise
        raise StoreUnreachable(f"{_sentence(error)}. {advice}".strip(". ")) from None


def does_not_answer(error: BaseException) -> bool:
    """Whether an error of MLflow's client means that the store does not answer."""
    return any(isinstance(one, _NO_ANSWER) for one in _chain(error))


def _sentence(error: BaseException) -> str:
    """What happened and what to do."""
    where = shown_uri()
    if not does_not_answer(error):
        return f"MLflow cannot be used at {where}: {_reason(error)}"
    return (
        f"MLflow does not answer at {where} ({_reason(error)}): start it, or unset MLFLOW_TRACKING_URI to use "
        f"{DEFAULT_TRACKING_URI}"
    )


def _reason(error: BaseException) -> str:
    """The cause of an error in a few words."""
    chain = list(_chain(error))
    if any(isinstance(one, requests.exceptions.Timeout | TimeoutError) for one in chain):
        return "no answer in time"
    if any(isinstance(one, ConnectionRefusedError) for one in chain):
        return "connection refused"
    if any(isinstance(one, socket.gaierror) for one in chain):
        return "there is no host of this name"
    described = str(chain[-1] if does_not_answer(error) else error).strip().splitlines()
    return described[0][:200] if described else type(error).__name__


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that led to it; urllib3 and SQLAlchemy keep theirs in attributes."""
    seen: set[int] = set()
    waiting: list[Any] = [error]
    while waiting:
        one = waiting.pop()
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [*one.args, one.__cause__, one.__context__]
        waiting += [getattr(one, "reason", None), getattr(one, "orig", None)]


def _open_database(uri: str) -> None:
    """Open the store once if it is a database: MLflow itself would try ten times, for 100 seconds."""
    try:
        url = sqlalchemy.make_url(uri)
    except ArgumentError:  # a directory
        return
    backend = url.get_backend_name()
    if backend not in ("postgresql", "mysql", "mssql", "sqlite"):
        return
    if backend == "sqlite" and url.database and not Path(url.database).parent.exists():
        Path(url.database).parent.mkdir(parents=True)
    timeout = {"connect_timeout": _DATABASE_SECONDS} if backend in ("postgresql", "mysql") else {}
    engine = sqlalchemy.create_engine(url, connect_args=timeout)
    with contextlib.closing(engine.connect()):
        pass
    engine.dispose()


def _set_patience(values: Mapping[Any, Any]) -> None:
    """Set defaults of MLflow's settings; environment variables of the same names win."""
    for setting, value in values.items():
        setting.default = value


@contextlib.contextmanager
def _patience(values: Mapping[Any, Any]) -> Iterator[None]:
    """Set defaults of MLflow's settings for a while."""
    before = {setting: setting.default for setting in values}
    _set_patience(values)
    try:
        yield
    finally:
        _set_patience(before)
