# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Methods to evaluate: models, the untouched input, and predictions made elsewhere."""

import math
import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rasterio.io import DatasetReader
from torch import Tensor, nn
from torchgeo.datasets.utils import Path, Sample

from ..datasets.band_names import POSITION, find_bands
from ..datasets.modalities import MODALITIES, REFLECTANCE_SCALE
from ..raster.header import RasterHeader
from ..raster.read import (
    open_raster,
    read_array_header,
    read_pixels,
    read_raster_header,
)
from ..tasks import load_task
from .patches import EvaluationPatches, file_hash, fingerprint

#: Bands of a prediction.
BANDS = MODALITIES['clear'].bands

#: An image with a larger mean reflectance is in another unit.
MAX_MEAN = 2

#: So is an image whose mean is a smaller share of that of the clear image.
MIN_SHARE_OF_MEAN = 0.1

#: Largest number of patches that an error names.
MAX_NAMES = 5

#: Names that a method cannot have, because images of the data have them.
RESERVED = ('clear', 'cloudy')

#: Suffixes of predictions, and what may come before the name of a patch: that of the image
#: which was restored, as `planetcr remove-clouds` keeps it, or of the one it stands for.
SUFFIXES = ('.tif', '.tiff', '.npy')
PREFIXES = tuple(f'{MODALITIES[name].folder}_' for name in ('cloudy', 'clear'))

#: Advice on files whose values are in another unit.
HOW_TO_SAVE = (
    f'save reflectance as float32, or reflectance x {REFLECTANCE_SCALE} as uint16'
)

#: Advice on files whose bands are unclear.
HOW_TO_NAME = (
    f'call the bands {", ".join(MODALITIES["clear"].descriptions)}, in whatever order'
)


@dataclass(frozen=True)
class MethodDescription:
    """What a method is and where it comes from."""

    #: 'copy', 'checkpoint', 'module' or 'predictions'.
    kind: str

    #: Path of the checkpoint or of the folder of predictions, if there is one.
    source: str | None

    #: SHA-256 of the checkpoint, or fingerprint of the predictions.
    sha256: str | None


@dataclass(frozen=True)
class NetworkDescription(MethodDescription):
    """What a network is and where it comes from."""

    #: Name of the model.
    model: str


class Method(nn.Module):
    """Abstract base class of methods that restore images."""

    #: 'copy', 'checkpoint', 'module' or 'predictions'.
    kind: str

    @abstractmethod
    def forward(self, batch: Sample) -> Tensor:
        """Restore the images of a batch.

        Args:
            batch: Normalized samples of
                :class:`~torchgeo_planetcr.evaluation.EvaluationPatches`.

        Returns:
            Restored images of shape (B, C, H, W), nominal range [0, 1].
        """

    @abstractmethod
    def describe(self) -> MethodDescription:
        """Say what the method is and where it comes from.

        Returns:
            Its description.
        """


class Network(Method):
    """A model that removes clouds."""

    def __init__(
        self, model: nn.Module, kind: str, source: str | None, name: str
    ) -> None:
        """Initialize a new Network instance.

        Args:
            model: Module that is called as ``model(image, image_s1)``.
            kind: 'checkpoint' or 'module'.
            source: Path of its checkpoint.
            name: Name of the model.
        """
        super().__init__()
        self.model = model
        self.kind = kind
        self.description = NetworkDescription(
            kind, source, None if source is None else file_hash(source), name
        )

    def forward(self, batch: Sample) -> Tensor:
        """Restore the images of a batch, see :meth:`Method.forward`."""
        image = batch['image']
        # A network without channels for Sentinel-1 gets an image without any
        image_s1 = batch['image_s1'] if _uses_sentinel1(self.model) else image[:, :0]
        restored: Tensor = self.model(image, image_s1)
        return restored

    def describe(self) -> NetworkDescription:
        """Say what the method is and where it comes from, see :meth:`Method.describe`."""
        return self.description


class Copy(Method):
    """The untouched cloudy image, which needs nothing else."""

    kind = 'copy'

    def forward(self, batch: Sample) -> Tensor:
        """Return the images of a batch, see :meth:`Method.forward`."""
        image: Tensor = batch['image']
        return image

    def describe(self) -> NetworkDescription:
        """Say what the method is, see :meth:`Method.describe`."""
        return NetworkDescription(self.kind, None, None, 'copy')


#: By what values are multiplied and what is added then to get reflectance, for each band, of
#: shape (4, 1, 1).
type Scaling = tuple[NDArray[np.float64], NDArray[np.float64]]


class Raster(NamedTuple):
    """What is known of a GeoTIFF of a prediction."""

    header: RasterHeader

    #: Positions of B, G, R and NIR, from 1.
    bands: Sequence[int]

    #: None if the file declares none.
    scaling: Scaling | None


class Predictions(Method):
    """Images that were made elsewhere, one for each patch.

    They are called ``<patch>.tif`` or ``<patch>.npy``, or as the cloudy or the clear image
    of the patch is, in any subfolder. Unless a GeoTIFF declares a scale, whole numbers are
    reflectance x 10000 and floating-point numbers reflectance. They cover the patch or the
    evaluated window: a GeoTIFF by its georeference, an array of shape (4, H, W) by its
    size. Bands of a GeoTIFF are taken by their names, if it has any.
    """

    def __init__(self, folder: Path, patches: EvaluationPatches) -> None:
        """Initialize a new Predictions instance.

        Args:
            folder: Folder with the images.
            patches: Patches that they are of.

        Raises:
            ValueError: If a patch has no image or more than one, or if there is an
                image of none of the patches.
        """
        super().__init__()
        self.kind = 'predictions'
        self.folder = folder
        self.patches = patches
        files = _find_predictions(folder)
        names = patches.names
        missing = [name for name in names if name not in files]
        surplus = sorted(files.keys() - set(names))
        if missing:
            raise ValueError(
                f'{folder} has no image of {len(missing)} of the {len(names)} patches, '
                f'{_enumerate(missing)}: add images called {missing[0]}.tif or '
                f'{missing[0]}.npy'
            )
        if surplus:
            raise ValueError(
                f'{folder} has {len(surplus)} image(s) of no patch of the split, '
                f'{_enumerate(surplus)}: take them out, or evaluate their split'
            )
        self.files = [files[name] for name in names]
        #: The GeoTIFFs, looked at now so that errors do not come after hours, None for
        #: arrays.
        self.rasters = [self._check(number) for number in range(len(names))]

    def forward(self, batch: Sample) -> Tensor:
        """Read the images of a batch, see :meth:`Method.forward`."""
        has_data = (batch['image'] != 0).any(dim=1).cpu().numpy()
        arrays = list(map(self.read, batch['patch'].tolist(), has_data))
        images = torch.from_numpy(np.stack(arrays)).to(batch['image'].device)
        means = (image.mean(dim=(1, 2, 3)) for image in (images, batch['image_clear']))
        for number, mean, target in zip(batch['patch'], *means):
            if mean < MIN_SHARE_OF_MEAN * target:
                raise ValueError(
                    f'{self.files[number]} has a mean reflectance of {mean:.3g} where '
                    f'the clear image has {target:.3g}, so its values are in another '
                    f'unit: {HOW_TO_SAVE}'
                )
        return images

    def describe(self) -> MethodDescription:
        """Say where the images come from, see :meth:`Method.describe`."""
        files = {os.path.relpath(path, self.folder): path for path in self.files}
        return MethodDescription(self.kind, str(self.folder), fingerprint(files))

    def read(
        self, number: int, has_data: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        """Read the image of the window of a patch.

        Args:
            number: Number of the patch.
            has_data: Where the cloudy image has data, of shape (H, W) (defaults to
                everywhere). A GeoTIFF may have none elsewhere, which counts as 0, as in
                the cloudy image.

        Returns:
            Reflectance of shape (4, H, W).

        Raises:
            OSError: If the file cannot be read.
            ValueError: If its size, place, type or values cannot be right.
        """
        path, raster = self.files[number], self.rasters[number]
        try:
            array = self._read_pixels(number)
        # GDAL does not name the file, and a damaged one makes NumPy raise almost anything
        except Exception as error:
            raise OSError(f'{path} cannot be read, write it again: {error}') from error
        if raster is None:
            return _to_reflectance(array, path)
        nodata = raster.header.nodata
        if nodata is None:
            return _to_reflectance(array, path, raster.scaling)
        is_nodata = np.isnan(array) if math.isnan(nodata) else array == nodata
        is_empty = is_nodata.all(axis=0)
        if count := np.count_nonzero(
            is_empty if has_data is None else is_empty & has_data
        ):
            raise ValueError(
                f'{path} has {count} pixels without data ({nodata} in all bands): '
                'predict all pixels'
            )
        reflectance = _to_reflectance(
            np.where(is_empty, 0, array), path, raster.scaling
        )
        return np.where(is_empty, np.float32(0), reflectance)

    def _read_pixels(self, number: int) -> NDArray[Any]:
        """Read the window of a patch as the file has it."""
        window, raster = self.patches.window_grid(number), self.rasters[number]
        if raster is not None:
            row, col = raster.header.grid.offset(window)
            return read_pixels(
                raster.header,
                row,
                col,
                window.height,
                window.width,
                raster.bands,
                driver='GTiff',
            )
        array = np.load(self.files[number], allow_pickle=False)
        if array.shape[1:] != (window.height, window.width):
            row, col = self.patches.patch_grid(number).offset(window)
            array = array[:, row : row + window.height, col : col + window.width]
        return array

    def _check(self, number: int) -> Raster | None:
        """Check that an image fits, and look at a GeoTIFF."""
        path = self.files[number]
        if path.lower().endswith('.npy'):
            self._check_array(number, path)
            return None
        return self._check_raster(number, path)

    def _check_array(self, number: int, path: str) -> None:
        """Check type and shape of an array."""
        shape, layout, _ = read_array_header(path)
        _check_type(np.dtype(layout.dtype), path)
        grids = self.patches.window_grid(number), self.patches.patch_grid(number)
        window, patch = [(len(BANDS), grid.height, grid.width) for grid in grids]
        if shape not in (window, patch):
            also = '' if window == patch else f' or, for the whole patch, {patch}'
            raise ValueError(
                f'{path} has shape {shape}, expected {window}{also}: save bands '
                f'{", ".join(BANDS)} first, on the grid of the patch'
            )

    def _check_raster(self, number: int, path: str) -> Raster:
        """Check that a GeoTIFF holds the window of its patch."""
        name, window = self.patches.names[number], self.patches.window_grid(number)
        header = read_raster_header(path, len(BANDS), driver='GTiff')
        grid = header.grid
        if grid.crs != window.crs:
            raise ValueError(
                f'{path} is in {grid.crs}, but {name} in {window.crs}: write '
                'predictions with the CRS and the transform of their patch'
            )
        row, col = grid.offset(window)
        snapped = grid.window(row, col, window.height, window.width)
        is_close = np.allclose(snapped.bounds, window.bounds, rtol=0, atol=0.01)
        if not (grid.same_lattice(window) and grid.holds(window) and is_close):
            raise ValueError(
                f'{path} has {grid.height} x {grid.width} pixels of {grid.res} in '
                f'{grid.bounds}, which do not hold {window.height} x {window.width} '
                f'pixels of {window.res} in {window.bounds}, those of {name}: write '
                'predictions with the size and the transform of their patch'
            )
        with open_raster(path, 'GTiff') as dataset:
            _check_type(np.dtype(dataset.dtypes[0]), path)
            bands = _find_bands(dataset)
            return Raster(header, bands, _find_scaling(dataset, bands))


def _find_bands(dataset: DatasetReader) -> list[int]:
    """Find the bands of a prediction."""
    names = dataset.descriptions
    colors = [color.name for color in dataset.colorinterp]
    if not any(names) and colors[:3] == ['red', 'green', 'blue']:
        # What the file says is all that there is
        names = colors
    is_named = any(name and not POSITION.fullmatch(name) for name in names)
    if not is_named and dataset.count != len(BANDS):
        # Eight may be the bands of a product, or four and how sure they are
        raise ValueError(
            f'{dataset.name} has {dataset.count} bands without names instead of '
            f'{len(BANDS)}: {HOW_TO_NAME}'
        )
    return find_bands(dataset.name, dataset.count, names, HOW_TO_NAME)


def _find_scaling(dataset: DatasetReader, bands: Sequence[int]) -> Scaling | None:
    """Find the scale and offset of bands, None if the file declares none."""
    scaling = [
        np.array([values[band - 1] for band in bands])[:, np.newaxis, np.newaxis]
        for values in (dataset.scales, dataset.offsets)
    ]
    scale, offset = scaling
    return (scale, offset) if (scale != 1).any() or offset.any() else None


def _find_predictions(folder: Path) -> dict[str, str]:
    """Find the image of each patch in a folder and its subfolders."""
    files: dict[str, str] = {}
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            stem, suffix = os.path.splitext(name)
            # Hidden files are those that other systems leave beside each file
            if suffix.lower() not in SUFFIXES or name.startswith('.'):
                continue
            patch = stem
            for prefix in PREFIXES:
                patch = patch.removeprefix(prefix)
            path = os.path.join(parent, name)
            if patch in files:
                raise ValueError(
                    f'{files[patch]} and {path} are of the same patch: remove one of '
                    'them'
                )
            files[patch] = path
    return files


def _enumerate(names: Sequence[str]) -> str:
    """Name a few of many patches."""
    rest = len(names) - MAX_NAMES
    return ', '.join(names[:MAX_NAMES]) + (f' and {rest} more' if rest > 0 else '')


def _check_type(dtype: np.dtype, path: str) -> None:
    """Check that values of a type can be reflectance."""
    is_whole = dtype.kind in 'iu' and dtype.itemsize > 1
    if not is_whole and dtype.kind != 'f':
        raise ValueError(f'{path} is {dtype}: {HOW_TO_SAVE}')


def _to_reflectance(
    array: NDArray[Any], path: str, scaling: Scaling | None = None
) -> NDArray[np.float32]:
    """Convert the values of a file to reflectance.

    Args:
        array: Values of the file.
        path: Path of the file, for errors.
        scaling: What the file says of its values (defaults to reflectance x 10000 for
            whole numbers, and reflectance for others).

    Returns:
        Reflectance.

    Raises:
        ValueError: If they are of a wrong type or in a wrong unit, or NaN.
    """
    _check_type(array.dtype, path)
    if count := np.count_nonzero(~np.isfinite(array)):
        raise ValueError(
            f'{path} has {count} values that are NaN or infinite: predict all pixels'
        )
    if scaling is not None:
        scale, offset = scaling
        reflectance = (array * scale + offset).astype(np.float32)
    else:
        reflectance = array.astype(np.float32)
        if array.dtype.kind in 'iu':
            reflectance /= REFLECTANCE_SCALE
    mean = float(reflectance.mean())
    if abs(mean) > MAX_MEAN:
        raise ValueError(
            f'{path} ({array.dtype}) has a mean of {array.mean():.6g}: {HOW_TO_SAVE}'
        )
    return reflectance


def load_methods(
    sources: Sequence[Path] | Mapping[str, Path | nn.Module],
    patches: EvaluationPatches,
    model: str | None = None,
) -> dict[str, Method]:
    """Load the methods to evaluate.

    Args:
        sources: ``'copy'``, paths of checkpoints and folders of predictions, by name or
            as ``'NAME=PATH'``. Without a name, a checkpoint has the name of its model,
            and a folder its own. A module, which is called as
            ``model(image, image_s1)``, can only be given by name.
        patches: Patches to evaluate on.
        model: Class of the model of a checkpoint that needs it, see
            :func:`~torchgeo_planetcr.tasks.load_task`.

    Returns:
        Methods by name.

    Raises:
        TypeError: If *sources* is a path.
        ValueError: If there is none, if two have the same name, if a path does not
            exist, or if it is neither a checkpoint nor a folder of predictions.
    """
    if isinstance(sources, str | os.PathLike):
        raise TypeError(f'methods must be a list, as in [{str(sources)!r}]')
    if isinstance(sources, Mapping):
        named = [(name, source) for name, source in sources.items()]
    else:
        named = [_split(os.fspath(source)) for source in sources]
    methods: dict[str, Method] = {}
    for given, source in named:
        name, method = _load(source, patches, model)
        name = given or name
        if name in RESERVED:
            raise ValueError(
                f'A method cannot be called {name!r}, like images of the data: give '
                f"another name, as in 'my-{name}={source}'"
            )
        if name in methods:
            raise ValueError(
                f'Two methods are called {name!r}: give them names, as in '
                f"'{name}-2={source}'"
            )
        methods[name] = method
    if not methods:
        raise ValueError(
            "methods has nothing to evaluate: name 'copy', a checkpoint or a folder"
        )
    return methods


def _split(source: str) -> tuple[str | None, str]:
    """Split NAME=PATH; names of Lightning's checkpoints have an equals sign, too."""
    name, separator, path = source.partition('=')
    is_named = separator and (path == 'copy' or os.path.exists(path))
    return (name, path) if is_named and not os.path.exists(source) else (None, source)


def _load(
    source: Path | nn.Module, patches: EvaluationPatches, model: str | None
) -> tuple[str, Method]:
    """Load a method, and name it."""
    if isinstance(source, nn.Module):
        name = type(source).__name__
        _check_sentinel1(source, name, patches)
        # The given module keeps its device and its mode
        return name, Network(deepcopy(source), 'module', None, name)
    if source == 'copy':
        return 'copy', Copy()
    path = os.fspath(source)
    if os.path.isdir(path):
        return os.path.basename(os.path.abspath(path)), Predictions(path, patches)
    if not os.path.exists(path):
        raise ValueError(
            f"'{path}' is neither 'copy' nor a file or folder: check the path"
        )
    task = load_task(path, model)
    name = task.hparams.get('model')
    if not isinstance(name, str):
        name = type(task.model).__name__
    _check_sentinel1(task, path, patches)
    return name, Network(task, 'checkpoint', path, name)


def _uses_sentinel1(network: nn.Module) -> bool:
    """Whether a task or a model has channels for Sentinel-1."""
    model = getattr(network, 'model', network)
    return getattr(model, 'sar_channels', None) != 0


def _check_sentinel1(network: nn.Module, name: str, patches: EvaluationPatches) -> None:
    """Refuse a network that uses Sentinel-1 where there is none."""
    dataset = patches.dataset
    if 'sentinel1' not in dataset.modalities and _uses_sentinel1(network):
        raise ValueError(
            f'{name} needs Sentinel-1, of which split={dataset.split!r} of '
            f'{dataset.root} has no file: add these files, or evaluate methods that need '
            'none'
        )
