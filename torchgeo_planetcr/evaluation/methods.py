# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""What is evaluated: models, the untouched input, and predictions made elsewhere."""

import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.lib.format as npy
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchgeo.datasets.utils import Path, Sample

from ..datasets.raster import read_pixels, read_raster_header
from ..models import read_checkpoint
from ..tasks import CloudRemoval
from .patches import EvaluationPatches, file_hash, fingerprint

#: What stands for reflectance of 1 in files of whole numbers.
SCALE = 10000

#: Mean reflectance that no image has: its values are in another unit.
MAX_MEAN = 2

#: Patches that an error names.
MAX_NAMES = 5

#: Names of images that are no method's.
RESERVED = ('clear', 'cloudy')

#: Suffixes of predictions.
SUFFIXES = ('.tif', '.tiff', '.npy')


class Method(nn.Module):
    """Abstract base class of what makes cloud-free images."""

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

    def forward(self, batch: Sample) -> Tensor:
        """Read the images of a batch, see :meth:`Method.forward`."""
        arrays = [self.read(number) for number in batch['patch'].tolist()]
        return torch.from_numpy(np.stack(arrays)).to(batch['image'].device)

    def describe(self) -> dict[str, Any]:
        """Say where they come from, see :meth:`Method.describe`."""
        files = {os.path.relpath(path, self.folder): path for path in self.files}
        return {
            'kind': 'predictions',
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
        path = self.files[number]
        if path.lower().endswith('.npy'):
            array = self._read_array(path, number)
        else:
            array = self._read_raster(path, number)
        return _to_reflectance(array, path)

    def _read_array(self, path: str, number: int) -> NDArray[Any]:
        """Read the window from a NumPy file."""
        try:
            with open(path, 'rb') as file:
                array = npy.read_array(file, allow_pickle=False)
        # A damaged file makes NumPy raise almost anything.
        except Exception as error:
            msg = f'{path} is not a readable NumPy array: {error}'
            raise OSError(msg) from error
        patch = self.patches.patch_grid(number)
        window = self.patches.window_grid(number)
        if array.shape == (4, window.height, window.width):
            return array
        if array.shape == (4, patch.height, patch.width):
            row, col = patch.offset(window)
            return array[:, row : row + window.height, col : col + window.width]
        msg = f'{path} has shape {array.shape}, expected '
        msg += f'{(4, window.height, window.width)}'
        if window != patch:
            msg += f' or, for the whole patch, {(4, patch.height, patch.width)}'
        msg += ': save bands B, G, R, NIR first, on the grid of the patch.'
        raise ValueError(msg)

    def _read_raster(self, path: str, number: int) -> NDArray[Any]:
        """Read the window from a GeoTIFF."""
        header = read_raster_header(path, driver='GTiff')
        window = self.patches.window_grid(number)
        grid, name = header.grid, self.patches.names[number]
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
        try:
            array = read_pixels(
                header, row, col, window.height, window.width, driver='GTiff'
            )
        # GDAL does not name the file
        except OSError as error:
            msg = f'{path} cannot be read, write it again: {error}'
            raise OSError(msg) from error
        if len(array) != 4:
            msg = f'{path} has {len(array)} bands instead of 4 (B, G, R, NIR).'
            raise ValueError(msg)
        # 0 is also a reflectance
        if header.nodata and (count := np.count_nonzero(array == header.nodata)):
            msg = f'{path} has {count} values without data ({header.nodata}): predict '
            msg += 'all pixels.'
            raise ValueError(msg)
        return array


def _enumerate(names: Sequence[str]) -> str:
    """Name a few of many patches."""
    rest = len(names) - MAX_NAMES
    return ', '.join(names[:MAX_NAMES]) + (f' and {rest} more' if rest > 0 else '')


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
    is_whole = array.dtype.kind in 'iu' and array.dtype.itemsize > 1
    if not is_whole and array.dtype.kind != 'f':
        msg = f'{path} is {array.dtype}: save reflectance as float32, or reflectance x '
        msg += '10000 as uint16.'
        raise ValueError(msg)
    if count := np.count_nonzero(~np.isfinite(array)):
        msg = f'{path} has {count} values that are NaN or infinite: predict all pixels.'
        raise ValueError(msg)
    reflectance = array.astype(np.float32)
    if is_whole:
        if array.max() <= 1:
            msg = (
                f'{path} holds {array.dtype} and nothing above 1: save reflectance as '
            )
            msg += 'float32, or reflectance x 10000 as uint16.'
            raise ValueError(msg)
        reflectance /= SCALE
    mean = float(reflectance.mean())
    if abs(mean) > MAX_MEAN:
        unit = 'reflectance x 10000' if is_whole else 'reflectance'
        msg = f'{path} has a mean of {array.mean():.6g}, which is no {unit}, as '
        msg += f'{array.dtype} is taken for.'
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
        ValueError: If there is none, if two have the same name, if a path does not
            exist, or if it is neither a checkpoint nor a folder of predictions.
    """
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
    if source == 'copy' or os.path.exists(source) or '=' not in source:
        return None, source
    name, _, path = source.partition('=')
    if os.path.dirname(name):
        return None, source
    return name, path


def _load(source: Path | nn.Module, patches: EvaluationPatches) -> tuple[str, Method]:
    """Load a method, and name it."""
    if isinstance(source, nn.Module):
        name = type(source).__name__
        return name, Network(source, 'module', None, name)
    if source == 'copy':
        return 'copy', Network(CloudRemoval('copy'), 'copy', None, 'copy')
    path = os.fspath(source)
    if os.path.isdir(path):
        return os.path.basename(os.path.abspath(path)), Predictions(path, patches)
    if not os.path.exists(path):
        msg = f"'{path}' is neither 'copy' nor a file or folder, check the path."
        raise ValueError(msg)
    task = _load_task(path)
    name = task.hparams['model']
    if not isinstance(name, str):
        name = type(task.model).__name__
    return name, Network(task, 'checkpoint', path, name)


def _load_task(path: str) -> CloudRemoval:
    """Load a checkpoint of Lightning or of the authors' code.

    Args:
        path: Path of the checkpoint.

    Returns:
        The task.

    Raises:
        ValueError: If it is none, or does not fit.
    """
    checkpoint = read_checkpoint(path)
    if isinstance(checkpoint, Mapping) and 'network' in checkpoint:
        errors = []
        for model in ('dsen2cr', 'glfcr', 'aligncr'):
            try:
                return CloudRemoval(model, weights=path)
            except ValueError as error:
                errors.append(error)
        raise errors[-1]
    if not isinstance(checkpoint, Mapping) or 'state_dict' not in checkpoint:
        msg = f"'{path}' is no checkpoint of Lightning: evaluate one that `planetcr "
        msg += 'fit` has written.'
        raise ValueError(msg)
    try:
        return CloudRemoval.load_from_checkpoint(
            path, map_location='cpu', weights_only=True
        )
    # What does not fit makes the task and PyTorch raise one or the other
    except Exception as error:
        msg = (
            f"'{path}' does not fit CloudRemoval. If its model was given as a module, "
        )
        msg += 'call `evaluate` from Python with the module. '
        msg += f'({type(error).__name__}: {str(error).splitlines()[0]})'
        raise ValueError(msg) from error
