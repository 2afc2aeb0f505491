# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import os
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from systems import needs_posix

from torchgeo_planetcr.datasets import PlanetCR, archive
from torchgeo_planetcr.datasets.archive import Listing
from torchgeo_planetcr.datasets.modalities import LIST_COLUMNS, MODALITIES

Patch = tuple[str, int]


def line(aoi: str, number: int) -> str:
    """A row of the authors' lists."""
    season = aoi.split('_')[0]
    names = []
    for modality in LIST_COLUMNS:
        row = MODALITIES[modality]
        name = row.folder
        names.append(
            f'{name}_{season}/{name}_{aoi}/{name}_{aoi}_p_{number}{row.suffix}'
        )
    return ','.join(names)


def write_list(path: Path, patches: Sequence[Patch]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(''.join(f'{line(*patch)}\n' for patch in patches))


def list_patches(root: Path, split: str) -> pd.DataFrame:
    patches, _, errors = archive.list_patches(root, Listing(root).files)
    assert not errors
    return patches[patches['split'] == split]


def names(root: Path, split: str) -> list[str]:
    return list_patches(root, split)['patch'].tolist()


@pytest.fixture
def expected(data: Any) -> dict[str, list[str]]:
    """All patches of each folder."""
    return {
        split: [
            f'{area.name}_p_{number}'
            for area in data.AREAS
            if area.split == split
            for number in range(1, len(area.patches) + 1)
        ]
        for split in ('train', 'test')
    }


class TestFolders:
    def test_splits(self, root: Path, expected: dict[str, list[str]]) -> None:
        found = {split: names(root, split) for split in ('train', 'val', 'test')}
        assert found['test'] == expected['test']
        assert not set(found['train']) & set(found['val'])
        assert sorted(found['train'] + found['val']) == sorted(expected['train'])
        assert found['val']
        assert len(found['train']) > len(found['val'])

    def test_order(self, root: Path) -> None:
        """By season, area and number, the latter two as numbers."""
        patches = list_patches(root, 'train')
        assert patches['season'].unique().tolist() == [
            'spring',
            'summer',
            'fall',
            'winter',
        ]
        winter = patches[patches['season'] == 'winter']['aoi'].tolist()
        assert winter == sorted(winter, key=lambda aoi: int(aoi.split('_')[1]))

    def test_val_takes_whole_areas(self, root: Path) -> None:
        train, val = (list_patches(root, split) for split in ('train', 'val'))
        assert not set(train['aoi']) & set(val['aoi'])
        assert val['aoi'].nunique() == 1
        assert train['aoi'].nunique() == 9
        assert (val['split'] == 'val').all()
        assert (train['split'] == 'train').all()

    def test_val_share(self, tmp_path: Path) -> None:
        """A tenth of the areas, however many patches they have."""
        for area in range(1, 58):
            folder = tmp_path / 'train' / 'S1_fall' / f'S1_fall_{area}'
            folder.mkdir(parents=True)
            for number in range(1, 1 + area % 3 + 1):
                (folder / f'S1_fall_{area}_p_{number}.tif').touch()
        train, val = (list_patches(tmp_path, split) for split in ('train', 'val'))
        assert val['aoi'].nunique() == 5
        assert train['aoi'].nunique() == 52
        assert not set(train['aoi']) & set(val['aoi'])

    def test_val_is_fixed(self, root: Path, tmp_path: Path) -> None:
        """Neither the place of the root nor the order of the files matters."""
        other = tmp_path / 'a' / 'copy'
        for kind in reversed([row.folder for row in MODALITIES.values()]):
            for season in ('winter', 'fall', 'summer', 'spring'):
                name = f'train/{kind}_{season}'
                shutil.copytree(root / name, other / name)
        assert names(other, 'val') == names(root, 'val')
        assert names(other, 'train') == names(root, 'train')

    def test_few_areas(self, own_root: Path) -> None:
        for folder in (own_root / 'train').iterdir():
            if not folder.name.endswith('summer'):
                shutil.rmtree(folder)
        with pytest.warns(UserWarning, match=r'No patch of the 2 area\(s\)') as record:
            dataset = PlanetCR(own_root, 'val')
        assert len(record) == 1
        assert dataset.index['patch'].tolist() == names(own_root, 'train')
        assert (dataset.index['split'] == 'val').all()

    def test_public_sample(self, sample_root: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            assert names(sample_root, 'train') == ['fall_1_p_457']
            assert names(sample_root, 'test') == ['summer_33_p_1']
        with pytest.warns(UserWarning, match=r'1 area\(s\)'):
            dataset = PlanetCR(sample_root, 'val')
        assert dataset.index['patch'].tolist() == ['fall_1_p_457']

    def test_other_files(self, own_root: Path, expected: dict[str, list[str]]) -> None:
        folder = own_root / 'test' / 'S1_summer' / 'S1_summer_33'
        for name in (
            'S1_summer_33_p_1.tif.aux.xml',
            'S1_summer_33_p_x.tif',
            'S1_summer_33_p_2.tif.tmp',
            'S1_autumn_33_p_2.tif',
            'S1_summer_33_p_2 (copy).tif',
            '.S1_summer_33_p_2.tif',
            'README.txt',
        ):
            (folder / name).write_text('not a patch')
        assert names(own_root, 'test') == expected['test']

    def test_missing_file(self, own_root: Path) -> None:
        folder = own_root / 'test' / 'S1_summer' / 'S1_summer_33'
        (folder / 'S1_summer_33_p_1.tif').unlink()
        patches = list_patches(own_root, 'test').set_index('patch')
        assert patches.loc['summer_33_p_1', 'sentinel1'] is None
        assert patches.loc['summer_33_p_1', 'cloudy'] is not None
        assert patches.loc['winter_34_p_1', 'sentinel1'] is not None

    def test_empty(self, tmp_path: Path) -> None:
        for split in ('train', 'val', 'test'):
            assert list_patches(tmp_path, split).empty

    @pytest.mark.parametrize('name', ['data [v2]', 'da*ta?', 'Ünïcode folder'])
    def test_odd_name_of_root(self, root: Path, tmp_path: Path, name: str) -> None:
        other = tmp_path / name
        shutil.copytree(root / 'test', other / 'test')
        assert names(other, 'test') == names(root, 'test')


@needs_posix
class TestLinks:
    @pytest.mark.parametrize('names', [['again'], ['a', 'b'], ['S1_summer_99']])
    @pytest.mark.parametrize('target', ['.', '..', '../..', '/'])
    @pytest.mark.parametrize('level', ['test', 'test/S1_summer'])
    def test_loops(
        self,
        own_root: Path,
        expected: dict[str, list[str]],
        names: list[str],
        target: str,
        level: str,
    ) -> None:
        """A link to a folder leads neither in circles nor through the whole disk."""
        before = Listing(own_root)
        for name in names:
            (own_root / level / name).symlink_to(target)
        found = Listing(own_root)
        assert found.files == before.files
        # Of what lies elsewhere, no more than two levels are looked at
        assert found.count - before.count < 10_000

    @pytest.mark.parametrize('name', ['S1_summer_33', 'S1_summer', 'S1_winter_34'])
    def test_of_the_archive(self, own_root: Path, tmp_path: Path, name: str) -> None:
        """A folder with a name of the archive may lie elsewhere."""
        before = Listing(own_root).files
        (path,) = (own_root / 'test').rglob(name)
        place = path.rename(tmp_path / 'elsewhere')
        path.symlink_to(place)
        assert Listing(own_root).files == before

    def test_of_another_name(self, own_root: Path, tmp_path: Path) -> None:
        before = Listing(own_root).files
        (own_root / 'test' / 'S1_summer').rename(tmp_path / 'S1_summer')
        (own_root / 'test' / 'other').symlink_to(tmp_path / 'S1_summer')
        assert len(Listing(own_root).files) == len(before) - 1


class TestLists:
    def test_precedence(self, own_root: Path) -> None:
        write_list(own_root / 'one_train_sample.csv', [('fall_5', 1)])
        with pytest.warns(UserWarning, match='12 more in .* remove the list'):
            assert PlanetCR(own_root).index['patch'].tolist() == ['fall_5_p_1']
        write_list(own_root / 'train.csv', [('fall_6', 1)])
        assert names(own_root, 'train') == ['fall_6_p_1']
        write_list(own_root / 'csv' / 'train.csv', [('fall_7', 1)])
        assert names(own_root, 'train') == ['fall_7_p_1']

    @pytest.mark.parametrize(
        'name', ['csv/test.csv', 'test.csv', 'one_test_sample.csv']
    )
    def test_paths(self, own_root: Path, name: str) -> None:
        write_list(own_root / name, [('winter_34', 2)])
        patches = list_patches(own_root, 'test')
        assert patches['patch'].tolist() == ['winter_34_p_2']
        assert patches['aoi'].tolist() == ['winter_34']
        assert patches['season'].tolist() == ['winter']
        for modality, path in zip(LIST_COLUMNS, line('winter_34', 2).split(',')):
            assert patches[modality].iloc[0] == f'test/{path}'

    def test_val_lies_in_train(self, own_root: Path) -> None:
        everything = sorted(names(own_root, 'train') + names(own_root, 'val'))
        write_list(own_root / 'csv' / 'val.csv', [('summer_3', 2), ('fall_5', 1)])
        patches = list_patches(own_root, 'val')
        assert patches['patch'].tolist() == ['summer_3_p_2', 'fall_5_p_1']
        assert (patches['split'] == 'val').all()
        paths = PlanetCR(own_root, 'val').index['cloudy']
        assert all(Path(path).is_file() for path in paths)
        assert paths.tolist() == [str(own_root / path) for path in patches['cloudy']]
        assert paths.str.startswith(str(own_root / 'train')).all()
        train = names(own_root, 'train')
        assert not set(train) & set(patches['patch'])
        assert sorted(train + patches['patch'].tolist()) == everything

    def test_lists_of_both(self, own_root: Path) -> None:
        """What both lists name is not trained on."""
        write_list(own_root / 'train.csv', [('fall_5', 1), ('fall_6', 1)])
        write_list(own_root / 'val.csv', [('fall_6', 1)])
        assert names(own_root, 'train') == ['fall_5_p_1']
        assert names(own_root, 'val') == ['fall_6_p_1']

    def test_format(self, own_root: Path) -> None:
        """Windows line ends, blank lines, spaces, quotes, repetition, no last newline."""
        first, second = line('winter_34', 1), line('winter_34', 2)
        quoted = ','.join(f'"{name}"' for name in first.split(','))
        spaced = second.replace(',', ' , ')
        content = f'{quoted}\r\n\r\n{spaced}\r\n{first}'
        (own_root / 'test.csv').write_bytes(content.encode())
        assert names(own_root, 'test') == ['winter_34_p_1', 'winter_34_p_2']
        assert len(PlanetCR(own_root, 'test', strict=True)) == 2

    def test_byte_order_mark(self, own_root: Path) -> None:
        """Excel puts one in front."""
        content = line('winter_34', 1).encode('utf-8-sig')
        (own_root / 'test.csv').write_bytes(content)
        assert len(PlanetCR(own_root, 'test', strict=True)) == 1

    def test_written_on_windows(self, own_root: Path) -> None:
        """Backslashes, a byte order mark, line ends of its own and `.\\` in front."""
        listed = [('winter_34', 1), ('winter_34', 2)]
        lines = [line(*patch).replace('/', '\\') for patch in listed]
        lines[1] = '.\\' + lines[1].replace(',', ',.\\')
        (own_root / 'test.csv').write_bytes('\r\n'.join(lines).encode('utf-8-sig'))
        found = PlanetCR(own_root, 'test', strict=True)
        write_list(own_root / 'test.csv', listed)
        expected = PlanetCR(own_root, 'test', strict=True)
        pd.testing.assert_frame_equal(found.index, expected.index)
        assert len(found) == 2

    @pytest.mark.parametrize('order', ['little', 'big'])
    def test_utf_16(self, own_root: Path, order: str) -> None:
        """So writes `>` of Windows PowerShell.

        https://learn.microsoft.com/powershell/module/microsoft.powershell.core/about/about_character_encoding
        """
        text = line('winter_34', 1).replace('/', '\\') + '\r\n'
        content = f'\ufeff{text}'.encode(f'utf-16-{order[0]}e')
        (own_root / 'test.csv').write_bytes(content)
        found = PlanetCR(own_root, 'test', strict=True)
        assert found.index['patch'].tolist() == ['winter_34_p_1']
        # Cut in the middle of a character
        (own_root / 'test.csv').write_bytes(content[:-1])
        with pytest.raises(ValueError, match=r'test\.csv is not a readable list'):
            PlanetCR(own_root, 'test')

    def test_not_text(self, own_root: Path) -> None:
        (own_root / 'test.csv').write_bytes(b'\x00\xff\xfe\x80' * 100)
        with pytest.raises(ValueError, match=r'test\.csv'):
            PlanetCR(own_root, 'test')

    @pytest.mark.parametrize('lines', ['\n', '', '\n\n'])
    def test_empty(self, own_root: Path, lines: str) -> None:
        (own_root / 'test.csv').write_text(lines)
        assert list_patches(own_root, 'test').empty
        with pytest.raises(FileNotFoundError, match="split='test'"):
            PlanetCR(own_root, 'test')

    @pytest.mark.parametrize('columns', [1, 4, 6])
    def test_columns(self, own_root: Path, columns: int) -> None:
        fields = (line('winter_34', 1) + ',more').split(',')[:columns]
        (own_root / 'test.csv').write_text(
            f'{line("winter_34", 2)}\n{",".join(fields)}\n'
        )
        with pytest.raises(ValueError, match=rf'test\.csv, line 2: {columns} columns'):
            PlanetCR(own_root, 'test')

    def test_order_of_columns(self, own_root: Path) -> None:
        fields = line('winter_34', 1).split(',')
        (own_root / 'test.csv').write_text(','.join(reversed(fields)))
        with pytest.raises(ValueError, match=r'test\.csv, line 1: .*not the name of'):
            PlanetCR(own_root, 'test')

    @pytest.mark.parametrize(
        'name',
        [
            '../train/S1_fall/S1_fall_5/S1_fall_5_p_1.tif',
            'S1_fall/../../train/S1_fall/S1_fall_5/S1_fall_5_p_1.tif',
            '{root}/train/S1_fall/S1_fall_5/S1_fall_5_p_1.tif',
            '/etc/passwd',
            '..',
            ' ../S1_fall_5_p_1.tif',
            '/vsicurl/http://localhost/S1_fall_5_p_1.tif',
            '..\\train\\S1_fall\\S1_fall_5\\S1_fall_5_p_1.tif',
            'S1_fall\\..\\..\\train/S1_fall/S1_fall_5/S1_fall_5_p_1.tif',
            'S1_fall/..\\../train/S1_fall_5_p_1.tif',
            'C:\\data\\S1_fall\\S1_fall_5_p_1.tif',
            'C:S1_fall_5_p_1.tif',
            '\\S1_fall\\S1_fall_5_p_1.tif',
            '\\\\server\\share\\S1_fall_5_p_1.tif',
        ],
    )
    def test_leads_out_of_root(self, own_root: Path, name: str) -> None:
        fields = line('winter_34', 1).split(',')
        fields[2] = name.format(root=own_root)
        (own_root / 'test.csv').write_text(','.join(fields))
        with pytest.raises(ValueError, match=r'test\.csv, line 1: .*leads out of'):
            PlanetCR(own_root, 'test')

    @needs_posix
    @pytest.mark.parametrize('kind', ['pipe', 'folder', 'nothing', 'itself', 'device'])
    def test_no_file(self, own_root: Path, kind: str) -> None:
        """To pass over it would change the splits in silence."""
        path = own_root / 'val.csv'
        if kind == 'pipe':
            os.mkfifo(path)
        elif kind == 'folder':
            path.mkdir()
        else:
            target = {'nothing': 'nowhere', 'itself': path.name, 'device': '/dev/zero'}
            path.symlink_to(target[kind])
        for split in ('train', 'val'):
            with pytest.raises(ValueError, match=r'val\.csv'):
                PlanetCR(own_root, split)
        assert len(PlanetCR(own_root, 'test')) == 3

    def test_huge(self, own_root: Path) -> None:
        """A file that takes no place on the disk, and more than all memory."""
        path = own_root / 'test.csv'
        write_list(path, [('winter_34', 1)])
        os.truncate(path, 2**42)
        with pytest.raises(ValueError, match=rf'test\.csv .*{2**42} bytes'):
            PlanetCR(own_root, 'test')

    def test_long_name(self, own_root: Path) -> None:
        fields = line('winter_34', 1).split(',')
        fields[2] = 'a' * 100_000
        (own_root / 'test.csv').write_text(','.join(fields))
        with pytest.raises(ValueError, match=r'test\.csv, line 1') as error:
            PlanetCR(own_root, 'test')
        assert len(str(error.value)) < 1000

    @needs_posix
    def test_through_a_link(self, own_root: Path, tmp_path: Path) -> None:
        """Files that a list names must be among those of the archive."""
        outside = tmp_path / 'outside'
        name = 'S1_winter_34_p_1.tif'
        outside.mkdir()
        shutil.copy(next(own_root.rglob(name)), outside / name)
        (own_root / 'test' / 'way').symlink_to(outside)
        fields = line('winter_34', 1).split(',')
        fields[2] = f'way/{name}'
        write_list(own_root / 'test.csv', [('winter_34', 2)])
        with (own_root / 'test.csv').open('a') as file:
            file.write(','.join(fields))
        with pytest.warns(UserWarning, match=f'way/{name}'):
            dataset = PlanetCR(own_root, 'test')
        assert dataset.index['patch'].tolist() == ['winter_34_p_2']
        assert not any('way' in path for path in dataset.files)

    def test_zeros_in_front(self, own_root: Path) -> None:
        """The number 01 is not that of patch 1."""
        fields = line('winter_34', 1).split(',')
        fields[2] = fields[2].replace('_p_1', '_p_01')
        (own_root / 'test.csv').write_text(
            line('winter_34', 2) + '\n' + ','.join(fields)
        )
        with pytest.warns(UserWarning, match=r'2 patch\(s\)'):
            dataset = PlanetCR(own_root, 'test')
        assert dataset.index['patch'].tolist() == ['winter_34_p_2']
        assert set(dataset.left_out) == {'winter_34_p_1', 'winter_34_p_01'}

    def test_not_a_patch(self, own_root: Path) -> None:
        fields = line('winter_34', 1).split(',')
        fields[2] = 'S1.tif'
        (own_root / 'test.csv').write_text(','.join(fields))
        with pytest.raises(ValueError, match=r"test\.csv, line 1: 'S1\.tif'"):
            PlanetCR(own_root, 'test')

    def test_missing_files(self, own_root: Path) -> None:
        write_list(own_root / 'test.csv', [('winter_34', 1), ('winter_34', 77)])
        with pytest.warns(UserWarning, match=r'1 patch\(s\).*winter_34_p_77') as record:
            dataset = PlanetCR(own_root, 'test')
        assert len(record) == 1
        assert dataset.index['patch'].tolist() == ['winter_34_p_1']
        with pytest.raises(OSError, match='winter_34_p_77'):
            PlanetCR(own_root, 'test', strict=True)

    def test_only_missing_files(self, own_root: Path) -> None:
        write_list(own_root / 'test.csv', [('winter_34', 77)])
        with pytest.raises(OSError, match='winter_34_p_77'):
            PlanetCR(own_root, 'test')

    def test_other_lists_do_not_matter(self, own_root: Path) -> None:
        (own_root / 'train.csv').write_text('nonsense')
        assert len(PlanetCR(own_root, 'test')) == 3


@pytest.mark.parametrize('split', ['Train', 'validation', '', '../test', None, 3])
def test_unknown_split(root: Path, split: Any) -> None:
    with pytest.raises(ValueError, match=r"split=.*'train', 'val', 'test'"):
        PlanetCR(root, split)
