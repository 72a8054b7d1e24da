"""Attach to a Ray cluster, or start one on this host, without surprises: no statistics, no chatter, no open ports."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from schedcmp.errors import RequestError
from schedcmp.guard.private import silence_obituaries
from schedcmp.sweep.parts.making import Ray

INSTALL = 'executor: ray needs the package ray: pip install "schedcmp[ray]"'
_ANSWER_S = 10.0
# Ray reads them when it is imported
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a worker without a GPU sees none; else Ray warns that this will change
}
_AUTHENTICATION = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


def find_ray() -> Any:
    """The package. Raises RequestError: it is not installed."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise RequestError(INSTALL) from error
    return ray


@contextmanager
def connected(settings: Ray) -> Iterator[Any]:
    """While open, this process drives a cluster; yields the package `ray`. A cluster that was started here ends here.

    Raises:
        RequestError: Ray is not installed, or the cluster does not answer.
    """
    address = _address(settings.address)
    own = _own() if address == "local" else {}
    ray = find_ray()
    if ray.is_initialized():  # whoever did that will end it
        yield ray
        return
    _refuse_silence(address)
    options = {"address": address, "log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": False}
    try:
        ray.init(**options, **own)
    except Exception as error:  # ConnectionError, RuntimeError, AuthenticationError, ...
        raise _unusable(address, error) from error
    silence_obituaries(ray)
    try:
        yield ray
    finally:
        ray.shutdown()


def _refuse_silence(address: str) -> None:
    """Ray itself asks for minutes. Raises RequestError."""
    if address == "local":
        return
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_S).close()
    except (OSError, ValueError) as error:
        raise _unusable(address, error) from error


def _unusable(address: str, error: Exception) -> RequestError:
    return RequestError(
        f"executor: the Ray cluster at {address} cannot be used: {' '.join(str(error).split())[:300]}. "
        "Start it anew (ray stop, ray start --head), or give executor: {ray: {address: local}}"
    )


def _address(wanted: str) -> str:
    """Where to attach; "local" to start a cluster."""
    if wanted != "auto":
        return wanted
    started = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()) / "ray" / "ray_current_cluster"
    noted = started.read_text().strip() if started.is_file() else ""  # written by `ray start`
    return os.environ.get("RAY_ADDRESS") or noted or "local"


def _own() -> dict[str, Any]:
    """Options of a cluster of this process alone: on loopback, with a token of its own, which Ray would write into the
    home folder. Ray reads the variables when it is imported."""
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # else Ray takes the host's address for loopback's
    if not any(os.environ.get(name) for name in _AUTHENTICATION):
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
    return {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
