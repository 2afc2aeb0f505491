# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""TorchGeo extension for the Planet-CR (M3R-CR) cloud-removal data set."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .datamodules import PlanetCRDataModule as PlanetCRDataModule
    from .datasets import NativeRasterDataset as NativeRasterDataset
    from .datasets import NativeSlice as NativeSlice
    from .datasets import PlanetCR as PlanetCR
    from .datasets import download_sample as download_sample
    from .evaluation import evaluate as evaluate
    from .inference import remove_clouds as remove_clouds
    from .preparation import make_patches as make_patches
    from .simulation import simulate as simulate
    from .simulation import simulate_scene as simulate_scene
    from .summary import index as index
    from .summary import info as info
    from .tasks import CloudRemoval as CloudRemoval

__version__ = '0.1.0.dev0'

#: Module of each public name, imported at its first use: the data sets do not have to
#: wait for Lightning and Kornia.
_MODULES = {
    'CloudRemoval': 'tasks',
    'NativeRasterDataset': 'datasets',
    'NativeSlice': 'datasets',
    'PlanetCR': 'datasets',
    'PlanetCRDataModule': 'datamodules',
    'download_sample': 'datasets',
    'evaluate': 'evaluation',
    'index': 'summary',
    'info': 'summary',
    'make_patches': 'preparation',
    'remove_clouds': 'inference',
    'simulate': 'simulation',
    'simulate_scene': 'simulation',
}

__all__ = tuple(_MODULES)


def __getattr__(name: str) -> Any:
    """Import a public name at its first use."""
    if name not in _MODULES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(f'.{_MODULES[name]}', __name__), name)


def __dir__() -> list[str]:
    """List the public names too."""
    return sorted({*globals(), *_MODULES})
