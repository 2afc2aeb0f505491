# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""The summary of an evaluation: all figures, and what they were made with."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import Field, dataclass, fields, is_dataclass
from typing import Any, cast

from .landcover import LandCoverComparison, LandCoverFigure, LandCoverGap
from .methods import MethodDescription, NetworkDescription
from .statistics import Comparison, Figure

#: Version of the format of ``summary.json``.
FORMAT = 1


@dataclass(frozen=True)
class Hardware:
    """What the evaluation ran on."""

    #: Type of the device, such as 'cuda', and its own name.
    accelerator: str
    device: str

    processes: int
    batch_size: int
    precision: str


@dataclass(frozen=True)
class Data:
    """What the methods were evaluated on."""

    root: str
    split: str

    #: Numbers of patches and of areas.
    patches: int
    areas: int

    #: See :func:`~torchgeo_planetcr.evaluation.fingerprint`.
    fingerprint: str


@dataclass(frozen=True)
class MetricDescription:
    """What a reader of the figures has to know of a metric."""

    #: Empty if the metric has none.
    unit: str

    higher_is_better: bool
    description: str


@dataclass(frozen=True)
class ProtocolDescription:
    """What exactly was measured, and on which pixels."""

    #: Name of the protocol, with ' (modified)' if its window or alignment was changed.
    name: str

    #: Height and width of the window in pixels, None for the whole patch.
    size: tuple[int, int] | None

    alignment: str
    description: str

    #: Metrics by name, the most important one first.
    metrics: Mapping[str, MetricDescription]


@dataclass(frozen=True)
class Bootstrap:
    """How intervals were found."""

    #: What is drawn in each resample.
    unit: str

    resamples: int
    seed: int

    #: Share of the resamples that lie within an interval.
    level: float


@dataclass(frozen=True)
class LandCoverModel:
    """Network that maps land cover."""

    #: Path and SHA-256 of its checkpoint.
    source: str
    sha256: str

    model: str
    backbone: str

    #: 1 for the authors' seven classes, 2 for WorldCover's eleven.
    level: int


@dataclass(frozen=True)
class LandCoverSummary:
    """How well land cover is mapped from each image."""

    model: LandCoverModel
    figures: list[LandCoverFigure]
    gaps: list[LandCoverGap]
    comparisons: list[LandCoverComparison]


@dataclass(frozen=True)
class Summary:
    """All figures of an evaluation, and what they were made with."""

    format: int

    #: Date and time in the format of ISO 8601.
    created: str

    #: Versions of Python and of the packages on which the figures depend.
    versions: Mapping[str, str]

    hardware: Hardware
    data: Data
    protocol: ProtocolDescription
    bootstrap: Bootstrap
    methods: Mapping[str, MethodDescription]
    figures: list[Figure]
    comparisons: list[Comparison]

    #: None without a network that maps land cover.
    landcover: LandCoverSummary | None

    #: What a reader of the figures should know.
    notes: list[str]


def to_json(value: Any) -> Any:
    """Convert a summary, or a part of it, into the content of ``summary.json``.

    Args:
        value: Dataclasses, mappings, sequences, numbers and texts.

    Returns:
        Dictionaries and lists, with None in the place of NaN, which JSON does not have.
    """
    if is_dataclass(value):
        return {
            _key(field): to_json(getattr(value, field.name)) for field in fields(value)
        }
    if isinstance(value, Mapping):
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def from_json(content: Mapping[str, Any]) -> Summary:
    """Make a summary from the content of ``summary.json``.

    Args:
        content: What :func:`to_json` returns of a summary.

    Returns:
        The summary.
    """
    return Summary(
        format=content['format'],
        created=content['created'],
        versions=content['versions'],
        hardware=Hardware(**content['hardware']),
        data=Data(**content['data']),
        protocol=_read_protocol(content['protocol']),
        bootstrap=Bootstrap(**content['bootstrap']),
        methods={n: _read_method(method) for n, method in content['methods'].items()},
        figures=_read_records(Figure, content['figures']),
        comparisons=_read_records(Comparison, content['comparisons']),
        landcover=_read_landcover(content['landcover']),
        notes=content['notes'],
    )


def _read_protocol(content: Mapping[str, Any]) -> ProtocolDescription:
    """Make the description of a protocol."""
    size = content['size']
    return ProtocolDescription(
        name=content['name'],
        size=None if size is None else tuple(size),
        alignment=content['alignment'],
        description=content['description'],
        metrics={n: MetricDescription(**m) for n, m in content['metrics'].items()},
    )


def _read_method(content: Mapping[str, Any]) -> MethodDescription:
    """Make the description of a method."""
    kind = NetworkDescription if 'model' in content else MethodDescription
    return kind(**content)


def _read_landcover(content: Mapping[str, Any] | None) -> LandCoverSummary | None:
    """Make the summary of land cover."""
    if content is None:
        return None
    return LandCoverSummary(
        LandCoverModel(**content['model']),
        _read_records(LandCoverFigure, content['figures']),
        _read_records(LandCoverGap, content['gaps']),
        _read_records(LandCoverComparison, content['comparisons']),
    )


def _key(field: Field[Any]) -> str:
    """Key of a field in JSON, which may be a word that Python keeps for itself."""
    return field.metadata.get('key', field.name)


def _read_records[Record](
    kind: type[Record], rows: Iterable[Mapping[str, Any]]
) -> list[Record]:
    """Make records of a kind, with NaN in the place of None."""
    own_fields: tuple[Field[Any], ...] = fields(cast(Any, kind))

    def read(row: Mapping[str, Any], field: Field[Any]) -> Any:
        value = row[_key(field)]
        return math.nan if value is None and field.type is float else value

    return [kind(**{f.name: read(row, f) for f in own_fields}) for row in rows]
