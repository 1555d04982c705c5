"""What can label: each method by name, and how it is opened. A method's own libraries are imported when it is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dataengine.core.errors import UnknownName, UsageError
from dataengine.core.labelling import Labeller

if TYPE_CHECKING:
    from dataengine.models.checkpoint import Checkpoint

Options = Mapping[str, Any]


def _idm(checkpoint: Checkpoint, device: str, options: Options) -> Labeller:
    from dataengine.labels.idm import open_idm

    return open_idm(checkpoint, device, options.get("body"))


def _latent(checkpoint: Checkpoint, device: str, options: Options) -> Labeller:
    from dataengine.labels.latent import open_latent

    return open_latent(checkpoint, device)


def _mapped(checkpoint: Checkpoint, device: str, options: Options) -> Labeller:
    from dataengine.labels.mapped import open_mapped

    return open_mapped(checkpoint, device)


def _value(checkpoint: Checkpoint, device: str, options: Options) -> Labeller:
    from dataengine.labels.value import open_value

    return open_value(checkpoint, device)


def _flow_ridge(checkpoint: Checkpoint, device: str, options: Options) -> Labeller:
    from dataengine.labels.flow_ridge import open_flow_ridge

    return open_flow_ridge(checkpoint, device)


def _retarget(options: Options) -> Labeller:
    from dataengine.labels.retarget import open_retarget

    return open_retarget(options)


@dataclass(frozen=True)
class Method:
    """A way to label.

    Attributes:
        of_model: opens a model of this kind for labelling, given its checkpoint, a device and options; None for a method that needs no model.
        alone: opens a method that needs no model, given options.
        options: the options that it knows; None for a method that says so itself.
    """

    of_model: Callable[[Checkpoint, str, Options], Labeller] | None = None
    alone: Callable[[Options], Labeller] | None = None
    options: tuple[str, ...] | None = ()


LABELLERS: dict[str, Method] = {
    "idm": Method(_idm, options=("body",)),
    "latent": Method(_latent),
    "mapped": Method(_mapped),
    "value": Method(_value),
    "flow_ridge": Method(_flow_ridge),
    "retarget": Method(alone=_retarget, options=None),
}


def find_method(name: str) -> Method:
    """Return a method by its name; raise UnknownName."""
    if name not in LABELLERS:
        raise UnknownName("labelling method", name, LABELLERS)
    return LABELLERS[name]


def open_method(name: str, method: Method, model: str | None, device: str, options: Options) -> Labeller:
    """Open a method for labelling: see `open_labeller`."""
    unknown = [] if method.options is None else sorted(set(options) - set(method.options))
    if unknown and method.options is not None:
        raise UnknownName(f"option of {name}", unknown[0], method.options)
    if method.of_model is None:
        if model is not None:
            raise UsageError(f"label {name}: needs no model, got {model}; leave out --model")
        assert method.alone is not None
        return method.alone(options)
    if model is None:
        raise UsageError(f"label {name}: needs a model, got none; name the folder of one with --model")
    from dataengine.models.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(model)
    if checkpoint.kind != name:
        kinds = " or ".join(f"`dataengine label {kind}`" for kind in LABELLERS if kind == checkpoint.kind)
        advice = f"label with {kinds}" if kinds else f"name a folder that `dataengine train {name}` wrote"
        raise UsageError(f"{model}: must hold a model of the kind {name!r}, found one of the kind {checkpoint.kind!r}; {advice}")
    try:
        return method.of_model(checkpoint, device, options)
    except KeyError as error:
        raise UsageError(f"{model}/config.json: must say {error.args[0]!r}, and does not; it is of another version of dataengine: train it anew") from error


def open_labeller(method: str, model_dir: str | None, device: str = "cpu", options: Options | None = None) -> Labeller:
    """Open a method of labelling.

    Args:
        method: its name, as in `LABELLERS`.
        model_dir: folder of the model that it labels with; None for a method that needs none.
        device: where the model runs: "cpu", "cuda".
        options: choices of the method, by name.

    Raises:
        UsageError: there is no such method or option, or the folder holds no model of this kind.
    """
    return open_method(method, find_method(method), model_dir, device, options or {})
