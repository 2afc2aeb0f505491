# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""What is evaluated: models, the untouched input, and predictions made elsewhere."""

import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchgeo.datasets.utils import Path, Sample

from ..raster.header import RasterHeader
from ..raster.read import read_array_header, read_pixels, read_raster_header
from ..tasks import CloudRemoval, load_task
from .patches import EvaluationPatches, file_hash, fingerprint

#: What stands for reflectance of 1 in files of whole numbers.
SCALE = 10000

#: Mean reflectance that no image has: its values are in another unit.
MAX_MEAN = 2

#: A smaller share of the mean of the target no image has, however dark it came out.
MIN_SHARE = 0.1

#: Bands of an image: B, G, R, NIR.
BANDS = 4

#: Patches that an error names.
MAX_NAMES = 5

#: Names of images that are no method's.
RESERVED = ('clear', 'cloudy')

#: Suffixes of predictions.
SUFFIXES = ('.tif', '.tiff', '.npy')


class Method(nn.Module):
    """Abstract base class of what makes cloud-free images."""

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
    def describe(self) -> dict[str, Any]:
        """Say what it is and where it comes from.

        Returns:
            ``kind``, ``source`` and ``sha256``, and what else is known.
        """


class Network(Method):
    """A model of cloud removal."""

    def __init__(
        self, model: nn.Module, kind: str, source: str | None, name: str
    ) -> None:
        """Initialize a new Network instance.

        Args:
            model: Module that is called as ``model(image, image_s1)``.
            kind: 'copy', 'checkpoint' or 'module'.
            source: Path of its checkpoint.
            name: Name of the model.
        """
        super().__init__()
        self.model = model
        self.kind = kind
        self.description = {
            'kind': kind,
            'source': source,
            'sha256': source and file_hash(source),
            'model': name,
        }

    def forward(self, batch: Sample) -> Tensor:
        """Restore the images of a batch, see :meth:`Method.forward`."""
        restored: Tensor = self.model(batch['image'], batch['image_s1'])
        return restored

    def describe(self) -> dict[str, Any]:
        """Say what it is and where it comes from, see :meth:`Method.describe`."""
        return self.description


class Predictions(Method):
    """Images that were made elsewhere, one for each patch.

    They are called ``<patch>.tif`` or ``<patch>.npy``, in whatever subfolder. Whole
    numbers are reflectance x 10000 and floating-point numbers reflectance. They cover
    the patch or the evaluated window: a GeoTIFF by its georeference, an array of shape
    (4, H, W) by its size.
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
        files: dict[str, str] = {}
        for parent, folders, names in os.walk(folder):
            folders.sort()
            for name in sorted(names):
                patch, suffix = os.path.splitext(name)
                if suffix.lower() in SUFFIXES:
                    path = os.path.join(parent, name)
                    if patch in files:
                        msg = (
                            f'{files[patch]} and {path} are of the same patch: remove '
                        )
                        msg += 'one of them.'
                        raise ValueError(msg)
                    files[patch] = path

        names = patches.names
        missing = [name for name in names if name not in files]
        surplus = sorted(files.keys() - set(names))
        if missing:
            msg = (
                f'{folder} has no image of {len(missing)} of the {len(names)} patches: '
            )
            msg += f'{_enumerate(missing)}. An image is called {missing[0]}.tif or '
            msg += f'{missing[0]}.npy.'
            raise ValueError(msg)
        if surplus:
            msg = f'{folder} has {len(surplus)} image(s) of no patch of the split: '
            msg += f'{_enumerate(surplus)}. Take them out, or evaluate their split.'
            raise ValueError(msg)
        self.files = [files[name] for name in names]
        #: Headers of the GeoTIFFs. Read now, as errors should not come after hours.
        self.headers = [self._check(number) for number in range(len(names))]

    def forward(self, batch: Sample) -> Tensor:
        """Read the images of a batch, see :meth:`Method.forward`."""
        arrays = [self.read(number) for number in batch['patch'].tolist()]
        images = torch.from_numpy(np.stack(arrays)).to(batch['image'].device)
        means = (image.mean(dim=(1, 2, 3)) for image in (images, batch['image_clear']))
        for number, mean, target in zip(batch['patch'], *means):
            if mean < MIN_SHARE * target:
                msg = (
                    f'{self.files[number]} has a mean reflectance of {mean:.3g} where '
                )
                msg += f'the cloud-free image has {target:.3g}: its values are in '
                msg += 'another unit. Save reflectance as float32, or reflectance x '
                msg += '10000 as uint16.'
                raise ValueError(msg)
        return images

    def describe(self) -> dict[str, Any]:
        """Say where they come from, see :meth:`Method.describe`."""
        files = {os.path.relpath(path, self.folder): path for path in self.files}
        return {
            'kind': self.kind,
            'source': str(self.folder),
            'sha256': fingerprint(files),
        }

    def read(self, number: int) -> NDArray[np.float32]:
        """Read the image of the window of a patch.

        Args:
            number: Number of the patch.

        Returns:
            Reflectance of shape (4, H, W).

        Raises:
            OSError: If the file cannot be read.
            ValueError: If its size, place, type or values cannot be right.
        """
        path, window = self.files[number], self.patches.window_grid(number)
        header = self.headers[number]
        try:
            if header is None:
                array = np.load(path, allow_pickle=False)
                if array.shape[1:] != (window.height, window.width):
                    row, col = self.patches.patch_grid(number).offset(window)
                    array = array[
                        :, row : row + window.height, col : col + window.width
                    ]
            else:
                row, col = header.grid.offset(window)
                array = read_pixels(
                    header, row, col, window.height, window.width, driver='GTiff'
                )
        # GDAL does not name the file, and a damaged one makes NumPy raise almost anything
        except Exception as error:
            msg = f'{path} cannot be read, write it again: {error}'
            raise OSError(msg) from error
        if len(array) != BANDS:
            msg = f'{path} has {len(array)} bands instead of {BANDS} (B, G, R, NIR).'
            raise ValueError(msg)
        if header is not None and header.nodata is not None:
            count = np.count_nonzero((array == header.nodata).all(axis=0))
            if count:
                msg = f'{path} has {count} pixels without data ({header.nodata} in all '
                msg += 'bands): predict all pixels.'
                raise ValueError(msg)
        return _to_reflectance(array, path)

    def _check(self, number: int) -> RasterHeader | None:
        """Read the header of an image, None for an array, and see that it fits."""
        path, name = self.files[number], self.patches.names[number]
        patch = self.patches.patch_grid(number)
        window = self.patches.window_grid(number)
        if path.lower().endswith('.npy'):
            shape, layout, _ = read_array_header(path)
            _check_type(np.dtype(layout.dtype), path)
            shapes = [(BANDS, grid.height, grid.width) for grid in (window, patch)]
            if shape not in shapes:
                msg = f'{path} has shape {shape}, expected {shapes[0]}'
                if window != patch:
                    msg += f' or, for the whole patch, {shapes[1]}'
                msg += ': save bands B, G, R, NIR first, on the grid of the patch.'
                raise ValueError(msg)
            return None

        header = read_raster_header(path, BANDS, driver='GTiff')
        grid = header.grid
        if grid.crs != window.crs:
            msg = f'{path} is in {grid.crs}, but {name} in {window.crs}: write '
            msg += 'predictions with the CRS and the transform of their patch.'
            raise ValueError(msg)
        row, col = grid.offset(window)
        snapped = grid.window(row, col, window.height, window.width)
        is_inside = (
            0 <= row <= grid.height - window.height
            and 0 <= col <= grid.width - window.width
        )
        is_close = np.allclose(snapped.bounds, window.bounds, rtol=0, atol=0.01)
        if not (grid.same_lattice(window) and is_inside and is_close):
            msg = f'{path} has {grid.height} x {grid.width} pixels of {grid.res} in '
            msg += f'{grid.bounds}, which do not hold {window.height} x {window.width} '
            msg += f'pixels of {window.res} in {window.bounds}, those of {name}: write '
            msg += 'predictions with the size and the transform of their patch.'
            raise ValueError(msg)
        return header


def _enumerate(names: Sequence[str]) -> str:
    """Name a few of many patches."""
    rest = len(names) - MAX_NAMES
    return ', '.join(names[:MAX_NAMES]) + (f' and {rest} more' if rest > 0 else '')


def _check_type(dtype: np.dtype, path: str) -> None:
    """Refuse a type of values that cannot be reflectance."""
    is_whole = dtype.kind in 'iu' and dtype.itemsize > 1
    if not is_whole and dtype.kind != 'f':
        msg = f'{path} is {dtype}: save reflectance as float32, or reflectance x 10000 '
        msg += 'as uint16.'
        raise ValueError(msg)


def _to_reflectance(array: NDArray[Any], path: str) -> NDArray[np.float32]:
    """Convert the values of a file to reflectance.

    Args:
        array: Values of the file.
        path: Path of the file, for errors.

    Returns:
        Reflectance.

    Raises:
        ValueError: If they are of a wrong type or in a wrong unit, or NaN.
    """
    _check_type(array.dtype, path)
    if count := np.count_nonzero(~np.isfinite(array)):
        msg = f'{path} has {count} values that are NaN or infinite: predict all pixels.'
        raise ValueError(msg)
    reflectance = array.astype(np.float32)
    if array.dtype.kind in 'iu':
        reflectance /= SCALE
    mean = float(reflectance.mean())
    if abs(mean) > MAX_MEAN:
        msg = f'{path} ({array.dtype}) has a mean of {array.mean():.6g}: save '
        msg += 'reflectance as float32, or reflectance x 10000 as uint16.'
        raise ValueError(msg)
    return reflectance


def load_methods(
    sources: Sequence[Path] | Mapping[str, Path | nn.Module], patches: EvaluationPatches
) -> dict[str, Method]:
    """Load what is to be evaluated.

    Args:
        sources: ``'copy'``, paths of checkpoints and folders of predictions, by name or
            as ``'NAME=PATH'``. Without a name, a checkpoint is called like its model,
            and a folder like itself. By name also a module, which is called as
            ``model(image, image_s1)``.
        patches: Patches to evaluate on.

    Returns:
        Methods by name.

    Raises:
        TypeError: If *sources* is a path.
        ValueError: If there is none, if two have the same name, if a path does not
            exist, or if it is neither a checkpoint nor a folder of predictions.
    """
    if isinstance(sources, str | os.PathLike):
        msg = f'methods must be a list, as in [{str(sources)!r}].'
        raise TypeError(msg)
    if isinstance(sources, Mapping):
        named = [(name, source) for name, source in sources.items()]
    else:
        named = [_split(os.fspath(source)) for source in sources]
    methods: dict[str, Method] = {}
    for given, source in named:
        name, method = _load(source, patches)
        name = given or name
        if name in RESERVED:
            msg = f'A method cannot be called {name!r}, like images of the data: give '
            msg += f"another name, as in 'my-{name}={source}'."
            raise ValueError(msg)
        if name in methods:
            msg = f'Two methods are called {name!r}: give them names, as in '
            msg += f"'{name}-2={source}'."
            raise ValueError(msg)
        methods[name] = method
    if not methods:
        msg = "There is nothing to evaluate: name 'copy', a checkpoint or a folder."
        raise ValueError(msg)
    return methods


def _split(source: str) -> tuple[str | None, str]:
    """Split NAME=PATH; Lightning's checkpoints have an equals sign in their own name."""
    name, separator, path = source.partition('=')
    is_named = separator and (path == 'copy' or os.path.exists(path))
    return (name, path) if is_named and not os.path.exists(source) else (None, source)


def _load(source: Path | nn.Module, patches: EvaluationPatches) -> tuple[str, Method]:
    """Load a method, and name it."""
    if isinstance(source, nn.Module):
        name = type(source).__name__
        # The device and the mode of what was given are not ours to change
        return name, Network(deepcopy(source), 'module', None, name)
    if source == 'copy':
        return 'copy', Network(CloudRemoval('copy'), 'copy', None, 'copy')
    path = os.fspath(source)
    if os.path.isdir(path):
        return os.path.basename(os.path.abspath(path)), Predictions(path, patches)
    if not os.path.exists(path):
        msg = f"'{path}' is neither 'copy' nor a file or folder, check the path."
        raise ValueError(msg)
    task = load_task(path)
    name = task.hparams['model']
    if not isinstance(name, str):
        name = type(task.model).__name__
    return name, Network(task, 'checkpoint', path, name)
