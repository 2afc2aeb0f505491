# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Open an archive once in a process of its own, and print the time and memory of that.

    python benchmarks/opening.py planetcr FOLDER
    python benchmarks/opening.py torchgeo FOLDER COUNT

``data_loading.py`` starts this script, because imports happen once in a process, and because
memory that was used before would hide how much opening an archive needs.
"""

import argparse
import json
import time
from pathlib import Path


def _memory(field: str) -> float:
    """Memory of this process in MB, such as ``VmRSS`` for what is resident now."""
    status = Path('/proc/self/status').read_text()
    (line,) = (line for line in status.splitlines() if line.startswith(f'{field}:'))
    return int(line.split()[1]) * 1024 / 1e6


def open_planetcr(root: Path) -> dict[str, float]:
    """Open the train split and read its first crop.

    Args:
        root: Folder of the archive.

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
    """Open the GeoTIFFs of one UTM zone with plain TorchGeo, one kind after the other.

    Args:
        root: Folder of the archive.
        count: Number of files of each kind.

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


def main() -> None:
    """Open an archive, and print the result as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('library', choices=('planetcr', 'torchgeo'))
    parser.add_argument('folder', type=Path, help='folder of the archive')
    parser.add_argument(
        'count', type=int, nargs='?', default=1000, help='number of files of each kind'
    )
    args = parser.parse_args()
    if args.library == 'planetcr':
        print(json.dumps(open_planetcr(args.folder)))
    else:
        print(json.dumps(open_torchgeo(args.folder, args.count)))


if __name__ == '__main__':
    main()
