"""Messages between processes: msgpack of plain values, arrays and a closed set of types.

No message can run code when it is read, whatever text of a model is in it. Numbers arrive as the
same bits.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import msgpack
import numpy as np
from pydantic import BaseModel

from grpo.config.schema import AlgorithmConfig, LearnerConfig, OptimizerConfig
from grpo.config.sft import SftOptimizerConfig
from grpo.learner.spec import LearnerSpec
from grpo.rollout.vllm.engine import EngineSpec
from grpo.types import (
    Measured,
    Response,
    SampleRequest,
    SamplingSettings,
    Segment,
    StepSettings,
    TrainSample,
    WeightReport,
)

_ARRAY, _TUPLE, _DATACLASS, _SETTINGS = 1, 2, 3, 4  # codes of msgpack's extension types
_TYPES: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        *(Measured, Response, SampleRequest, SamplingSettings, Segment, StepSettings),
        *(TrainSample, WeightReport, EngineSpec, LearnerSpec),
        *(AlgorithmConfig, LearnerConfig, OptimizerConfig, SftOptimizerConfig),
    )
}


def encode(value: Any) -> bytes:
    """A message.

    Raises:
        TypeError: there is something in it that is no plain value and of no known type.
    """
    # With strict types a tuple, or a subclass of anything, is asked for and not taken for its like.
    found: bytes = msgpack.packb(value, default=_extension, strict_types=True)
    return found


def decode(message: bytes) -> Any:
    """What was encoded. Arrays are copies that can be written to."""
    return msgpack.unpackb(message, ext_hook=_value, strict_map_key=False)


def _extension(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        told = [value.dtype.str, list(value.shape), value.tobytes()]
        return msgpack.ExtType(_ARRAY, encode(told))
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple):
        return msgpack.ExtType(_TUPLE, encode(list(value)))
    if _TYPES.get(type(value).__name__) is not type(value):
        raise TypeError(f"{type(value).__name__} cannot be in a message")
    if isinstance(value, BaseModel):
        told = [type(value).__name__, value.model_dump_json()]
        return msgpack.ExtType(_SETTINGS, encode(told))
    fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return msgpack.ExtType(_DATACLASS, encode([type(value).__name__, fields]))


def _value(code: int, data: bytes) -> Any:
    told = decode(data)
    if code == _ARRAY:
        kind, shape, values = told
        return np.frombuffer(values, np.dtype(kind)).reshape(shape).copy()
    if code == _TUPLE:
        return tuple(told)
    name, content = told
    kind = _TYPES[name]
    if code == _SETTINGS:
        assert issubclass(kind, BaseModel)
        return kind.model_validate_json(content)
    assert code == _DATACLASS
    return kind(**content)
