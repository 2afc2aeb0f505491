# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Planet-CR dataset."""

import functools
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pandas as pd
import pyarrow as pa
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rasterio.enums import Resampling
from shapely import MultiPolygon, Polygon
from torchgeo.datasets import DatasetNotFoundError, RasterDataset
from torchgeo.datasets.utils import Path, Sample

from ..raster.grid import Grid
from ..raster.header import HeaderTable, RasterHeader
from ..raster.read import NotFiniteError
from ..raster.warp import enlarge, mosaic
from .archive import SPLITS
from .components import COMPONENTS, PlanetCRCloudy, PlanetCRWorldCover, check_level
from .footprints import WGS84, native_index
from .index import PATCH_COLUMNS, ArchiveIndex, open_index
from .modalities import GRID_ORDER, MODALITIES, ModalityName
from .native import NativeGeoDataset
from .native_raster import NativeRasterDataset, report_problems
from .patch_files import SEASONS
from .plot import plot_sample

#: Share of a pixel by which the edges of rasters of one patch may differ.
LATTICE_TOLERANCE = 0.01


class PlanetCRNotFoundError(DatasetNotFoundError):
    """Raised when a folder holds no patch of a split of Planet-CR."""

    def __init__(self, root: Path, split: str) -> None:
        """Initialize a new PlanetCRNotFoundError instance.

        Args:
            root: Folder that was searched.
            split: Split that was searched for.
        """
        FileNotFoundError.__init__(
            self,
            f'Planet-CR not found: no patch of split={split!r} in root={str(root)!r}. '
            'Either name the folder that holds `train/` and `test/`, or get the data. '
            'The full archive is given on request, for research: register with '
            "Planet's education and research program, then write to the address in "
            'https://github.com/zhu-xlab/M3R-CR. Its authors publish a sample of two '
            f'patches: `planetcr download-sample {root}`',
        )
        self._arguments = root, split

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the arguments, so that another process can raise it again."""
        return type(self), self._arguments


class MissingModalityWarning(UserWarning):
    """Warning about a modality of which there is no file at all."""


class PlanetCR(NativeGeoDataset):
    """Planet-CR dataset.

    The `Planet-CR <https://github.com/zhu-xlab/Planet-CR>`__ dataset, also published as
    `M3R-CR <https://github.com/zhu-xlab/M3R-CR>`__, is a dataset for the removal of
    clouds from high-resolution optical images with the help of radar.

    Dataset features:

    * Cloudy and clear PlanetScope images with 3 m per pixel resolution
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

    A sample has these keys, for the modalities that are requested:

    * ``image``: cloudy PlanetScope, (4, H, W) float32
    * ``image_clear``: clear PlanetScope, (4, H, W) float32
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
    keys: ClassVar[dict[ModalityName, str]] = {
        name: row.key for name, row in MODALITIES.items()
    }

    def __init__(
        self,
        root: Path = 'data',
        split: Literal['train', 'val', 'test'] = 'train',
        modalities: ModalityName | Sequence[ModalityName] | None = None,
        alignment: Literal['geo', 'reference', 'native'] = 'geo',
        landcover_level: Literal[1, 2] = 2,
        transforms: Callable[[Sample], Sample] | None = None,
        strict: bool = False,
    ) -> None:
        """Initialize a new PlanetCR instance.

        Args:
            root: Folder that holds ``train`` and ``test``.
            split: One of 'train', 'val' and 'test'. Without a list of the authors, 'val'
                is a tenth of the areas of the folder ``train``.
            modalities: One or more modalities to load (defaults to all of which the
                split has files; a warning names the others).
            alignment: How Sentinel-1 and land cover (10 m) get on the 3 m grid. 'geo'
                places them by their coordinates, Sentinel-1 by bilinear interpolation and
                land cover by nearest neighbor. 'reference' does what the authors' loader
                does: it stretches their pixels over the patch by nearest neighbor and
                ignores an offset of up to 2 m. 'native' leaves them on their own grid.
            landcover_level: 1 for the authors' seven classes, 2 for WorldCover's eleven.
            transforms: A function/transform that takes an input sample
                and returns a transformed version.
            strict: Raise an error for a patch with a missing or unreadable file, which
                otherwise is left out with a warning. All modalities are loaded by
                default. This checks the headers and lengths of files, but not each pixel.

        Raises:
            DatasetNotFoundError: If there is no patch of this split.
            OSError: If no patch, or if *strict* and not each patch, can be used.
            ValueError: If an argument is unknown, or a list is malformed.
        """
        wanted = _check_modalities(modalities)
        if alignment not in ('geo', 'reference', 'native'):
            raise ValueError(
                f"alignment={alignment!r} is not one of 'geo', 'reference' and 'native'"
            )
        check_level(landcover_level)
        if split not in SPLITS:
            raise ValueError(f'split={split!r} is not one of {SPLITS}')
        self.root = root
        self.split = split
        self.alignment = alignment
        self.landcover_level = landcover_level
        self.transforms = transforms

        index = open_index(root)
        patches = self._patches_of_split(index)
        if not patches.table.num_rows:
            raise PlanetCRNotFoundError(root, split)
        if modalities is None and not strict:
            wanted = self._leave_out_missing(index, patches)
        # Memory need not hold the other splits
        del index
        self.modalities: tuple[ModalityName, ...] = wanted
        self._intersect(patches, strict)

    def _patches_of_split(self, index: ArchiveIndex) -> ArchiveIndex:
        """Select the patches of the split, and warn of what users should know."""
        if error := index.error(self.split):
            raise ValueError(error)
        if note := index.notes.get(self.split):
            warnings.warn(f'{self.root}: {note}', UserWarning)
        splits = index.column('split')
        patches = index.select((splits == self.split).to_numpy(dtype=bool))
        if self.split != 'val' or patches.table.num_rows:
            return patches
        train = index.select((splits == 'train').to_numpy(dtype=bool))
        if train.table.num_rows:
            warnings.warn(
                f'No patch of the {train.column("aoi").nunique()} area(s) in {self.root} '
                "is for validation: split='val' has the patches of split='train'. Do not "
                'report its figures.',
                UserWarning,
            )
        names = pa.repeat(self.split, train.table.num_rows)
        return train._replace(table=train.table.set_column(0, 'split', names))

    def _leave_out_missing(
        self, index: ArchiveIndex, patches: ArchiveIndex
    ) -> tuple[ModalityName, ...]:
        """Find the modalities of which there are files, and warn of the others."""
        present = tuple(name for name in MODALITIES if patches.has(name))
        for name in () if not present else MODALITIES:
            if name not in present:
                # The same text in all splits, so that it is shown once
                place = f'split={self.split!r} of ' if index.has(name) else ''
                warnings.warn(
                    f'{place}{self.root} has no file of modality {name!r}: samples are '
                    f'without {MODALITIES[name].key!r}',
                    MissingModalityWarning,
                )
        # If there is no file at all, errors name those that are missing
        return present or tuple(MODALITIES)

    def _intersect(self, patches: ArchiveIndex, strict: bool) -> None:
        """Make the components, and the index of the patches that all of them cover.

        Raises:
            OSError: If no patch, or if *strict* and not each patch, can be used.
        """
        names = patches.column('patch')
        reasons: dict[str, str] = {}
        for modality in self.modalities:
            missing = patches.column(modality).isna()
            problems = patches.problems(modality)
            problems = problems.mask(
                missing, names + f' has no file of modality {modality!r}'
            )
            is_bad = problems.notna()
            for name, problem in zip(names[is_bad], problems[is_bad]):
                reasons.setdefault(name, problem)
        usable = ~names.isin(list(reasons))

        reference = next(m for m in GRID_ORDER if m in self.modalities)
        if reasons:
            patches = patches.select(usable.to_numpy())
        headers = {modality: patches.headers(modality) for modality in self.modalities}
        is_good = np.ones(patches.table.num_rows, dtype=bool)
        for modality in self.modalities:
            fits = _fits(modality, headers[modality], headers[reference])
            for row in np.flatnonzero(is_good & ~fits).tolist():
                source, patch = headers[modality][row], headers[reference][row]
                reasons[patches.table['patch'][row].as_py()] = _describe_misfit(
                    source, patch
                )
            is_good &= fits
        if not is_good.all():
            patches = patches.select(is_good)
            headers = {m: patches.headers(m) for m in self.modalities}
        #: Patches that are left out, and why.
        self.left_out = reasons
        if reasons:
            report_problems('patch', reasons, strict or not patches.table.num_rows)

        worldcover = functools.partial(PlanetCRWorldCover, level=self.landcover_level)
        create: dict[ModalityName, Callable[..., NativeRasterDataset]]
        create = {**COMPONENTS, 'worldcover': worldcover}
        #: Data set of each modality. All their headers are in the order of the patches.
        self.components: dict[ModalityName, NativeRasterDataset] = {
            modality: create[modality](self.root, headers=headers[modality])
            for modality in self.modalities
        }
        self._reference = reference
        self._aois = patches.column('aoi').unique()
        columns = {name: patches.column(name).array for name in PATCH_COLUMNS}
        paths = {modality: patches.filepaths(modality).array for modality in MODALITIES}
        self.index = native_index(
            {'filepath': paths[reference], **columns, **paths},
            headers[reference],
            pd.IntervalIndex.from_breaks(
                [RasterDataset.mint, RasterDataset.maxt], closed='both'
            ).repeat(patches.table.num_rows),
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
        """Select the patches that meet all of some conditions.

        Args:
            season: One or more of 'spring', 'summer', 'fall' and 'winter'.
            aoi: One or more areas, such as 'fall_1'.
            roi: Polygon in EPSG:4326 (longitude, latitude) that patches must intersect.
            cloud_cover: Least and largest share of cloud in the cloud mask, in [0, 1].
                This leaves out patches without a readable mask.

        Returns:
            A data set with these patches, which can be filtered again.

        Raises:
            ValueError: If an argument is unknown or out of range, or there are no cloud
                masks at all.
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
                        f'{column}={sorted(unknown)} are not among {", ".join(known)}'
                    )
                keep &= self.index[column].isin(names).to_numpy()
        if roi is not None:
            keep &= self.index.geometry.to_crs(WGS84).intersects(roi).to_numpy()
        if cloud_cover is not None:
            lower, upper = cloud_cover
            if not 0 <= lower <= upper <= 1:
                raise ValueError(
                    f'cloud_cover={cloud_cover} is not a range (least, largest) in [0, 1]'
                )
            cover = self.index['cloud_cover']
            if len(cover) and cover.isna().all():
                raise ValueError(
                    f'cloud_cover={cloud_cover} needs cloud masks, and none of the '
                    f'{len(cover)} patches of {self.root} has one: leave it out'
                )
            keep &= cover.between(lower, upper).to_numpy()
        return self._with_view(self.index_view.select(keep))

    def _load(self, rows: Sequence[int], grid: Grid) -> Sample:
        """Read pixels, see :meth:`NativeGeoDataset._load`."""
        reference = self.components[self._reference].headers
        paths = self.index_view.column('filepath')[rows]
        places = [reference.find(path) for path in paths]
        patches = [reference[place].grid for place in places]
        # Nothing is missing in a window inside of one patch, and a look would take time
        has_gaps = not patches[0].holds(grid)
        sample: Sample = {}
        for modality, component in self.components.items():
            headers = [component.headers[place] for place in places]
            if not MODALITIES[modality].is_coarse:
                array = component.read_mosaic(headers, grid)
                _check_finite(array, headers)
            elif self.alignment == 'native':
                array = component.read_mosaic(
                    headers, _nearest_window(headers[0].grid, grid)
                )
            else:
                array = self._align(component, headers, patches, grid)
            if has_gaps:
                array = component.fill_gaps(array, headers)
            tensor = component.to_tensor(array)
            sample[self.keys[modality]] = (
                tensor if component.is_image else tensor.squeeze(0)
            )
        return sample

    def _align(
        self,
        component: NativeRasterDataset,
        headers: Iterable[RasterHeader],
        patches: Iterable[Grid],
        grid: Grid,
    ) -> NDArray[Any]:
        """Read 10 m files, each for the whole of its patch, on a 3 m grid."""
        by_coordinates = self.alignment == 'geo'
        parts = []
        for header, patch in zip(headers, patches):
            source = header.grid
            if not by_coordinates:
                xmin, ymin, xmax, ymax = patch.bounds
                res = ((xmax - xmin) / source.width, (ymax - ymin) / source.height)
                source = Grid.from_bounds(source.crs, patch.bounds, res)
            read = functools.partial(
                enlarge,
                functools.partial(component.read_window, header),
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
            sample: A sample of the data set, with reflectance x 10000 and dB. A
                ``prediction`` in it is drawn too, (4, H, W) as an image and (H, W) as
                land cover.
            show_titles: Whether to show a title above each panel.
            suptitle: Title of the whole figure.

        Returns:
            A matplotlib Figure with the rendered sample.
        """
        level = self.landcover_level
        return plot_sample(
            sample,
            PlanetCRWorldCover.classes[level],
            PlanetCRWorldCover.colors[level],
            show_titles,
            suptitle,
        )


def _check_modalities(
    modalities: ModalityName | Sequence[ModalityName] | None,
) -> tuple[ModalityName, ...]:
    """Check names of modalities, and return them in the order of the table."""
    known = tuple(MODALITIES)
    if modalities is None:
        return known
    wanted = {modalities} if isinstance(modalities, str) else set(modalities)
    if unknown := wanted - set(known):
        raise ValueError(f'modalities={sorted(unknown)} are not among {known}')
    if not wanted:
        raise ValueError(f'modalities is empty: name some of {known}')
    return tuple(name for name in MODALITIES if name in wanted)


def _check_finite(array: NDArray[Any], headers: Sequence[RasterHeader]) -> None:
    """Refuse images with values that are no numbers, which networks would spread."""
    # Integers take no time
    if array.dtype.kind != 'f':
        return
    with np.errstate(over='ignore'):
        # Samples have no values beyond those of float32
        is_finite = np.isfinite(array.astype(np.float32, copy=False)).all()
    if not is_finite:
        raise NotFiniteError(
            f'{" or ".join(header.filepath for header in headers)} has values that are '
            'NaN or infinite: repair the file, or take its patch out of the folder'
        )


def _fits(
    modality: ModalityName, sources: HeaderTable, patches: HeaderTable
) -> NDArray[np.bool_]:
    """Whether rasters have the place of their patches.

    Coarse ones end less than one of their pixels from the edges of the patch. All others
    have its pixels.
    """
    edges = np.abs(sources.bounds() - patches.bounds())
    fits = sources.objects('crs') == patches.objects('crs')
    is_coarse = MODALITIES[modality].is_coarse
    for name, columns in (('xres', [0, 2]), ('yres', [1, 3])):
        size = sources.numbers(name)
        limit = size if is_coarse else LATTICE_TOLERANCE * size
        fits &= (edges[:, columns] < limit[:, np.newaxis]).all(axis=1)
        if not is_coarse:
            # As exact as Grid.same_lattice: pixels that differ would be interpolated
            fits &= np.isclose(size, patches.numbers(name), rtol=1e-9, atol=0)
    if not is_coarse:
        for name in ('height', 'width'):
            fits &= sources.numbers(name) == patches.numbers(name)
    return fits


def _describe_misfit(source: RasterHeader, patch: RasterHeader) -> str:
    """Reason why a raster does not have the place of its patch."""
    first, second = (
        f'{path} ({grid.crs}, {grid.height} x {grid.width} pixels of {grid.xres:g} from '
        f'{grid.xmin:.10g}, {grid.ymax:.10g})'
        for path, grid, *_ in (source, patch)
    )
    return f'{first} does not cover {second}, or more than that'


def _nearest_window(source: Grid, grid: Grid) -> Grid:
    """Window of *source* nearest to *grid*; its size depends on that of *grid* alone."""
    window = source.snap(grid.bounds)
    row, col = source.offset(window)
    window = window._replace(height=max(window.height, 1), width=max(window.width, 1))
    # A grid that reaches the edge of its patch may round to one pixel past the raster.
    row += (row == -1) - (row + window.height == source.height + 1)
    col += (col == -1) - (col + window.width == source.width + 1)
    return source.window(row, col, window.height, window.width)
