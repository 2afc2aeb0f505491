# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Open an archive once, in a process of its own, and print what it cost.

    python benchmarks/opening.py planetcr FOLDER
    python benchmarks/opening.py torchgeo FOLDER COUNT

``data_loading.py`` starts it: what is measured here happens once in a process, and
memory that was used before would hide what opening needs.
"""

import json
import sys
import time
from pathlib import Path


def _memory(field: str) -> float:
    """Memory of this process in MB, ``VmRSS`` for what is resident now."""
    status = Path('/proc/self/status').read_text()
    (line,) = (line for line in status.splitlines() if line.startswith(f'{field}:'))
    return int(line.split()[1]) * 1024 / 1e6


def open_planetcr(root: Path) -> dict[str, float]:
    """Open the train split and read its first crop.

    Args:
        root: folder of the archive.

    Returns:
        Seconds and MB.
    """
    start = time.perf_counter()
    from torchgeo_planetcr import PlanetCR
    from torchgeo_planetcr.samplers import RandomNativePatchSampler

    imported = time.perf_counter()
    result = {'import': imported - start, 'memory_import': _memory('VmRSS')}

    start = time.perf_counter()
    dataset = PlanetCR(root, 'train')
    opened = time.perf_counter()
    result |= {'open': opened - start, 'memory_open': _memory('VmRSS')}

    resumed = time.perf_counter()
    sampler = RandomNativePatchSampler(dataset, size=160, generator=0)
    dataset[next(iter(sampler))]
    first = opened - start + time.perf_counter() - resumed
    result |= {'first': first, 'memory_first': _memory('VmRSS')}
    return result | {'memory_peak': _memory('VmHWM'), 'patches': len(dataset)}


def open_torchgeo(root: Path, count: int) -> dict[str, dict[str, float]]:
    """Open the GeoTIFFs of one UTM zone with plain TorchGeo, each kind for itself.

    Args:
        root: folder of the archive.
        count: number of files of each kind.

    Returns:
        Number of files and seconds, for each kind.
    """
    import fake_archive
    from torchgeo.datasets import RasterDataset

    result = {}
    for kind in fake_archive.RASTERS:
        paths = fake_archive.files_of_zone(root, kind, count)
        start = time.perf_counter()
        dataset = RasterDataset(paths)
        result[kind] = {'open': time.perf_counter() - start, 'files': len(dataset)}
    return result


if __name__ == '__main__':
    if sys.argv[1] == 'planetcr':
        print(json.dumps(open_planetcr(Path(sys.argv[2]))))
    else:
        print(json.dumps(open_torchgeo(Path(sys.argv[2]), int(sys.argv[3]))))
