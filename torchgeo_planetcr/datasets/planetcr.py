# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Planet-CR dataset."""

import functools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from rasterio.enums import Resampling
from shapely import MultiPolygon, Polygon
from torchgeo.datasets import DatasetNotFoundError, RasterDataset
from torchgeo.datasets.utils import Path, Sample
from tqdm import tqdm

from .alignment import enlarge
from .archive import KINDS, SEASONS, list_patches
from .native import (
    Grid,
    NativeGeoDataset,
    NativeRasterDataset,
    RasterHeader,
    mosaic,
    native_index,
    open_raster,
    read_headers,
    read_raster_header,
    report_problems,
)
from .plot import plot_sample

type Modality = Literal['cloudy', 'clear', 'sentinel1', 'worldcover', 'cloud_mask']

#: Backscatter beyond any that is measured, in dB.
FINITE_DECIBELS = (-100, 100)

MODALITIES: tuple[Modality, ...] = (
    'cloudy',
    'clear',
    'sentinel1',
    'worldcover',
    'cloud_mask',
)


class PlanetCRNotFoundError(DatasetNotFoundError):
    """Raised when there is no Planet-CR where it is looked for."""

    def __init__(self, root: Path, split: str) -> None:
        """Initialize a new PlanetCRNotFoundError instance.

        Args:
            root: folder that was searched.
            split: split that was looked for.
        """
        FileNotFoundError.__init__(
            self,
            f'Planet-CR not found: no patch of split={split!r} in root={str(root)!r}. '
            'Either name the folder that holds `train/` and `test/`, or get the data. '
            'The full archive is given on request, for research: register with '
            "Planet's education and research programme, then write to the address in "
            'https://github.com/zhu-xlab/M3R-CR. Its authors publish a sample of two '
            f'patches: `planetcr download-sample {root}`.',
        )
        self._arguments = root, split

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the arguments, so that another process can raise it again."""
        return type(self), self._arguments


class PlanetCRCloudy(NativeRasterDataset):
    """Cloudy PlanetScope images of Planet-CR, or of your own.

    Four bands at 3 m, surface reflectance x 10000, 0 where there is no data.
    """

    filename_glob = 'planet_cloudy_*.tif'
    all_bands = ('B', 'G', 'R', 'NIR')
    rgb_bands = ('R', 'G', 'B')
    nodata = 0
    driver = 'GTiff'


class PlanetCRClear(PlanetCRCloudy):
    """Cloud-free PlanetScope images of Planet-CR, or of your own.

    Four bands at 3 m, surface reflectance x 10000, 0 where there is no data.
    """

    filename_glob = 'planet_cloudfree_*.tif'


class PlanetCRSentinel1(NativeRasterDataset):
    """Sentinel-1 backscatter of Planet-CR, or of your own.

    VV and VH at 10 m, in dB. NaN is replaced by the mean of the file, as the authors'
    loader does, and infinity, such as that of zero power, by -100 or 100 dB.
    """

    filename_glob = 'S1_*.tif'
    all_bands = ('VV', 'VH')
    driver = 'GTiff'

    def read_window(
        self, filepath: str, row: int, col: int, height: int, width: int
    ) -> NDArray[Any]:
        """Read a window inside a file, see :meth:`NativeRasterDataset.read_window`."""
        array = super().read_window(filepath, row, col, height, width)
        if np.isfinite(array).all():
            return array
        grid = self.source_grid(filepath)
        whole = super().read_window(filepath, 0, 0, grid.height, grid.width)
        if np.isnan(whole).all():
            raise ValueError(
                f'{filepath} holds no valid pixel: take its patch out of the folder'
            )
        mean = np.nanmean(whole.clip(*FINITE_DECIBELS))
        return np.where(np.isnan(array), mean, array.clip(*FINITE_DECIBELS))


class PlanetCRWorldCover(NativeRasterDataset):
    """Land cover of Planet-CR (ESA WorldCover 2020), or of your own WorldCover tiles.

    Class indices at 10 m, 255 for a code that is none of WorldCover's.
    """

    filename_glob = 'landcover_*.tif'
    is_image = False
    nodata = 255
    driver = 'GTiff'

    #: Codes of each class, by level.
    codes: ClassVar[dict[int, tuple[tuple[int, ...], ...]]] = {
        1: ((10,), (20, 30), (40,), (50,), (60,), (80, 90), (70, 95, 100)),
        2: (
            (10,),
            (20,),
            (30,),
            (40,),
            (50,),
            (60,),
            (70,),
            (80,),
            (90,),
            (95,),
            (100,),
        ),
    }

    #: Names of each class, by level.
    classes: ClassVar[dict[int, tuple[str, ...]]] = {
        1: (
            'Forest',
            'Rangeland',
            'Agriculture',
            'Urban',
            'Barren',
            'Water',
            'Unknown',
        ),
        2: (
            'Tree cover',
            'Shrubland',
            'Grassland',
            'Cropland',
            'Built-up',
            'Bare / sparse vegetation',
            'Snow and ice',
            'Permanent water bodies',
            'Herbaceous wetland',
            'Mangroves',
            'Moss and lichen',
        ),
    }

    #: WorldCover's colours; level 1 has that of a level-2 class for each of its own.
    colors: ClassVar[dict[int, tuple[str, ...]]] = {
        1: (
            '#006400',
            '#ffff4c',
            '#f096ff',
            '#fa0000',
            '#b4b4b4',
            '#0064c8',
            '#f0f0f0',
        ),
        2: (
            '#006400',
            '#ffbb22',
            '#ffff4c',
            '#f096ff',
            '#fa0000',
            '#b4b4b4',
            '#f0f0f0',
            '#0064c8',
            '#0096a0',
            '#00cf75',
            '#fae6a0',
        ),
    }

    def __init__(
        self,
        paths: Path | Iterable[Path] = 'data',
        transforms: Callable[[Sample], Sample] | None = None,
        strict: bool = False,
        headers: Mapping[str, RasterHeader] | None = None,
        level: Literal[1, 2] = 2,
    ) -> None:
        """Initialize a new PlanetCRWorldCover instance.

        Args:
            paths: one or more root directories to search or files to load
            transforms: a function/transform that takes an input sample
                and returns a transformed version
            strict: raise an error for an unreadable file instead of a warning
            headers: headers of all files, if they are known already
            level: 1 for the authors' seven classes, 2 for WorldCover's eleven

        Raises:
            DatasetNotFoundError: If no readable file is found.
            OSError: If *strict* and a file is unreadable.
            ValueError: If *level* is unknown.
        """
        _check_level(level)
        self.level = level
        self.ordinal_map = np.full(256, 255, dtype=np.uint8)
        for ordinal, codes in enumerate(self.codes[level]):
            self.ordinal_map[list(codes)] = ordinal
        super().__init__(paths, None, transforms, strict, headers)

    def read_window(
        self, filepath: str, row: int, col: int, height: int, width: int
    ) -> NDArray[Any]:
        """Read a window as class indices, see :meth:`NativeRasterDataset.read_window`."""
        codes = super().read_window(filepath, row, col, height, width)
        return self.ordinal_map.take(codes.astype(np.intp), mode='clip')


class PlanetCRCloudMask(NativeRasterDataset):
    """Cloud masks of Planet-CR, or of your own.

    1 where there is cloud, at 3 m. A ``.npy`` file takes its georeference from the
    cloudy GeoTIFF of the same patch; a raster has its own.
    """

    filename_glob = 'cloudmask_*.npy'
    is_image = False
    driver = 'GTiff'

    @classmethod
    def read_header(cls, filepath: str) -> RasterHeader:
        """Read the header of one file, see :meth:`NativeRasterDataset.read_header`."""
        if not filepath.endswith('.npy'):
            return super().read_header(filepath)._replace(nodata=None)
        mask = cls._open(filepath)
        if mask.dtype.kind not in 'bui':
            raise ValueError(f'{filepath} holds {mask.dtype} instead of 0 and 1')
        image = cls._image_of(filepath)
        if not os.path.isfile(image):
            raise OSError(
                f'{filepath} has no georeference of its own and {image} is missing'
            )
        grid = read_raster_header(image, driver=cls.driver).grid
        if mask.shape != (grid.height, grid.width):
            raise ValueError(
                f'{filepath} has shape {mask.shape} instead of that of {image}, '
                f'{(grid.height, grid.width)}'
            )
        return RasterHeader(grid, None)

    def read_window(
        self, filepath: str, row: int, col: int, height: int, width: int
    ) -> NDArray[Any]:
        """Read a window as 0 and 1, see :meth:`NativeRasterDataset.read_window`."""
        if filepath.endswith('.npy'):
            mask = self._open(filepath)
            array = mask[np.newaxis, row : row + height, col : col + width]
            nodata = None
        else:
            array = super().read_window(filepath, row, col, height, width)[:1]
            nodata = open_raster(filepath, self.driver).nodata
        # NaN is not cloud either.
        return ((array > 0) & (array != nodata)).astype(np.uint8)

    @staticmethod
    def _open(filepath: str) -> NDArray[Any]:
        """Map a NumPy file into memory, which never unpickles objects."""
        try:
            return open_memmap(filepath, mode='r')
        # A damaged header makes NumPy raise almost anything.
        except Exception as error:
            raise OSError(
                f'{filepath} is not a readable NumPy array: {error}'
            ) from error

    @staticmethod
    def _image_of(filepath: str) -> str:
        """The cloudy GeoTIFF of the same patch."""
        head, *names = os.path.abspath(filepath).rsplit(os.sep, 3)
        names = [
            name.replace(KINDS['cloud_mask'], KINDS['cloudy'], 1) for name in names
        ]
        return os.path.join(head, *names).removesuffix('.npy') + '.tif'


class PlanetCR(NativeGeoDataset):
    """Planet-CR dataset.

    The `Planet-CR <https://github.com/zhu-xlab/Planet-CR>`__ dataset, also published as
    `M3R-CR <https://github.com/zhu-xlab/M3R-CR>`__, is a dataset for the removal of
    clouds from high-resolution optical images with the help of radar.

    Dataset features:

    * Cloudy and cloud-free PlanetScope images with 3 m per pixel resolution
    * Sentinel-1 backscatter and ESA WorldCover 2020 with 10 m per pixel resolution
    * Cloud masks (coarse; without shadow, and with haze unmarked)
    * 780 areas over all continents and seasons, split by area
    * Tens of thousands of patches of 300 x 300 pixels (900 m x 900 m)

    Dataset format:

    * PlanetScope: 4-band GeoTIFF (Blue, Green, Red, NIR), surface reflectance x 10000
    * Sentinel-1: 2-band GeoTIFF (VV, VH), dB
    * WorldCover: 1-band GeoTIFF
    * Cloud mask: boolean NumPy array
    * Each patch is in the UTM zone of its area, and stays there

    Dataset classes (``landcover_level=2``, in the order of WorldCover's codes):

    0. Tree cover
    1. Shrubland
    2. Grassland
    3. Cropland
    4. Built-up
    5. Bare / sparse vegetation
    6. Snow and ice
    7. Permanent water bodies
    8. Herbaceous wetland
    9. Mangroves
    10. Moss and lichen

    Dataset classes (``landcover_level=1``): 0. forest, 1. rangeland, 2. agriculture,
    3. urban, 4. barren, 5. water, 6. unknown.

    255 stands for no land cover in both.

    A sample has these keys, as far as their modality is requested:

    * ``image``: cloudy PlanetScope, (4, H, W) float32
    * ``image_clear``: cloud-free PlanetScope, (4, H, W) float32
    * ``image_s1``: Sentinel-1, (2, H, W) float32
    * ``mask``: land cover, (H, W) int64
    * ``mask_cloud``: 1 where there is cloud, (H, W) int64
    * ``crs``: EPSG code, () int64
    * ``bounds``, ``transform``: as TorchGeo's, in this CRS, (9,) float64

    If you use this dataset in your research, please cite the following paper:

    * https://doi.org/10.1109/TGRS.2023.3337845
    """

    all_bands = PlanetCRCloudy.all_bands
    rgb_bands = PlanetCRCloudy.rgb_bands

    #: Key of each modality in a sample.
    keys: ClassVar[dict[str, str]] = {
        'cloudy': 'image',
        'clear': 'image_clear',
        'sentinel1': 'image_s1',
        'worldcover': 'mask',
        'cloud_mask': 'mask_cloud',
    }

    #: Modalities whose grid the patches have, the first that is there.
    _grid_order: ClassVar[tuple[Modality, ...]] = (
        'cloudy',
        'clear',
        'cloud_mask',
        'sentinel1',
        'worldcover',
    )

    def __init__(
        self,
        root: Path = 'data',
        split: Literal['train', 'val', 'test'] = 'train',
        modalities: Modality | Sequence[Modality] = MODALITIES,
        alignment: Literal['geo', 'reference', 'native'] = 'geo',
        landcover_level: Literal[1, 2] = 2,
        transforms: Callable[[Sample], Sample] | None = None,
        strict: bool = False,
    ) -> None:
        """Initialize a new PlanetCR instance.

        Args:
            root: folder that holds ``train`` and ``test``
            split: one of 'train', 'val' and 'test'; without a list of the authors, 'val'
                is a tenth of the areas of the folder ``train``
            modalities: what to load, one or more
            alignment: how Sentinel-1 and land cover (10 m) meet the 3 m grid: 'geo'
                places them by their coordinates, Sentinel-1 bilinear and land cover
                nearest; 'reference' does what the authors' loader does, which stretches
                their pixels over the patch by nearest neighbour and ignores an offset of
                up to 2 m; 'native' leaves them on their own grid
            landcover_level: 1 for the authors' seven classes, 2 for WorldCover's eleven
            transforms: a function/transform that takes an input sample
                and returns a transformed version
            strict: raise an error for a patch with a missing or unreadable file, which
                otherwise is left out with a warning; headers and lengths of files are
                looked at, but not each pixel

        Raises:
            DatasetNotFoundError: If there is no patch of this split.
            OSError: If no patch, or if *strict* and not each patch, can be used.
            ValueError: If an argument is unknown, or a list is malformed.
        """
        wanted = {modalities} if isinstance(modalities, str) else set(modalities)
        if unknown := wanted - set(MODALITIES):
            raise ValueError(f'modalities={sorted(unknown)} are not among {MODALITIES}')
        if not wanted:
            raise ValueError(f'modalities is empty: name some of {MODALITIES}')
        if alignment not in ('geo', 'reference', 'native'):
            raise ValueError(
                f"alignment={alignment!r} is not one of 'geo', 'reference' and 'native'"
            )
        _check_level(landcover_level)
        self.root = root
        self.split = split
        self.modalities = tuple(m for m in MODALITIES if m in wanted)
        self.alignment = alignment
        self.landcover_level = landcover_level
        self.transforms = transforms

        patches = list_patches(root, split)
        if patches.empty:
            raise PlanetCRNotFoundError(root, split)
        self._intersect(patches, strict)

    def _intersect(self, patches: pd.DataFrame, strict: bool) -> None:
        """Make the components, and the index of the patches that all of them cover."""
        headers: dict[str, RasterHeader] = {}
        reasons: dict[str, str] = {}
        for modality in self.modalities:
            paths = dict(zip(patches['patch'], patches[modality]))
            known = [path for path in paths.values() if path is not None]
            found, problems = read_headers(known, COMPONENTS[modality].read_header)
            headers |= found
            for patch, path in paths.items():
                if path not in found:
                    missing = f'{patch} has no file of modality {modality!r}'
                    reasons.setdefault(patch, problems.get(path, missing))

        reference = next(m for m in self._grid_order if m in self.modalities)
        for row in patches[~patches['patch'].isin(reasons)].to_dict('records'):
            grid = headers[row[reference]].grid
            for modality in self.modalities:
                other = headers[row[modality]].grid
                if not _covers(other, grid):
                    reasons[row['patch']] = (
                        f'{row[modality]} ({other.crs}) does not cover {row[reference]} '
                        f'({grid.crs})'
                    )
        patches = patches[~patches['patch'].isin(reasons)]
        #: Patches that are left out, and why.
        self.left_out = reasons
        if reasons:
            report_problems('patch', reasons, strict or patches.empty)

        self._aois = patches['aoi'].unique()
        filepaths = patches[reference].tolist()
        worldcover = functools.partial(PlanetCRWorldCover, level=self.landcover_level)
        create: dict[str, Callable[..., NativeRasterDataset]]
        create = {**COMPONENTS, 'worldcover': worldcover}
        #: Data set of each modality.
        self.components: dict[str, NativeRasterDataset] = {}
        for modality in self.modalities:
            paths = patches[modality].tolist()
            known_headers = {path: headers[path] for path in paths}
            self.components[modality] = create[modality](paths, headers=known_headers)
        self.index = native_index(
            {
                'filepath': filepaths,
                **{column: patches[column].tolist() for column in patches.columns},
            },
            [headers[filepath].grid for filepath in filepaths],
            [(RasterDataset.mint, RasterDataset.maxt)] * len(filepaths),
        )

    @property
    def res(self) -> tuple[float, float]:
        """Resolution (xres, yres) of the patches, which cannot be changed."""
        return super().res

    @res.setter
    def res(self, new_res: float | tuple[float, float]) -> None:
        if new_res not in (self.res, self.res[0]):
            raise ValueError(
                f'PlanetCR keeps its resolution of {self.res} and cannot be converted to '
                f'{new_res}: put it first, as in `planetcr & other`'
            )

    @property
    def files(self) -> list[str]:
        """A list of all files of the requested modalities."""
        return sorted(self.index[list(self.modalities)].to_numpy().ravel())

    def filter(
        self,
        season: str | Iterable[str] | None = None,
        aoi: str | Iterable[str] | None = None,
        roi: Polygon | MultiPolygon | None = None,
        cloud_cover: tuple[float, float] | None = None,
    ) -> Self:
        """Select patches; several conditions must hold together.

        Args:
            season: one or more of 'spring', 'summer', 'fall' and 'winter'
            aoi: one or more areas, such as 'fall_1'
            roi: polygon in EPSG:4326 (longitude, latitude) that patches must intersect
            cloud_cover: least and largest share of cloud in the cloud mask, in [0, 1]

        Returns:
            A data set with these patches, which can be filtered again.

        Raises:
            ValueError: If an argument is unknown or out of range, or *cloud_cover* is
                given and the data set has no cloud masks.
        """
        keep = np.ones(len(self), dtype=bool)
        for column, wanted, known in (
            ('season', season, SEASONS),
            ('aoi', aoi, self._aois),
        ):
            if wanted is not None:
                names = {wanted} if isinstance(wanted, str) else set(wanted)
                if unknown := names - set(known):
                    raise ValueError(
                        f'{column}={sorted(unknown)} not among {", ".join(known)}'
                    )
                keep &= self.index[column].isin(names).to_numpy()
        if roi is not None:
            keep &= self.index.geometry.to_crs('EPSG:4326').intersects(roi).to_numpy()
        if cloud_cover is not None:
            lower, upper = cloud_cover
            if not 0 <= lower <= upper <= 1:
                raise ValueError(
                    f'cloud_cover={cloud_cover} is not a range (least, largest) in [0, 1]'
                )
            keep &= self._cloud_cover().between(lower, upper).to_numpy()
        return self._select(keep)

    def _cloud_cover(self) -> pd.Series:
        """Share of cloud of each patch, read from the masks once."""
        if 'cloud_mask' not in self.modalities:
            raise ValueError("cloud_cover needs 'cloud_mask' among the modalities")
        if 'cloud_cover' not in self.index:
            masks = self.components['cloud_mask']
            shares = []
            for path in tqdm(self.index['cloud_mask'], 'Cloud cover', delay=1):
                grid = masks.source_grid(path)
                mask = masks.read_window(path, 0, 0, grid.height, grid.width)
                shares.append(mask.mean())
            self.index = self.index.assign(cloud_cover=shares)
        return self.index['cloud_cover']

    def _load(self, rows: Sequence[int], grid: Grid) -> Sample:
        """Read pixels, see :meth:`NativeGeoDataset._load`."""
        sample: Sample = {}
        for modality, component in self.components.items():
            filepaths = self._column(modality)[rows]
            if modality not in COARSE:
                array = component.read_mosaic(filepaths, grid)
            elif self.alignment == 'native':
                window = _window_on(component.source_grid(filepaths[0]), grid)
                array = component.read_mosaic(filepaths, window)
            else:
                patches = [self._grid(row) for row in rows]
                array = self._align(component, filepaths, patches, grid)
            tensor = component.to_tensor(array)
            sample[self.keys[modality]] = (
                tensor if component.is_image else tensor.squeeze(0)
            )
        return sample

    def _align(
        self,
        component: NativeRasterDataset,
        filepaths: Iterable[str],
        patches: Iterable[Grid],
        grid: Grid,
    ) -> NDArray[Any]:
        """Read 10 m files, each for the whole of its patch, on a 3 m grid."""
        by_coordinates = self.alignment == 'geo'
        parts = []
        for filepath, patch in zip(filepaths, patches):
            source = component.source_grid(filepath)
            if not by_coordinates:
                xmin, ymin, xmax, ymax = patch.bounds
                res = ((xmax - xmin) / source.width, (ymax - ymin) / source.height)
                source = Grid.from_bounds(source.crs, patch.bounds, res)
            read = functools.partial(
                enlarge,
                functools.partial(component.read_window, filepath),
                source,
                bilinear=by_coordinates and component.resampling == Resampling.bilinear,
            )
            parts.append((patch.bounds, read))
        return mosaic(grid, parts, component.fill)

    def plot(
        self, sample: Sample, show_titles: bool = True, suptitle: str | None = None
    ) -> Figure:
        """Plot a sample from the dataset.

        Args:
            sample: a sample returned by :meth:`__getitem__`, with reflectance x 10000
                and dB; a ``prediction`` (4, H, W) in it is drawn too
            show_titles: flag indicating whether to show titles above each panel
            suptitle: optional string to use as a suptitle

        Returns:
            a matplotlib Figure with the rendered sample
        """
        level = self.landcover_level
        return plot_sample(
            sample,
            [self.all_bands.index(band) for band in self.rgb_bands],
            PlanetCRWorldCover.classes[level],
            PlanetCRWorldCover.colors[level],
            show_titles,
            suptitle,
        )


def _check_level(level: int) -> None:
    """Refuse a level of land cover that there is none of."""
    if level not in PlanetCRWorldCover.codes:
        raise ValueError(f'landcover level {level!r} is not one of 1 and 2')


#: Data set class of each modality.
COMPONENTS: dict[str, type[NativeRasterDataset]] = {
    'cloudy': PlanetCRCloudy,
    'clear': PlanetCRClear,
    'sentinel1': PlanetCRSentinel1,
    'worldcover': PlanetCRWorldCover,
    'cloud_mask': PlanetCRCloudMask,
}

#: Modalities at 10 m.
COARSE = ('sentinel1', 'worldcover')


def _covers(source: Grid, patch: Grid) -> bool:
    """Whether a raster covers a patch but for less than one pixel of its own."""
    xmin, ymin, xmax, ymax = source.bounds
    west, south, east, north = patch.bounds
    return (
        source.crs == patch.crs
        and xmin - source.xres < west
        and ymin - source.yres < south
        and xmax + source.xres > east
        and ymax + source.yres > north
    )


def _window_on(source: Grid, grid: Grid) -> Grid:
    """Window of *source* nearest to *grid*, of a size that depends on its size alone."""
    window = source.snap(grid.bounds)
    row, col = source.offset(window)
    window = window._replace(height=max(window.height, 1), width=max(window.width, 1))
    # A grid that reaches the edge of its patch may round to one pixel past the raster.
    row += (row == -1) - (row + window.height == source.height + 1)
    col += (col == -1) - (col + window.width == source.width + 1)
    return source.window(row, col, window.height, window.width)
