"""Describe an image, as text and as JSON: ``streamerge inspect``."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from streamerge.errors import show
from streamerge.query.sizes import show_count, show_size
from streamerge.sources.blob import ImageLayer
from streamerge.sources.image import Image

__all__ = ["describe", "describe_json"]

_MAX_LINE = 160


def describe(image: Image) -> str:
    """Return a description of the image in lines; text from the image is made safe to print."""
    return "\n".join([*_table(_highlights(image)), "", *_layers(image)]) + "\n"


def describe_json(image: Image) -> bytes:
    """Return the image as one indented JSON object; its names are those of the OCI image spec."""
    config = image.config
    document = {
        "reference": image.reference,
        "names": image.names,
        "digest": _text(image.digest),
        "mediaType": image.media_type,
        "platform": {"os": config.os, "architecture": config.architecture, "variant": config.variant},
        "created": config.created,
        "author": config.author,
        "configDigest": str(image.config_digest),
        "config": msgspec.Raw(image.runtime_json().strip()),
        "layers": [_layer_object(layer) for layer in image.layers],
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def _layer_object(layer: ImageLayer) -> dict[str, object]:
    return {
        "index": layer.index,
        "name": layer.name,
        "digest": _text(layer.digest),
        "diffId": _text(layer.diff_id),
        "mediaType": layer.media_type,
        "size": layer.size,
        "history": layer.history,
    }


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _highlights(image: Image) -> Iterator[tuple[str, str]]:
    """Yield the name and value of what is most useful for running the image."""
    runtime = image.runtime
    yield "reference", image.reference
    yield "names", ", ".join(image.names)
    yield "manifest", " ".join(_manifest(image))
    yield "config", str(image.config_digest)
    yield "platform", str(image.platform)
    yield "created", image.config.created or ""
    yield "author", image.config.author or ""
    yield "user", runtime.user or ""
    yield "workdir", runtime.working_dir or ""
    yield "entrypoint", _list(runtime.entrypoint)
    yield "cmd", _list(runtime.cmd)
    yield "ports", ", ".join(runtime.exposed_ports or ())
    yield "volumes", ", ".join(runtime.volumes or ())
    yield "stop signal", runtime.stop_signal or ""
    for variable in runtime.env or ():
        yield "env", variable
    for key, value in (runtime.labels or {}).items():
        yield "label", f"{key}={value}"


def _manifest(image: Image) -> Iterator[str]:
    if image.digest is not None:
        yield str(image.digest)
    if image.media_type is not None:
        yield f"({image.media_type})"


def _list(words: list[str] | None) -> str:
    return msgspec.json.encode(words).decode() if words else ""


def _table(rows: Iterator[tuple[str, str]]) -> Iterator[str]:
    for name, value in rows:
        if value:
            yield f"{name:<12} {_fit(value)}"


def _layers(image: Image) -> Iterator[str]:
    total = sum(layer.size or 0 for layer in image.layers)
    yield f"{show_count(len(image.layers), 'layer')}, {show_size(total)}; base first"
    for layer in image.layers:
        yield f"{layer.index:>4}  {_identity(layer)}"
        size = show_size(layer.size) if layer.size is not None else "missing"
        yield "      " + "  ".join(filter(None, (size, layer.media_type and _fit(layer.media_type))))
        if layer.history:
            yield f"      {_fit(layer.history)}"


def _identity(layer: ImageLayer) -> str:
    if layer.digest is not None:
        return str(layer.digest)
    return f"{layer.diff_id} (diff_id)" if layer.diff_id is not None else layer.name


def _fit(text: str) -> str:
    """Return text as one line: white space folded, control characters escaped, long text cut."""
    line = show(" ".join(text[: 4 * _MAX_LINE].split()).encode("utf-8", "surrogateescape"))
    return line if len(line) <= _MAX_LINE else line[: _MAX_LINE - 1] + "…"
