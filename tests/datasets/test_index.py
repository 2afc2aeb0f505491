# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import contextlib
import json
import multiprocessing
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rasterio
import torch
from pyproj import CRS
from rasterio.warp import transform_bounds
from systems import full_disk, needs_linux, needs_posix

from torchgeo_planetcr.datasets import PlanetCR, index
from torchgeo_planetcr.datasets.index import FILENAME, FORMAT, ArchiveIndex, open_index
from torchgeo_planetcr.datasets.modalities import LIST_COLUMNS, MODALITIES, ModalityName
from torchgeo_planetcr.datasets.native_raster import LeftOutWarning
from torchgeo_planetcr.samplers import CenterNativePatchSampler

PATCH = 'summer_33_p_1'

#: Start of the names of the files of each modality.
FOLDERS = {name: row.folder for name, row in MODALITIES.items()}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache folder, of each test its own."""
    home = tmp_path / 'cache'
    monkeypatch.setenv('XDG_CACHE_HOME', str(home))
    return home / 'torchgeo-planetcr'


@pytest.fixture
def full_root(own_root: Path) -> Path:
    """A tree with areas enough for a validation split, without an index."""
    (own_root / FILENAME).unlink(missing_ok=True)
    return own_root


@pytest.fixture
def small_root(root: Path, tmp_path: Path) -> Path:
    """A tree of three patches to train and three to test, without an index."""
    areas = [f'*_{i}' for i in range(2, 11)]
    ignore = shutil.ignore_patterns(FILENAME, *areas)
    return Path(shutil.copytree(root, tmp_path / 'own', ignore=ignore))


@pytest.fixture
def quiet() -> Iterator[None]:
    """Let no warning pass."""
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        yield


@pytest.fixture
def indexed(small_root: Path) -> Path:
    """A tree whose index is fresh."""
    open_index(small_root)
    assert (small_root / FILENAME).is_file()
    return small_root


def kept_path(root: Path) -> str | None:
    """Where the index of a tree is kept."""
    return open_index(root).path


def find(root: Path, modality: ModalityName, patch: str = PATCH) -> Path:
    """File of a patch."""
    row = MODALITIES[modality]
    (path,) = root.rglob(f'{row.folder}_{patch}{row.suffix}')
    return path


def state(path: Path) -> tuple[int, int, bytes]:
    """What changes when a file is written."""
    stat = path.stat()
    return stat.st_ino, stat.st_mtime_ns, path.read_bytes()


def forge(path: Path) -> None:
    """Put zeros in place of a file that seems unchanged, so that reading it shows."""
    stat = path.stat()
    os.truncate(path, 0)
    os.truncate(path, stat.st_size)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def forge_all(root: Path, but: tuple[Path, ...] = ()) -> None:
    for suffix in ('tif', 'npy'):
        for path in root.rglob(f'*.{suffix}'):
            if path not in but:
                forge(path)


def remake(root: Path, folder: Path) -> ArchiveIndex:
    """Index of a copy of a tree that has none."""
    ignore = shutil.ignore_patterns(FILENAME)
    copy = Path(
        shutil.copytree(
            root, folder, symlinks=True, ignore=ignore, copy_function=os.link
        )
    )
    return open_index(copy)


def check_same(found: ArchiveIndex, expected: ArchiveIndex) -> None:
    """Compare two indexes, of which one may be of a copy."""
    for name in expected.table.column_names:
        left, right = found.column(name), expected.column(name)
        pd.testing.assert_series_equal(left, right, obj=name)
    assert found.notes == expected.notes
    assert found.errors == expected.errors


def load(root: Path, split: str = 'test', **options: Any) -> dict[str, torch.Tensor]:
    """All pixels of a split, by file and key."""
    dataset = PlanetCR(root, split, **options)  # ty: ignore[invalid-argument-type]
    samples = {}
    for query in CenterNativePatchSampler(dataset, size=None):
        for key, value in dataset[query].items():
            name = os.path.relpath(str(query.filepath), root)
            samples[f'{name} {key}'] = value
    return samples


def check_pixels(root: Path, reference: Path) -> None:
    found, expected = load(root), load(reference)
    assert found.keys() == expected.keys()
    for key in expected:
        assert torch.equal(found[key], expected[key]), key


def leftovers(*folders: Path) -> list[str]:
    """Temporary files."""
    paths = [path for folder in folders if folder.is_dir() for path in folder.iterdir()]
    hidden = ('.parquet.', '.unfinished')
    return [path.name for path in paths if any(part in path.name for part in hidden)]


@pytest.mark.usefixtures('quiet')
class TestFresh:
    def test_made_at_first_use(self, small_root: Path, cache: Path) -> None:
        path = small_root / FILENAME
        assert not path.exists()
        PlanetCR(small_root)
        assert kept_path(small_root) == str(path)
        assert not cache.exists()
        assert leftovers(small_root) == []

    def test_read_without_the_files(self, full_root: Path) -> None:
        """A second opening opens no file of the archive."""
        indexed = full_root
        open_index(indexed)
        before = state(indexed / FILENAME)
        expected = {
            split: PlanetCR(indexed, split) for split in ('train', 'val', 'test')
        }
        forge_all(indexed)
        for split, dataset in expected.items():
            found = PlanetCR(indexed, split)  # ty: ignore[invalid-argument-type]
            pd.testing.assert_frame_equal(
                pd.DataFrame(found.index), pd.DataFrame(dataset.index)
            )
            for modality, component in dataset.components.items():
                table = found.components[modality].headers.table
                assert table.equals(component.headers.table)
        assert state(indexed / FILENAME) == before

    def test_serves_all_splits_and_modalities(self, full_root: Path) -> None:
        PlanetCR(full_root, 'test', 'sentinel1')
        before = state(full_root / FILENAME)
        forge_all(full_root)
        for split in ('train', 'val', 'test'):
            PlanetCR(full_root, split)
            PlanetCR(full_root, split, ['cloud_mask', 'worldcover'], 'native', 1)
        assert state(full_root / FILENAME) == before

    @pytest.mark.parametrize('kind', [str, Path, lambda root: f'{root}/'])
    def test_spelling_of_root(self, indexed: Path, kind: Callable[[Path], Any]) -> None:
        before = state(indexed / FILENAME)
        assert len(PlanetCR(kind(indexed), 'test')) == 3
        assert state(indexed / FILENAME) == before

    def test_relative_root(
        self, indexed: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = state(indexed / FILENAME)
        monkeypatch.chdir(indexed)
        assert len(PlanetCR('.', 'test')) == 3
        monkeypatch.chdir(indexed.parent)
        dataset = PlanetCR(indexed.name, 'test')
        assert all(path.startswith(f'{indexed.name}/') for path in dataset.files)
        assert state(indexed / FILENAME) == before

    def test_pixels(self, indexed: Path, root: Path) -> None:
        check_pixels(indexed, root)

    def test_no_patch(self, tmp_path: Path, cache: Path) -> None:
        (tmp_path / 'train').mkdir()
        assert open_index(tmp_path).table.num_rows == 0
        assert open_index(tmp_path / 'nowhere').table.num_rows == 0
        assert not (tmp_path / FILENAME).exists()
        assert not (tmp_path / 'nowhere').exists()
        assert not cache.exists()


def save_in_place(path: Path) -> None:
    np.save(path, ~np.load(path))


def update_in_place(path: Path) -> None:
    with rasterio.open(path, 'r+') as dst:
        dst.nodata = 12
        dst.write(dst.read() + 1)


def replace_by_rename(path: Path) -> None:
    new = path.with_name('.new')
    with rasterio.open(path) as src:
        array, profile = src.read(), src.profile
    with rasterio.open(new, 'w', **(profile | {'interleave': 'band'})) as dst:
        dst.write(array[::-1])
    new.rename(path)


def compress(path: Path) -> None:
    with rasterio.open(path) as src:
        array, profile = src.read(), src.profile
    with rasterio.open(path, 'w', **(profile | {'compress': 'deflate'})) as dst:
        dst.write(array)


def move_west(path: Path) -> None:
    with rasterio.open(path, 'r+') as dst:
        dst.transform = dst.transform.translation(-900, 0) @ dst.transform


def halve(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def break_link(path: Path) -> None:
    path.unlink()
    path.symlink_to('nowhere')


def turn_to_fortran(path: Path) -> None:
    np.save(path, np.asfortranarray(np.load(path)))


#: Name, modality and change of a file.
CHANGES: list[tuple[str, Callable[[Path], None]]] = [
    ('cloud_mask', save_in_place),
    ('cloud_mask', turn_to_fortran),
    ('cloud_mask', Path.unlink),
    ('cloud_mask', halve),
    ('cloudy', update_in_place),
    ('cloudy', replace_by_rename),
    ('cloudy', compress),
    ('cloudy', move_west),
    ('cloudy', halve),
    ('cloudy', Path.unlink),
    ('cloudy', make_folder),
    ('cloudy', break_link),
    ('clear', Path.unlink),
    ('sentinel1', update_in_place),
    ('worldcover', halve),
]


class TestUpdate:
    @pytest.mark.parametrize(
        ('modality', 'change'),
        CHANGES,
        ids=[f'{modality}-{change.__name__}' for modality, change in CHANGES],
    )
    def test_one_file(
        self,
        indexed: Path,
        tmp_path: Path,
        modality: ModalityName,
        change: Callable[[Path], None],
    ) -> None:
        """An updated index is the one that would be made anew, of that file alone."""
        before = open_index(indexed)
        path = find(indexed, modality)
        read = {path}
        # The cloud mask takes its place from the cloudy image.
        if modality in ('cloudy', 'cloud_mask'):
            read |= {find(indexed, 'cloudy'), find(indexed, 'cloud_mask')}
        change(path)
        expected = remake(indexed, tmp_path / 'copy')
        forge_all(indexed, tuple(read))
        found = open_index(indexed)
        check_same(found, expected)
        assert not found.table.equals(before.table)
        written = state(indexed / FILENAME)
        check_same(open_index(indexed), expected)
        assert state(indexed / FILENAME) == written

    @pytest.mark.parametrize(
        ('modality', 'damage'),
        [
            ('cloudy', halve),
            ('cloudy', Path.unlink),
            ('cloudy', make_folder),
            ('cloudy', break_link),
            ('cloud_mask', halve),
            ('cloud_mask', Path.unlink),
            ('sentinel1', halve),
        ],
    )
    def test_repaired(
        self, indexed: Path, modality: ModalityName, damage: Callable[[Path], None]
    ) -> None:
        path = find(indexed, modality)
        content = path.read_bytes()
        expected = open_index(indexed)
        damage(path)
        with pytest.warns(LeftOutWarning, match=r'1 patch\(s\)'):
            dataset = PlanetCR(indexed, 'test')
        assert list(dataset.left_out) == [PATCH]
        # As often as it is opened.
        with pytest.warns(LeftOutWarning, match=r'1 patch\(s\)'):
            PlanetCR(indexed, 'test')
        if path.is_dir():
            path.rmdir()
        elif path.is_symlink():
            path.unlink()
        path.write_bytes(content)
        found = open_index(indexed)
        assert len(PlanetCR(indexed, 'test', strict=True)) == 3
        pd.testing.assert_series_equal(
            found.column('cloud_cover'), expected.column('cloud_cover')
        )
        headers = [
            index.headers(modality).table.drop('mtime_ns')
            for index in (found, expected)
        ]
        assert headers[0].equals(headers[1])

    def test_image_moves_its_mask(self, indexed: Path) -> None:
        """What lies at another place now has its cloud mask there too."""
        before = open_index(indexed)
        row = before.column('patch').tolist().index(PATCH)
        for modality in ('cloudy', 'clear', 'sentinel1', 'worldcover'):
            move_west(find(indexed, modality))
        after = open_index(indexed)
        for modality in MODALITIES:
            old, new = (
                before.headers(modality)[row].grid,
                after.headers(modality)[row].grid,
            )
            assert new == old._replace(xmin=old.xmin - 900)
        assert len(PlanetCR(indexed, 'test', strict=True)) == 3

    def test_image_is_repaired(self, indexed: Path, root: Path) -> None:
        """The mask of an image that could not be read is read when it can."""
        path = find(indexed, 'cloudy')
        halve(path)
        row = open_index(indexed).column('patch').tolist().index(PATCH)
        assert pd.isna(open_index(indexed).column('cloud_cover')[row])
        shutil.copy(find(root, 'cloudy'), path)
        expected = np.load(find(root, 'cloud_mask')).mean()
        assert open_index(indexed).column('cloud_cover')[row] == expected
        check_pixels(indexed, root)

    @pytest.mark.parametrize('modality', ['sentinel1', 'cloudy'])
    def test_image_removed_and_back(
        self, indexed: Path, tmp_path: Path, modality: ModalityName
    ) -> None:
        path = find(indexed, modality)
        path.rename(tmp_path / 'away')
        check_same(open_index(indexed), remake(indexed, tmp_path / 'first'))
        (tmp_path / 'away').rename(path)
        found = open_index(indexed)
        check_same(found, remake(indexed, tmp_path / 'second'))
        assert len(PlanetCR(indexed, 'test', strict=True)) == 3

    def test_added_patches(
        self, indexed: Path, data: ModuleType, tmp_path: Path
    ) -> None:
        area = next(area for area in data.AREAS if area.name == 'summer_33')
        new = []
        for modality, kind in FOLDERS.items():
            suffix = '.npy' if modality == 'cloud_mask' else '.tif'
            source = data.filepath(indexed, area, 1, kind, suffix)
            for number in (2, 10):
                new.append(data.filepath(indexed, area, number, kind, suffix))
                shutil.copy(source, new[-1])
        expected = remake(indexed, tmp_path / 'copy')
        forge_all(indexed, tuple(new))
        check_same(open_index(indexed), expected)
        names = PlanetCR(indexed, 'test').index['patch'].tolist()
        assert names[:3] == ['summer_33_p_1', 'summer_33_p_2', 'summer_33_p_10']
        assert len(names) == 5

    def test_removed_area(self, indexed: Path, tmp_path: Path) -> None:
        for path in indexed.glob('train/*/*_spring_1'):
            shutil.rmtree(path)
        expected = remake(indexed, tmp_path / 'copy')
        forge_all(indexed)
        found = open_index(indexed)
        check_same(found, expected)
        assert 'spring_1' not in found.column('aoi').tolist()

    def test_all_removed(self, indexed: Path) -> None:
        shutil.rmtree(indexed / 'train')
        shutil.rmtree(indexed / 'test')
        assert open_index(indexed).table.num_rows == 0

    def test_auxiliary_file(self, indexed: Path, tmp_path: Path) -> None:
        """What overrules a file counts as part of it, when it comes and when it goes."""
        before = open_index(indexed)
        path = find(indexed, 'clear')
        beside = path.with_name(f'{path.name}.aux.xml')
        beside.write_text('<PAMDataset><SRS>EPSG:32601</SRS></PAMDataset>')
        found = open_index(indexed)
        check_same(found, remake(indexed, tmp_path / 'copy'))
        assert 'EPSG:32601' in found.column('clear_crs').tolist()
        beside.unlink()
        check_same(open_index(indexed), before)

    def test_dates_before_computers(self, small_root: Path, tmp_path: Path) -> None:
        """Tools that make archives reproducible set all times to 0."""
        for path in small_root.rglob('*.*'):
            os.utime(path, ns=(0, 0))
        open_index(small_root)
        path = find(small_root, 'sentinel1')
        update_in_place(path)
        expected = remake(small_root, tmp_path / 'copy')
        forge_all(small_root, (path,))
        check_same(open_index(small_root), expected)

    def test_other_files(self, indexed: Path) -> None:
        """Hidden files, and those of others, are none of the data set."""
        before = open_index(indexed)
        folder = find(indexed, 'cloudy').parent
        (folder / f'.{PATCH}.tif').write_text('hidden')
        (folder / f'._planet_cloudy_{PATCH}.tif').write_text('of a Mac')
        (folder / 'notes.txt').write_text('text')
        hidden = indexed / 'test' / '.trash'
        shutil.copytree(folder, hidden / 'planet_cloudy_summer_99')
        name = f'planet_cloudy_{PATCH}.tif'
        assert (hidden / 'planet_cloudy_summer_99' / name).is_file()
        (indexed / 'other').mkdir()
        check_same(open_index(indexed), before)

    def test_symlinks(self, indexed: Path, root: Path, tmp_path: Path) -> None:
        """Folders and files may lie elsewhere."""
        before = open_index(indexed)
        for number, path in enumerate(
            (
                indexed / 'train',
                indexed / 'test' / 'S1_summer',
                indexed / 'test' / 'landcover_summer' / 'landcover_summer_33',
                find(indexed, 'clear'),
            )
        ):
            place = path.rename(tmp_path / f'place {number}')
            path.symlink_to(place)
        check_same(open_index(indexed), before)
        check_pixels(indexed, root)
        target = find(indexed, 'clear').resolve()
        update_in_place(target)
        row = before.column('patch').tolist().index(PATCH)
        assert open_index(indexed).headers('clear')[row].nodata == 12


def line(patch: str) -> str:
    """A row of the authors' lists."""
    season, area, *_ = patch.split('_')
    names = []
    for modality in LIST_COLUMNS:
        kind = FOLDERS[modality]
        suffix = 'npy' if modality == 'cloud_mask' else 'tif'
        folder = f'{kind}_{season}/{kind}_{season}_{area}'
        names.append(f'{folder}/{kind}_{patch}.{suffix}')
    return ','.join(names) + '\n'


class TestLists:
    def test_change(self, indexed: Path) -> None:
        """Lists that come, change and go, without reading a file again."""
        path = indexed / 'test.csv'
        before = open_index(indexed)
        forge_all(indexed)
        for patches in ([PATCH], ['winter_34_p_2', PATCH], ['winter_34_p_1']):
            path.write_text(''.join(map(line, patches)))
            dataset = PlanetCR(indexed, 'test')
            assert sorted(dataset.index['patch']) == sorted(patches)
        index = open_index(indexed)
        splits = dict(zip(index.column('patch'), index.column('split')))
        assert splits['winter_34_p_1'] == 'test'
        assert pd.isna(splits[PATCH])
        assert len(index.table) == len(before.table)
        path.unlink()
        check_same(open_index(indexed), before)

    def test_missing_file(self, indexed: Path) -> None:
        (indexed / 'test.csv').write_text(line(PATCH) + line('fall_99_p_1'))
        for _ in range(2):
            with pytest.warns(LeftOutWarning, match=f'{indexed}/test/.*_fall_99_p_1'):
                dataset = PlanetCR(indexed, 'test')
            assert dataset.index['patch'].tolist() == [PATCH]

    def test_malformed(self, indexed: Path, tmp_path: Path) -> None:
        """The error is kept, and names the list where it is now."""
        path = indexed / 'csv' / 'val.csv'
        path.parent.mkdir()
        path.write_text('a,b\n')
        for _ in range(2):
            for split in ('train', 'val'):
                with pytest.raises(ValueError, match=f'{path}, line 1: 2 columns'):
                    PlanetCR(indexed, split)
            assert len(PlanetCR(indexed, 'test')) == 3
        moved = indexed.rename(tmp_path / 'moved')
        with pytest.raises(ValueError, match=f'{moved}/csv/val.csv, line 1'):
            PlanetCR(moved, 'train')
        (moved / 'csv' / 'val.csv').unlink()
        assert len(PlanetCR(moved, 'train')) == 3

    def test_note(self, indexed: Path, tmp_path: Path) -> None:
        (indexed / 'one_test_sample.csv').write_text(line(PATCH))
        for _ in range(2):
            with pytest.warns(UserWarning, match=f'{indexed}: one_test_sample.csv'):
                assert len(PlanetCR(indexed, 'test')) == 1
        moved = indexed.rename(tmp_path / 'moved')
        with pytest.warns(UserWarning, match=f'{moved}: one_test_sample.csv'):
            PlanetCR(moved, 'test')


class TestOtherRoot:
    @pytest.mark.parametrize('move', [shutil.copytree, os.rename])
    @pytest.mark.usefixtures('quiet')
    def test_moved(
        self, indexed: Path, root: Path, tmp_path: Path, move: Callable[..., Any]
    ) -> None:
        other = tmp_path / 'elsewhere'
        move(indexed, other)
        if indexed.exists():
            shutil.rmtree(indexed)
        dataset = PlanetCR(other, 'test')
        assert all(path.startswith(f'{other}/') for path in dataset.files)
        check_pixels(other, root)

    def test_copied_is_not_read_again(self, indexed: Path, tmp_path: Path) -> None:
        other = Path(shutil.copytree(indexed, tmp_path / 'other'))
        forge_all(other)
        check_same(open_index(other), open_index(indexed))

    @pytest.mark.parametrize('relative', [True, False])
    @pytest.mark.parametrize(
        ('modality', 'damage'),
        [('cloudy', halve), ('cloudy', Path.unlink), ('cloud_mask', halve)],
    )
    def test_errors_name_the_new_root(
        self,
        small_root: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        modality: ModalityName,
        relative: bool,
        damage: Callable[[Path], None],
    ) -> None:
        damage(find(small_root, modality))
        monkeypatch.chdir(small_root.parent)
        open_index(small_root.name if relative else small_root)
        other = Path(shutil.copytree(small_root, tmp_path / 'folder' / 'other'))
        found = open_index(other)
        (other / FILENAME).unlink()
        expected = open_index(other)
        for name in MODALITIES:
            problems = found.problems(name).dropna().tolist()
            assert problems == expected.problems(name).dropna().tolist()
            assert not any(str(small_root) in problem for problem in problems)
        with pytest.warns(LeftOutWarning, match=PATCH):
            PlanetCR(other, 'test')

    def test_index_of_another(self, indexed: Path, root: Path, tmp_path: Path) -> None:
        """An index that was put there by mistake does no harm."""
        other = Path(shutil.copytree(root, tmp_path / 'other'))
        for path in other.glob('test/*/*winter_34'):
            shutil.rmtree(path)
        for modality in MODALITIES:
            path = find(other, modality)
            path.write_bytes(find(root, modality, 'winter_34_p_1').read_bytes())
        shutil.copy(indexed / FILENAME, other / FILENAME)
        found = open_index(other)
        check_same(found, remake(other, tmp_path / 'copy'))
        dataset = PlanetCR(other, 'test')
        assert dataset.index['native_crs'].tolist() == ['EPSG:32646']
        assert all(path.startswith(f'{other}/') for path in dataset.files)


def cut(path: Path) -> None:
    halve(path)


def empty(path: Path) -> None:
    path.write_bytes(b'')


def randomize(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size))


def flip_in_data(path: Path) -> None:
    """Change a byte of a column, which a reader need not notice."""
    with pq.ParquetFile(path) as file:
        group = file.metadata.row_group(0)
        names = [group.column(i).path_in_schema for i in range(group.num_columns)]
        column = group.column(names.index('cloudy_xmin'))
    content = bytearray(path.read_bytes())
    place = column.data_page_offset + column.total_compressed_size // 2
    content[place] ^= 0x55
    path.write_bytes(content)


def change_column(path: Path, name: str, change: Callable[[Any], Any]) -> None:
    """Change the first value of a column, and write the index as it should be."""
    table = pq.read_table(path)
    number = table.schema.get_field_index(name)
    values = table[name].to_pylist()
    values[0] = change(values[0])
    field = table.schema.field(number)
    column = pa.array(values, field.type)
    pq.write_table(table.set_column(number, field, column), path)


def change_notes(path: Path) -> None:
    table = pq.read_table(path)
    metadata = dict(table.schema.metadata)
    kept = json.loads(metadata[b'PANDAS_ATTRS'])
    kept |= {'notes': {'test': 'made up'}, 'errors': {'train': 'made up'}}
    metadata[b'PANDAS_ATTRS'] = json.dumps(kept).encode()
    pq.write_table(table.replace_schema_metadata(metadata), path)


#: What somebody may have written into an index.
MADE_UP: list[tuple[str, Callable[[Any], Any]]] = [
    ('cloudy', lambda path: '../../../etc/passwd'),
    ('clear', lambda path: path.replace('_1', '_2')),
    ('cloudy_offset', lambda offset: offset + 2),
    ('cloudy_dtype', lambda dtype: '|O'),
    ('cloudy_xmin', lambda xmin: xmin + 3),
    ('cloudy_crs', lambda crs: 'EPSG:32733'),
    ('cloudy_nodata', lambda nodata: 1234),
    ('cloudy_size', lambda size: None),
    ('cloudy_problem', lambda problem: 'made up'),
    ('aoi', lambda aoi: '../../outside'),
    ('split', lambda split: 'test'),
    ('cloud_cover', lambda cover: 0.123),
]


def drop_mark(path: Path) -> None:
    pq.write_table(pq.read_table(path), path)


def drop_column(path: Path) -> None:
    table = pq.read_table(path)
    pq.write_table(table.drop('sentinel1_crs'), path)


def link_elsewhere(path: Path) -> None:
    """Also a link to an index that is in order."""
    path.symlink_to(path.rename(path.with_name('other.parquet')))


def make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def link_to_device(path: Path) -> None:
    path.unlink()
    path.symlink_to('/dev/zero')


def fill_with_nothing(path: Path) -> None:
    """A file that takes no place on the disk, and more than all memory."""
    os.truncate(path, 2**42)


def make_bomb(path: Path) -> None:
    """Some kilobytes that become gigabytes."""
    schema = pq.read_schema(path)
    rows = 1_000_000
    columns = [pa.nulls(rows, field.type) for field in schema]
    columns[0] = pa.repeat(pa.scalar('x' * 10), rows)
    with pq.ParquetWriter(path, schema, compression='zstd') as writer:
        for _ in range(10):
            writer.write_table(pa.table(columns, schema=schema))


def write_other_parquet(path: Path) -> None:
    pd.DataFrame({'a': [1]}).to_parquet(path)


class TestDamaged:
    def check_made_anew(self, root: Path, damage: Callable[[Path], None]) -> None:
        """All is as if there were no index, but for one warning that names it."""
        path = root / FILENAME
        expected = open_index(root)
        damage(path)
        with pytest.warns(
            UserWarning, match=f'The index {path} cannot be used'
        ) as caught:
            found = open_index(root)
        assert len(caught) == 1
        check_same(found, expected)
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            check_same(open_index(root), expected)

    @pytest.mark.parametrize(
        'damage',
        [
            cut,
            empty,
            randomize,
            flip_in_data,
            drop_mark,
            drop_column,
            change_notes,
            write_other_parquet,
            fill_with_nothing,
            make_bomb,
        ],
    )
    def test_made_anew(
        self, indexed: Path, root: Path, damage: Callable[[Path], None]
    ) -> None:
        self.check_made_anew(indexed, damage)
        check_pixels(indexed, root)

    @needs_posix
    @pytest.mark.parametrize('damage', [link_elsewhere, make_pipe, link_to_device])
    def test_no_regular_file(
        self, indexed: Path, damage: Callable[[Path], None]
    ) -> None:
        self.check_made_anew(indexed, damage)

    @pytest.mark.parametrize(('name', 'change'), MADE_UP)
    def test_made_up(
        self, indexed: Path, name: str, change: Callable[[Any], Any]
    ) -> None:
        """Nothing in an index is believed that was not derived here."""
        self.check_made_anew(indexed, lambda path: change_column(path, name, change))

    @pytest.mark.parametrize('step', [-1, 1])
    def test_of_another_version(
        self, indexed: Path, monkeypatch: pytest.MonkeyPatch, step: int
    ) -> None:
        expected = open_index(indexed)
        monkeypatch.setattr(index, 'FORMAT', FORMAT + step)
        with pytest.warns(UserWarning, match=FILENAME):
            check_same(open_index(indexed), expected)

    def test_every_place(self, indexed: Path) -> None:
        """A flipped byte anywhere is noticed, or without effect on what is read."""
        path = indexed / FILENAME
        expected = open_index(indexed)
        content = path.read_bytes()
        rng = np.random.default_rng(0)
        caught = 0
        for place in rng.integers(0, len(content), 40).tolist():
            damaged = bytearray(content)
            damaged[place] ^= 1 << int(rng.integers(8))
            path.write_bytes(damaged)
            with warnings.catch_warnings(record=True) as record:
                warnings.simplefilter('always')
                check_same(open_index(indexed), expected)
            caught += len(record)
        assert caught > 10

    def test_folder_in_its_place(
        self, small_root: Path, root: Path, cache: Path
    ) -> None:
        """The user's cache folder takes the index."""
        (small_root / FILENAME).mkdir()
        check_pixels(small_root, root)
        (path,) = cache.iterdir()
        assert kept_path(small_root) == str(path)
        before = state(path)
        check_pixels(small_root, root)
        assert state(path) == before
        assert leftovers(small_root, cache) == []


class TestOtherUsers:
    """Each user has a key. What one has indexed, another indexes anew, once."""

    @pytest.fixture
    def become(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Callable[[str], None]:
        """Function that makes this process one of another user's."""

        def become(name: str) -> None:
            for variable in ('XDG_CACHE_HOME', 'XDG_DATA_HOME'):
                monkeypatch.setenv(variable, str(tmp_path / name))

        become('first')
        return become

    def test_index_of_a_stranger(
        self, become: Callable[[str], None], small_root: Path
    ) -> None:
        expected = open_index(small_root)
        become('second')
        with pytest.warns(UserWarning, match=f'{FILENAME} cannot be used'):
            check_same(open_index(small_root), expected)
        forge_all(small_root)
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            check_same(open_index(small_root), expected)

    @pytest.mark.skipif(
        not hasattr(os, 'geteuid') or os.geteuid() != 0, reason='only root gives away'
    )
    def test_shared_folder(
        self, become: Callable[[str], None], small_root: Path
    ) -> None:
        """An index of a user who can write to the folder, too, stays as it is."""
        expected = open_index(small_root)
        path = small_root / FILENAME
        os.chown(path, 12345, -1)
        before = state(path)
        become('second')
        with pytest.warns(UserWarning, match=f'{FILENAME} cannot be used'):
            found = open_index(small_root)
        assert found.path != str(path)
        check_same(found, expected)
        forge_all(small_root)
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            check_same(open_index(small_root), expected)
            become('first')
            check_same(open_index(small_root), expected)
        assert state(path) == before

    def test_no_key(
        self,
        become: Callable[[str], None],
        small_root: Path,
        root: Path,
        tmp_path: Path,
    ) -> None:
        """Without a place for a key, all works, but takes its time."""
        (tmp_path / 'file').touch()
        become('file/home')
        for _ in range(2):
            with pytest.warns(UserWarning, match='cannot be kept') as caught:
                found = open_index(small_root)
            assert len(caught) == 1
            assert found.path is None
            assert found.table.num_rows == 6
        assert not (small_root / FILENAME).exists()
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', UserWarning)
            check_pixels(small_root, root)


class TestPlaces:
    @pytest.fixture
    def locked(self, small_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A tree in which the index would lie below a file, which nobody may write."""
        monkeypatch.setattr(index, 'FILENAME', f'occupied/{FILENAME}')
        (small_root / 'occupied').touch()
        return small_root

    @pytest.mark.usefixtures('quiet')
    def test_cache(self, locked: Path, cache: Path) -> None:
        PlanetCR(locked, 'test')
        (path,) = cache.iterdir()
        assert path.suffix == '.parquet'
        before = state(path)
        expected = open_index(locked)
        save_in_place(find(locked, 'cloud_mask'))
        found = open_index(locked)
        assert state(path) != before
        assert (
            found.column('cloud_cover').tolist()
            != expected.column('cloud_cover').tolist()
        )
        forge_all(locked)
        check_same(open_index(locked), found)

    @pytest.mark.usefixtures('quiet')
    def test_cache_of_several_roots(
        self, locked: Path, cache: Path, root: Path, tmp_path: Path
    ) -> None:
        other = Path(shutil.copytree(locked, tmp_path / 'other'))
        shutil.rmtree(other / 'train')
        for _ in range(2):
            assert len(PlanetCR(locked)) == 3
            assert open_index(other).table.num_rows == 3
            assert len(list(cache.iterdir())) == 2
        # However a root is called.
        link = tmp_path / 'link'
        link.symlink_to(locked)
        PlanetCR(link)
        PlanetCR(f'{link}/')
        assert len(list(cache.iterdir())) == 2

    @pytest.mark.usefixtures('quiet')
    def test_newest(self, locked: Path, cache: Path) -> None:
        """An index in the folder, made later, replaces that in the cache folder."""
        open_index(locked)
        (kept,) = cache.iterdir()
        (locked / 'occupied').unlink()
        find(locked, 'sentinel1').unlink()
        open_index(locked)
        path = locked / 'occupied' / FILENAME
        assert path.is_file()
        os.utime(kept, (0, 0))
        assert kept_path(locked) == str(path)
        before = state(kept)
        forge_all(locked)
        open_index(locked)
        assert state(kept) == before

    def test_nowhere(
        self, locked: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / 'file').touch()
        monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file' / 'cache'))
        for _ in range(2):
            with pytest.warns(UserWarning, match='cannot be kept') as caught:
                dataset = PlanetCR(locked, 'test')
            assert len(caught) == 1
            assert str(locked) in str(caught[0].message)
            assert len(dataset) == 3
        assert kept_path(locked) is None
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', UserWarning)
            check_pixels(locked, root)
        assert leftovers(locked) == []


def open_in_process(
    root: Path, size_limit: int | None, ready: Any, results: Any
) -> None:
    """Open a folder in a process of its own, at the same time as others."""
    limit = contextlib.nullcontext() if size_limit is None else full_disk(size_limit)
    ready.wait()
    with limit, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        index = open_index(root)
    messages = [str(warning.message) for warning in caught]
    results.put((index.column('cloud_cover').tolist(), messages))


def open_in_processes(
    root: Path, number: int, size_limit: int | None = None
) -> list[tuple[list[float], list[str]]]:
    """Open a folder in processes at once: what they find, and their warnings."""
    context = multiprocessing.get_context('fork')
    ready, results = context.Barrier(number), context.SimpleQueue()
    arguments = root, size_limit, ready, results
    processes = [
        context.Process(target=open_in_process, args=arguments) for _ in range(number)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * number
    return [results.get() for _ in processes]


@needs_linux
@pytest.mark.filterwarnings('ignore:.*use of fork:DeprecationWarning')
class TestProcesses:
    @pytest.mark.parametrize('state_before', ['none', 'stale', 'damaged'])
    def test_at_once(
        self, small_root: Path, cache: Path, tmp_path: Path, state_before: str
    ) -> None:
        if state_before != 'none':
            open_index(small_root)
        if state_before == 'stale':
            save_in_place(find(small_root, 'cloud_mask'))
        elif state_before == 'damaged':
            halve(small_root / FILENAME)
        expected = remake(small_root, tmp_path / 'copy')
        results = open_in_processes(small_root, 4)
        for cover, messages in results:
            assert cover == expected.column('cloud_cover').tolist()
            assert not messages or state_before == 'damaged'
        assert leftovers(small_root, cache) == []
        assert not cache.exists()
        before = state(small_root / FILENAME)
        forge_all(small_root)
        check_same(open_index(small_root), expected)
        assert state(small_root / FILENAME) == before

    def test_full_disk(self, small_root: Path, cache: Path, root: Path) -> None:
        """What cannot be written as a whole leaves nothing behind."""
        ((cover, messages),) = open_in_processes(small_root, 1, size_limit=1000)
        (message,) = messages
        assert f'The index of {small_root} cannot be kept' in message
        assert not (small_root / FILENAME).exists()
        assert leftovers(small_root, cache) == []
        assert list(cache.iterdir()) == []
        check_pixels(small_root, root)
        assert (small_root / FILENAME).is_file()
        assert open_index(small_root).column('cloud_cover').tolist() == cover

    def test_full_disk_keeps_the_old_index(self, indexed: Path, cache: Path) -> None:
        before = state(indexed / FILENAME)
        path = find(indexed, 'cloud_mask')
        save_in_place(path)
        ((cover, messages),) = open_in_processes(indexed, 1, size_limit=1000)
        assert 'cannot be kept' in messages[0]
        assert np.load(path).mean() in cover
        assert state(indexed / FILENAME) == before
        assert leftovers(indexed, cache) == []


class TestGeoParquet:
    def test_columns(self, full_root: Path, data: ModuleType) -> None:
        indexed = full_root
        open_index(indexed)
        frame = geopandas.read_parquet(indexed / FILENAME)
        assert frame.crs == CRS('EPSG:4326')
        expected = [
            (area.name, f'{area.name}_p_{number}', area.name.split('_')[0])
            for area in data.AREAS
            for number in range(1, len(area.patches) + 1)
        ]
        found = zip(frame['aoi'], frame['patch'], frame['season'])
        assert sorted(found) == sorted(expected)
        for split in ('train', 'val', 'test'):
            names = PlanetCR(indexed, split).index['patch'].tolist()
            assert frame.loc[frame['split'] == split, 'patch'].tolist() == names
        assert frame['split'].isin(['train', 'val', 'test']).all()

    def test_files(self, indexed: Path) -> None:
        frame = geopandas.read_parquet(indexed / FILENAME)
        for modality, kind in FOLDERS.items():
            for name, patch, number in zip(
                frame[modality], frame['patch'], frame[f'{modality}_size']
            ):
                path = indexed / name
                assert not os.path.isabs(name)
                assert path.stem == f'{kind}_{patch}'
                assert path.stat().st_size == number
        masks = [np.load(indexed / name).mean() for name in frame['cloud_mask']]
        assert frame['cloud_cover'].tolist() == masks

    def test_footprints(self, indexed: Path) -> None:
        frame = geopandas.read_parquet(indexed / FILENAME)
        assert frame.geometry.is_valid.all()
        for name, footprint in zip(frame['cloudy'], frame.geometry):
            with rasterio.open(indexed / name) as src:
                expected = transform_bounds(src.crs, 'EPSG:4326', *src.bounds)
                x, y = src.transform @ (150, 150)
                center = transform_bounds(src.crs, 'EPSG:4326', x, y, x, y)
            np.testing.assert_allclose(footprint.bounds, expected, atol=1e-7)
            np.testing.assert_allclose(
                footprint.centroid.coords[0], center[:2], atol=1e-6
            )

    def test_without_files(self, small_root: Path) -> None:
        """A patch has the place of what is left of it, and none without a file."""
        for modality in ('cloudy', 'clear', 'cloud_mask'):
            find(small_root, modality).unlink()
        for modality in MODALITIES:
            halve(find(small_root, modality, 'winter_34_p_1'))
        open_index(small_root)
        frame = geopandas.read_parquet(small_root / FILENAME).set_index('patch')
        with rasterio.open(find(small_root, 'sentinel1')) as src:
            expected = transform_bounds(src.crs, 'EPSG:4326', *src.bounds)
        np.testing.assert_allclose(frame.geometry[PATCH].bounds, expected, atol=1e-7)
        assert frame.geometry['winter_34_p_1'] is None
        assert frame.geometry.notna().sum() == len(frame) - 1
        assert pd.isna(frame['cloud_cover'][PATCH])
        assert '{root}/test/' in frame['cloudy_problem']['winter_34_p_1']
        assert pd.isna(frame['cloudy'][PATCH])
