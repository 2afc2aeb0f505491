# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Scenes cut into patches in the layout of the archive."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import rasterio
from torchgeo.datasets.utils import Path
from tqdm import tqdm

from ..datasets.modalities import MODALITIES, ModalityName
from ..datasets.patch_files import PATCH_SIZE, write_patch
from ..inference.origin import file_stamp
from ..raster.read import CACHE_SIZE
from ..raster.write import remove_leftovers
from ..scenes import RadarOptions, find_scenes
from ..scenes.backscatter import Unit
from ..scenes.layer import find_data
from .area import Area
from .sources import Images, PatchSources


class Limits(NamedTuple):
    """What is asked of a patch."""

    #: Largest share of pixels without data in the cloudy and in the clear image.
    max_nodata: float
    #: Least and largest share of cloud in the cloud mask.
    least_cover: float
    largest_cover: float

    def check(self, cloud_mask: Path | None) -> None:
        """Refuse limits that are out of range, or cannot be kept.

        Args:
            cloud_mask: The cloud mask, if there is one.

        Raises:
            ValueError: If a limit is no share, or there is no mask to find the cover in.
        """
        nodata, *cover = self
        if not 0 <= nodata <= 1:
            raise ValueError(f'max_nodata={nodata} is not a share in [0, 1]')
        least, largest = cover
        if not 0 <= least <= largest <= 1:
            raise ValueError(
                f'cloud_cover={cover} is not a range (least, largest) in [0, 1]'
            )
        if cloud_mask is None and cover != [0, 1]:
            raise ValueError(
                f'cloud_cover={cover} needs a mask: name it with cloud_mask (--cloud-mask)'
            )

    def find_fault(
        self, images: Images, paths: Mapping[ModalityName, Path]
    ) -> str | None:
        """Find out what is wrong with a patch.

        Args:
            images: Its images, see :meth:`PatchSources.read`.
            paths: The files that they are from.

        Returns:
            The first fault, None if there is none.
        """
        for modality, (array, _) in images.items():
            largest = self.max_nodata if modality in ('cloudy', 'clear') else 0
            if (~find_data(array, MODALITIES[modality].nodata)).mean() > largest:
                share = f'more than {100 * largest:g} % of ' if largest else ''
                return f'{share}pixels without data in {paths[modality]}'
        if 'cloud_mask' in images:
            mask, _ = images['cloud_mask']
            if not self.least_cover <= mask.mean() <= self.largest_cover:
                return f'less or more cloud than asked for in {paths["cloud_mask"]}'
        return None


def make_patches(
    root: Path,
    aoi: str,
    *,
    cloudy: Path,
    clear: Path,
    s1: Path | Sequence[Path],
    landcover: Path,
    cloud_mask: Path | None = None,
    split: Literal['train', 'test'] = 'train',
    overlap: int = 0,
    max_nodata: float = 0.0,
    cloud_cover: tuple[float, float] = (0.0, 1.0),
    bands: Sequence[int] | None = None,
    scale: float | None = None,
    s1_unit: Unit | None = None,
    date: str | None = None,
    max_days: float = 30,
    fill_gaps: bool = False,
    overwrite: bool = False,
) -> str:
    """Cut scenes of one place into the patches of an area of a Planet-CR tree.

    Patches have 300 x 300 pixels of the cloudy scene, and are numbered row by row from its
    upper left corner, those that are left out included. Pixels that lie on the grid of
    the patches are copied, others are warped. Where there is no Sentinel-1, no land cover
    or no cloud mask for a part of a patch, it is left out.

    Run the same command again after an interruption: patches that are there are kept. What
    they were made of is recorded in ``areas`` in *root*.

    Args:
        root: Folder that holds ``train`` and ``test``, or is to hold them
        aoi: Name of the area, a season and a number, such as 'summer_1'
        cloudy: PlanetScope scene at 3 m, surface reflectance x 10000
        clear: PlanetScope scene of another day; bilinear where it has to be warped
        s1: Sentinel-1 backscatter, VV and VH in one file, in this order unless the bands
            are named, or in two whose names differ in vv and vh alone; of several images,
            those of the pass that is nearest in time; if it is not at 10 m in the CRS of the
            scene, it is warped (bilinear) to multiples of 10 m
        landcover: ESA WorldCover, in any CRS, to the nearest pixel at 10 m
        cloud_mask: Mask of the cloudy scene, Planet's usable data mask (UDM2), in which
            shadow and haze are cloud and snow is not, or any raster of 1 (cloud) and 0
            (clear); without one, patches have no cloud mask
        split: Folder to write to, 'train' or 'test'
        overlap: Pixels that neighboring patches share
        max_nodata: Largest share of pixels without data in the cloudy and in the clear
            image of a patch, in [0, 1]
        cloud_cover: Least and largest share of cloud in the cloud mask of a patch, in
            [0, 1]
        bands: Positions of B, G, R and NIR in both scenes, from 1 (defaults to those of
            PlanetScope's products of four and eight bands)
        scale: Value in both scenes that is a reflectance of 1, such as 10000, 1 or 100
            (defaults to what they say, or what their values look like)
        s1_unit: Unit of Sentinel-1, 'dB', 'power' (linear) or 'amplitude' (defaults to the
            one that its values are like)
        date: Day of the cloudy scene if its file does not tell it, such as '2023-02-10'
        max_days: Largest number of days between the cloudy scene and Sentinel-1
        fill_gaps: Fill gaps of the nearest pass of Sentinel-1 from others, the nearest in
            time first
        overwrite: Replace all patches that the area has

    Returns:
        How many patches were made, and why others were left out.

    Raises:
        FileExistsError: If the area has patches of other scenes, or made in another way,
            and *overwrite* is not set.
        OSError: If a file cannot be read or written. Patches made until then stay.
        ValueError: If an argument is out of range, a scene is not what is expected, or no
            patch is left.
    """
    limits = Limits(max_nodata, *cloud_cover)
    limits.check(cloud_mask)
    if not 0 <= overlap < PATCH_SIZE:
        raise ValueError(
            f'overlap={overlap} is not between 0 and {PATCH_SIZE - 1} pixels'
        )
    radar = RadarOptions(s1_unit, date, max_days, fill_gaps, min_coverage=0)
    (found,) = find_scenes([cloudy], s1)
    files = found._replace(
        mask=None if cloud_mask is None else os.fspath(cloud_mask),
        clear=os.fspath(clear),
        landcover=os.fspath(landcover),
    )
    images = [os.path.abspath(path) for path in files.s1]
    paths: dict[ModalityName, Path] = {
        'cloudy': cloudy,
        'clear': clear,
        'sentinel1': ', '.join(files.s1),
        'worldcover': landcover,
    }
    if cloud_mask is not None:
        paths['cloud_mask'] = cloud_mask
    stamps = {f'{name}_file': file_stamp(path) for name, path in paths.items()}
    stamps['sentinel1_file'] = ', '.join(map(file_stamp, files.s1))
    made_of = {
        **{modality: os.path.abspath(path) for modality, path in paths.items()},
        # A file of the same name may be another one next month
        **stamps,
        'sentinel1': images[0] if len(images) == 1 else images,
        'split': split,
        'overlap': overlap,
        'max_nodata': max_nodata,
        'cloud_cover': list(cloud_cover),
        'bands': None if bands is None else list(bands),
        'scale': scale,
        's1_unit': s1_unit,
        'date': date,
        'max_days': max_days,
        'fill_gaps': fill_gaps,
    }
    area = Area(root, split, aoi, made_of)
    masks = [] if files.mask is None else [files.mask]
    area.check([cloudy, clear, landcover, *images, *masks], overwrite)
    remove_leftovers(root)

    made, kept = 0, 0
    left_out: Counter[str] = Counter()
    with (
        rasterio.Env(GDAL_CACHEMAX=CACHE_SIZE),
        PatchSources(files, bands, scale, radar) as sources,
    ):
        step = PATCH_SIZE - overlap
        rows, columns = ((n - PATCH_SIZE) // step + 1 for n in sources.grid[-2:])
        # A file that keeps what is printed does not need the bar
        for place in tqdm(range(rows * columns), unit='patch', disable=None):
            if not overwrite and area.has_patch(place + 1):
                kept += 1
                continue
            row, column = divmod(place, columns)
            patch = sources.grid.window(
                row * step, column * step, PATCH_SIZE, PATCH_SIZE
            )
            images = sources.read(patch)
            if reason := limits.find_fault(images, paths):
                left_out[reason] += 1
                continue
            if not made:
                area.begin(overwrite)
            write_patch(root, split, aoi, place + 1, images)
            made += 1
    reasons = [f'{count} for {reason}' for reason, count in left_out.items()]
    if not made and not kept:
        raise ValueError(f'{cloudy} gives no patch. Left out: {"; ".join(reasons)}')
    lines = [f'{root}: {made} of {rows * columns} patches of {aoi} made in {split}']
    lines += [f'{kept} more were there already'] if kept else []
    lines += [f'left out: {reason}' for reason in reasons]
    if cloud_mask is None:
        lines.append('no cloud masks: there will be no figures by cloud')
    return '\n'.join(lines)
