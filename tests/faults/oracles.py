# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""What must come of damaged files, as others read them: rasterio, NumPy, PyTorch, csv.

Each check runs in a process of its own, see `child`. It gives 'equal' or 'left out', or raises
`Named` for an error that names the file, or `Fault`.
"""

import contextlib
import csv
import io
import json
import os
import sys
import traceback
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
import yaml
from numpy.typing import NDArray
from patch_data import WORLDCOVER
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.warp import reproject
from small_scene import QUICK, Constant, Radar

from torchgeo_planetcr import PlanetCR
from torchgeo_planetcr.datasets.components import COMPONENTS, FINITE_DECIBELS
from torchgeo_planetcr.datasets.modalities import LIST_COLUMNS, MODALITIES, ModalityName
from torchgeo_planetcr.datasets.patch_files import FILENAME
from torchgeo_planetcr.evaluation.methods import Predictions
from torchgeo_planetcr.evaluation.patches import EvaluationPatches
from torchgeo_planetcr.inference import remove_clouds
from torchgeo_planetcr.main import main
from torchgeo_planetcr.preparation import make_patches
from torchgeo_planetcr.samplers import CenterNativePatchSampler
from torchgeo_planetcr.tasks import load_task

from .inputs import FINE, file_of

#: Pixels beyond which no image is read as a whole.
LARGE = 20_000_000

#: How far in meters a raster of a patch may be off, those at 10 m included.
MAX_OFFSET = 10.0

#: Pixels around clouds that are blended.
BLENDED = 40

#: Audit events of what no data may do.
FORBIDDEN = (
    'subprocess.Popen',
    'os.system',
    'os.exec',
    'os.posix_spawn',
    'socket.connect',
)


class Fault(Exception):
    """Something that must not be: a word for the kind of it, and what it is."""


class Named(Exception):
    """An error that names the file: it is as it should be."""


def judge(check: Callable[..., str], *args: Any) -> tuple[str, str]:
    """Run a check in this process.

    Args:
        check: One of the functions below.
        *args: Its arguments.

    Returns:
        A word for what came of it, and more about it.
    """
    seen: list[str] = []

    def watch(event: str, details: tuple[Any, ...]) -> None:
        # Python asks for the name of the system
        is_bad = event in FORBIDDEN and details[0] != 'uname'
        if is_bad or (event == 'open' and details[0] == '/etc/passwd'):
            seen.append(f'{event} {details}'[:200])

    sys.addaudithook(watch)
    try:
        word, text = check(*args), ''
    except Named as error:
        word, text = 'named', str(error)
    except Fault as fault:
        word, text = fault.args
    except MemoryError as error:
        word, text = 'memory', str(error)
    return ('executed', seen[0]) if seen else (word, text[:1000])


@contextlib.contextmanager
def refused_by_name(*names: str) -> Iterator[None]:
    """Expect nothing, or an error that names one of some files."""
    try:
        yield
    except (OSError, ValueError) as error:
        if not any(name in str(error) for name in names):
            raise Fault('unnamed', f'{type(error).__name__}: {error}') from error
        raise Named(str(error)) from error
    except (Fault, Named, MemoryError):
        raise
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        raise Fault(
            'traceback', f'{type(error).__name__}: {error} ({where})'
        ) from error


def command(*args: str | Path, names: Sequence[str]) -> str:
    """Run the command in this process: it must end well, or name one of some files.

    Returns:
        What it printed.
    """
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            main([str(arg) for arg in args])
        except SystemExit as end:
            if not end.code:
                return printed.getvalue()
            _check_message(end.code, printed.getvalue(), names)
        except MemoryError:
            raise
        except BaseException as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            text = f'{args[0]}: {type(error).__name__}: {error} ({where})'
            raise Fault('traceback', text) from error
    return printed.getvalue()


def _check_message(code: Any, printed: str, names: Sequence[str]) -> None:
    """Check the last words of a command."""
    # What parsers of arguments say has more than one line
    message = code if isinstance(code, str) else printed
    if 'Traceback' in printed or (message is code and '\n' in message):
        raise Fault('traceback', printed[-500:] + message)
    if not any(name in message for name in names):
        raise Fault('unnamed', message)
    raise Named(message)


def same(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Whether two arrays have the same values."""
    floats = a.dtype.kind in 'fc' and b.dtype.kind in 'fc'
    return a.shape == b.shape and np.array_equal(a, b, equal_nan=floats)


def open_quietly(root: Path, split: Any) -> tuple[PlanetCR, list[str]]:
    """Open an archive, and give what it warns of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        dataset = PlanetCR(root, split, alignment='native')
    return dataset, sorted(str(warning.message) for warning in caught)


def samples_of(dataset: PlanetCR) -> dict[str, dict[str, Any]]:
    """The sample of each patch."""
    names = dict(zip(dataset.index['filepath'], dataset.index['patch']))
    return {
        names[window.filepath]: dataset[window]
        for window in CenterNativePatchSampler(dataset, size=None)
    }


# --- rasters and masks of an archive


def oracle(path: Path) -> tuple[NDArray[Any], Any, Any] | None:
    """Pixels, transform and CRS as rasterio or NumPy read them, None if they do not."""
    if not path.is_file():
        return None
    # Damaged files make them raise almost anything
    with contextlib.suppress(Exception):
        if path.suffix == '.npy':
            array = np.load(path, allow_pickle=False)
            return (array if array.ndim == 3 else array[None]), None, None
        with rasterio.open(path, driver='GTiff') as dataset:
            small = dataset.height * dataset.width * dataset.count <= LARGE
            array = dataset.read() if small else np.empty(0)
            return array, dataset.transform, dataset.crs
    return None


def expected_pixels(modality: ModalityName, array: NDArray[Any]) -> NDArray[Any]:
    """What the data set gives for the pixels of a file."""
    count = {'cloudy': 4, 'clear': 4, 'sentinel1': 2}.get(modality, len(array))
    array = array[:count]
    if modality == 'cloud_mask':
        return array > 0
    if modality == 'worldcover':
        table = {code: classes[1] for code, classes in WORLDCOVER.items()}
        with np.errstate(invalid='ignore'):
            codes = array.astype(np.intp)
        return np.vectorize(lambda code: table.get(code, 255), otypes='l')(codes)
    if modality == 'sentinel1' and not np.isfinite(array).all():
        valid = array[~np.isnan(array)].clip(*FINITE_DECIBELS)
        if valid.size:
            mean = array.dtype.type(valid.mean(dtype=np.float64))
            return np.where(np.isnan(array), mean, array.clip(*FINITE_DECIBELS))
    return array


def check_patch(root: Path, modality: ModalityName, original: NDArray[Any]) -> str:
    """Check an archive of which one raster is damaged.

    Args:
        root: Its folder.
        modality: Modality of the raster, of fall_1_p_1.
        original: Pixels that it had.
    """
    path = file_of(root, modality)
    names, found = (path.name, 'fall_1_p_1'), oracle(path)
    told = command('info', root, names=names)
    with refused_by_name(*names):
        dataset, warned = open_quietly(root, 'train')
        patches = dataset.index['patch'].tolist()
        if not {'fall_1_p_2', 'summer_2_p_1'} <= set(patches):
            raise Fault('silent', f'other patches are gone: {patches}')
        samples = samples_of(dataset)
    if 'fall_1_p_1' not in patches:
        if not any(name in str(warned) and name in told for name in names):
            raise Fault('unnamed', f'left out: {warned} {told}')
        return 'left out'
    sample = samples['fall_1_p_1'][MODALITIES[modality].key].numpy()
    sample = sample.reshape(-1, *sample.shape[-2:])
    if found is None:
        if same(sample, expected_pixels(modality, original).astype(sample.dtype)):
            return 'equal'
        raise Fault('silent', 'read although the oracle refuses it')
    array, transform, crs = found
    if transform is not None:
        _check_place(path, modality, transform, crs)
    if not same(sample, expected_pixels(modality, array).astype(sample.dtype)):
        raise Fault('silent', f'pixels differ: {sample.shape}, oracle {array.shape}')
    return 'equal'


def _check_place(path: Path, modality: ModalityName, transform: Any, crs: Any) -> None:
    """Check where a file is that is used."""
    grid = COMPONENTS[modality]([path], strict=True).headers[0].grid
    if (grid.xmin, grid.ymax, grid.xres, -grid.yres) != (
        *(transform.c, transform.f, transform.a, transform.e),
    ):
        raise Fault('silent', f'{grid} instead of {transform}')
    # Where GDAL finds no CRS, there may still be the right one
    if CRS.from_user_input(grid.crs) != (crs or CRS.from_epsg(32612)):
        raise Fault('silent', f'{grid} instead of {crs}')
    resolution = MODALITIES[modality].resolution
    if not np.allclose((grid.xres, grid.yres), resolution, rtol=1e-6):
        raise Fault('silent', f'used with pixels of {grid.xres} x {grid.yres} m')
    right = 303_000, 5_000_010 - 3 * FINE, 303_000 + 3 * FINE, 5_000_010
    off = np.abs(np.subtract(grid.bounds, right)).max()
    if off > MAX_OFFSET:
        raise Fault('silent', f'used although {off} m off')


# --- lists and the index


def listed_patches(path: Path) -> set[str] | None:
    """Patches that a list names, None if it is malformed."""
    wanted = set()
    try:
        with path.open(newline='', encoding='utf-8-sig') as file:
            for row in filter(None, csv.reader(file)):
                for modality, cell in zip(LIST_COLUMNS, row, strict=True):
                    cell = cell.strip()
                    match = FILENAME.fullmatch(os.path.basename(cell))
                    if not match or match['prefix'] != MODALITIES[modality].folder:
                        return None
                    if cell.startswith('/') or '..' in cell.split('/'):
                        return None
                    wanted.add(f'{match["season"]}_{match["area"]}_p_{match["number"]}')
    except (OSError, ValueError, csv.Error):
        return None
    return {name.replace('_p_0', '_p_') for name in wanted}


def check_list(root: Path, split: str) -> str:
    """Check an archive with a damaged list."""
    path = root / f'{split}.csv'
    wanted = listed_patches(path) if path.is_file() else None
    names = path.name, 'not found', *(wanted or ())
    command('info', root, names=names)
    with refused_by_name(*names):
        dataset, _ = open_quietly(root, split)
    inside = os.path.realpath(root) + os.sep
    if outside := [
        f for f in dataset.files if not os.path.realpath(f).startswith(inside)
    ]:
        raise Fault('outside', str(outside))
    got = set(dataset.index['patch']) | set(dataset.left_out)
    # Without patches, val has those of train, and says so
    if (
        path.is_file()
        and got != wanted
        and (wanted is None or split != 'val' or wanted)
    ):
        raise Fault('silent', f'{sorted(got)} instead of {wanted}')
    return 'left out' if dataset.left_out else 'equal'


def check_index(root: Path) -> str:
    """Check that an archive with a damaged index is as if it had none."""
    index = root / 'planetcr_index.parquet'
    damaged = index.read_bytes() if index.is_file() and not index.is_symlink() else None
    with refused_by_name(index.name):
        mine = _look(root)
    if damaged:
        index.write_bytes(damaged)
    command('info', root, names=[index.name])
    for path in [index] if os.path.lexists(index) else []:
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    anew = _look(root)
    for key in anew:
        if mine[key] != anew[key]:
            raise Fault('silent', f'{key}: {mine[key]} instead of {anew[key]}'[:600])
    return 'equal'


def _look(root: Path) -> dict[str, Any]:
    """All that an archive gives; pixels as bytes."""
    found: dict[str, Any] = {}
    for split in ('train', 'test'):
        dataset, told = open_quietly(root, split)
        told = [text for text in told if 'planetcr_index' not in text]
        found |= {f'{split} warnings': told, f'{split} files': dataset.files}
        found[f'{split} left out'] = dataset.left_out
        for name in ('patch', 'cloud_cover', 'native_crs', 'native_bounds', 'aoi'):
            found[f'{split} {name}'] = dataset.index[name].tolist()
        found[f'{split} samples'] = {
            name: {key: value.numpy().tobytes() for key, value in sample.items()}
            for name, sample in samples_of(dataset).items()
        }
    return found


# --- checkpoints and predictions


def check_checkpoint(path: Path) -> str:
    """Check that a damaged checkpoint is refused, or used as PyTorch reads it."""
    with refused_by_name(path.name), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        task = load_task(path)
    check_sums(path)
    content = torch.load(path, map_location='cpu', weights_only=True)
    theirs = content.get('network') or content['state_dict']
    for name, value in task.state_dict().items():
        other = theirs.get(name, theirs.get(f'module.{name.removeprefix("model.")}'))
        if other is None or not torch.equal(value.nan_to_num(7), other.nan_to_num(7)):
            raise Fault('silent', f'weights {name}')
    return 'equal'


def check_sums(path: Path) -> None:
    """Check that an archive that is used has no wrong checksum."""
    with contextlib.suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
        if bad := archive.testzip():
            raise Fault('silent', f'used although the checksum of {bad} is wrong')


def check_checkpoint_command(path: Path, *args: str | Path) -> str:
    """Check that a command refuses a damaged checkpoint, or uses one that is whole."""
    command(*args, names=[path.name])
    check_sums(path)
    return 'equal'


def check_prediction(root: Path, folder: Path) -> str:
    """Check predictions of which that of fall_3_p_1 is damaged."""
    path = next(folder.glob('fall_3_p_1.*'), folder / 'fall_3_p_1.tif')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        patches = EvaluationPatches(PlanetCR(root, 'test'), None)
    number = patches.names.index('fall_3_p_1')
    batch = torch.utils.data.default_collate([patches[number]])
    batch['image_clear'] = batch['image_clear'] / 1e4
    found = oracle(path)
    with refused_by_name(path.name, 'fall_3_p_1'):
        got = Predictions(folder, patches)(batch).numpy()[0]
    if found is None:
        raise Fault('silent', 'used although the oracle refuses it')
    array, transform, crs = found
    whole = array if array.dtype.kind == 'f' else array / 1e4
    if transform is not None:
        grid = patches.patch_grid(number)
        right = CRS.from_user_input(grid.crs)
        if (transform.a, transform.e) != (3, -3) or (crs or right) != right:
            raise Fault('silent', f'used although it lies elsewhere: {transform} {crs}')
        row, col = (
            round((transform.f - grid.ymax) / 3),
            round((grid.xmin - transform.c) / 3),
        )
        whole = whole[:, row : row + FINE, col : col + FINE]
    elif whole.shape[1:] != (FINE, FINE):
        raise Fault('silent', f'used although it has shape {whole.shape}')
    if whole.shape != got.shape or not np.allclose(got, whole, equal_nan=True):
        raise Fault('silent', f'pixels differ: {got.shape} {whole.shape}')
    return 'equal'


# --- whole scenes


def check_scene(folder: Path, part: str, checkpoint: Path) -> str:
    """Check a scene, its Sentinel-1 or its mask, one of which is damaged.

    Args:
        folder: Folder with all of them.
        part: Name of the damaged file.
        checkpoint: Checkpoint that copies.
    """
    out, scene, s1 = folder / 'out.tif', folder / 'scene.tif', folder / 's1.tif'
    mask = folder / part if 'mask' in part or 'udm2' in part else None
    model: Any = checkpoint
    if part != 'scene.tif':
        model = Constant(0.5) if mask else Radar()
    options: dict[str, Any] = {
        'tile_size': 96,
        'overlap': 32,
        'quicklook': False,
        **QUICK,
    }
    if part != 'scene.tif':
        options['dtype'] = 'float32'
    path = folder / part
    found = oracle(path)
    with refused_by_name(path.name), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        remove_clouds(model, scene, s1, out, mask, **options)
    if found is None:
        raise Fault('silent', 'used although the oracle refuses it')
    if not found[0].size:
        return 'equal'
    restored = oracle(out)
    image = oracle(scene)
    if restored is None or image is None or restored[1:] != image[1:]:
        raise Fault('silent', 'the restored scene lies elsewhere')
    check = {'scene.tif': _check_copy, 's1.tif': _check_radar}.get(part, _check_mask)
    check(path, image, restored[0])
    return 'equal'


def _check_copy(path: Path, scene: Any, restored: NDArray[Any]) -> None:
    """Check that a copied scene has the pixels of the scene, up to 1."""
    bands = {4: [0, 1, 2, 3], 8: [1, 3, 5, 7]}.get(len(scene[0]), [0, 1, 2, 3])
    image = scene[0][bands].astype(np.float64)
    with rasterio.open(path) as dataset:
        nodata = 0 if dataset.nodata is None else dataset.nodata
    has_data = (image != nodata).any(axis=0) & np.isfinite(image).all(axis=0)
    off = np.abs(image.clip(0, 10_000) - restored)[:, has_data]
    if off.size and off.max() > 1:
        raise Fault('silent', f'{(off > 1).sum()} values differ by up to {off.max()}')


def _check_radar(path: Path, scene: Any, restored: NDArray[Any]) -> None:
    """Check that what a model sees of Sentinel-1 is what rasterio warps."""
    with rasterio.open(path) as dataset:
        radar = dataset.read([1, 2]).astype(np.float64)
        nodata, place = dataset.nodata or 0, (dataset.transform, dataset.crs)
    gaps = (~np.isfinite(radar) | (radar == nodata)).any(axis=0)
    shape = scene[0].shape[1:]
    grid: dict[str, Any] = {
        'src_transform': place[0],
        'src_crs': place[1],
        'dst_transform': scene[1],
        'dst_crs': scene[2],
        'resampling': Resampling.bilinear,
        'dst_nodata': np.nan,
    }
    warped, near = np.full((2, *shape), np.nan), np.full(shape, np.nan)
    reproject(np.where(gaps, 0, radar), warped, **grid)
    reproject(gaps.astype(np.float64), near, **grid)
    low = np.array([-25, -32.5])[:, None, None]
    seen = ((warped - low) / -low).clip(0, 1)
    sure = (scene[0] != 0).any(axis=0) & np.isfinite(warped).all(axis=0) & (near == 0)
    off = np.abs(restored[:2] - seen)[:, sure]
    if off.size and off.max() > 0.02:
        raise Fault('silent', f'Sentinel-1 differs by up to {off.max()}')


def _check_mask(path: Path, scene: Any, restored: NDArray[Any]) -> None:
    """Check that clouds of a mask are replaced, and what is far from them is kept."""
    found = oracle(path)
    assert found
    mask, image = found[0], scene[0]
    if found[1:] != scene[1:] or mask.shape[1:] != image.shape[1:]:
        return
    cloud = mask[0] == 0 if len(mask) == 8 else mask[0] == 1
    has_data = (image != 0).any(axis=0)
    cloud &= has_data
    size = 2 * BLENDED + 1
    wide = torch.from_numpy(cloud[None].astype(np.float32))
    near = torch.nn.functional.max_pool2d(wide, size, 1, BLENDED)[0].numpy() > 0
    wrong = np.abs(restored - 0.5)[:, cloud] > 1e-5
    kept = np.abs(restored - image / 1e4)[:, has_data & ~near] > 1e-5
    if wrong.sum() + kept.sum():
        raise Fault('silent', f'{wrong.sum()} clouds, {kept.sum()} others are wrong')


def check_source(folder: Path, part: str, out: Path) -> str:
    """Check patches that are cut from sources of which one is damaged."""
    path = folder / part
    found = oracle(path)
    sources: dict[str, Any] = {
        'cloudy': folder / 'scene.tif',
        'clear': folder / 'clear.tif',
        's1': folder / 's1.tif',
        'landcover': folder / 'landcover.tif',
        'cloud_mask': folder / 'scene_udm2.tif',
    }
    with refused_by_name(path.name), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        make_patches(out, 'summer_1', max_nodata=0.5, **sources)
    if found is None:
        raise Fault('silent', 'used although the oracle refuses it')
    patches = [*out.glob('train/landcover_*/*/*.tif')]
    for patch in patches if part == 'landcover.tif' else []:
        made = oracle(patch)
        assert made
        warped = np.zeros(made[0].shape, np.uint8)
        grid = {'dst_transform': made[1], 'dst_crs': made[2]}
        codes, transform, crs = found
        reproject(
            codes[:1].astype(np.uint8),
            warped,
            src_transform=transform,
            src_crs=crs,
            **grid,
        )
        wrong = (warped != made[0]) & (warped != 0)
        if wrong.mean() > 0.01:
            raise Fault(
                'silent', f'{wrong.mean():.0%} of the land cover of {patch.name}'
            )
    return 'equal' if patches else 'left out'


# --- records, tables, configurations


def check_record(path: Path, *args: str | Path) -> str:
    """Check that a damaged record is refused, if it does not say the same as before."""
    before = json.loads((path.parent / 'before.json').read_text())
    command(*args, names=[path.name, path.stem, str(args[1])])
    if path.is_file() and json.loads(path.read_text(encoding='utf-8')) != before:
        raise Fault('silent', 'a record that says something else is taken')
    return 'equal'


def check_table(path: Path, *args: str | Path) -> str:
    """Check that a damaged table of scenes is refused, or read as csv reads it."""
    rows, cells = [], [path.name]
    with contextlib.suppress(OSError, ValueError, csv.Error):
        if path.is_file():
            text = path.read_text(encoding='utf-8-sig')
            rows = [*csv.DictReader(io.StringIO(text, newline=''))]
            cells += [str(cell) for row in rows for cell in row.values() if cell]
    names = [part for cell in cells for part in {cell, *Path(cell).parts[-1:]} if part]
    command(*args, names=names)
    if not rows or not all(
        (path.parent / (row['cloudy'] or '')).is_file() for row in rows
    ):
        raise Fault('silent', f'a table of {rows} is taken')
    return 'equal'


def check_config(path: Path, *args: str | Path) -> str:
    """Check that a damaged configuration is refused, or read as YAML."""
    command(*args, names=[path.name, 'error: ', 'not found'])
    if not isinstance(yaml.safe_load(path.read_text(encoding='utf-8-sig')), dict):
        raise Fault('silent', 'a configuration that is none is taken')
    return 'equal'
