# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import json
from pathlib import Path

import pytest

from torchgeo_planetcr.preparation.area import Area

MADE_OF = {'cloudy': '/scenes/a.tif', 'overlap': 0, 'bands': None}


def make_area(root: Path, name: str = 'summer_1', split: str = 'train') -> Area:
    return Area(root, split, name, MADE_OF)


def add_patch(root: Path, name: str = 'summer_1', split: str = 'train') -> Path:
    """Put a cloudy image where that of the first patch is."""
    season = name.split('_')[0]
    folder = root / split / f'planet_cloudy_{season}' / f'planet_cloudy_{name}'
    folder.mkdir(parents=True)
    path = folder / f'planet_cloudy_{name}_p_1.tif'
    path.write_text('image')
    return path


class TestName:
    @pytest.mark.parametrize('name', ['spring_0', 'summer_1', 'fall_20', 'winter_1000'])
    def test_known(self, tmp_path: Path, name: str) -> None:
        make_area(tmp_path, name).check([], overwrite=False)

    # What differs in zeros is the same area in a list
    @pytest.mark.parametrize(
        'name',
        ['summer', 'summer_', 'summer_01', 'autumn_1', 'summer_1/..', 'a_summer_1'],
    )
    def test_unknown(self, tmp_path: Path, name: str) -> None:
        message = f"aoi='{name}' is not the name of an area: .* such as summer_1"
        with pytest.raises(ValueError, match=message):
            make_area(tmp_path, name)

    @pytest.mark.parametrize('split', ['val', 'Train', ''])
    def test_unknown_split(self, tmp_path: Path, split: str) -> None:
        with pytest.raises(ValueError, match=f"split='{split}' is not one of 'train'"):
            make_area(tmp_path, split=split)

    def test_listed(self, tmp_path: Path) -> None:
        """A list would hide the new patches."""
        (tmp_path / 'train.csv').write_text('')
        with pytest.raises(
            ValueError, match=r'train\.csv names the patches of train, an'
        ):
            make_area(tmp_path)
        make_area(tmp_path, split='test')


class TestRecord:
    def test_begun(self, tmp_path: Path) -> None:
        area = make_area(tmp_path / 'deep' / 'root')
        assert not (tmp_path / 'deep').exists()
        area.begin(overwrite=False)
        record = tmp_path / 'deep' / 'root' / 'areas' / 'summer_1.json'
        assert json.loads(record.read_text()) == MADE_OF
        assert [path.name for path in record.parent.iterdir()] == ['summer_1.json']
        make_area(tmp_path / 'deep' / 'root').check([], overwrite=False)

    def test_others_stay(self, tmp_path: Path) -> None:
        first = make_area(tmp_path, 'summer_1')
        first.begin(overwrite=False)
        make_area(tmp_path, 'summer_11').begin(overwrite=True)
        assert Path(first.record).is_file()

    @pytest.mark.parametrize(
        ('changes', 'message'),
        [
            ({'cloudy': '/b.tif'}, r"cloudy '/scenes/a\.tif' instead of '/b\.tif'"),
            (
                {'overlap': 30, 'bands': [4, 3]},
                r'overlap 0 .* 30, bands None .* \[4, 3\]',
            ),
            ({'s1': '/s1.tif'}, r"s1 None instead of '/s1\.tif'"),
        ],
    )
    def test_made_otherwise(
        self, tmp_path: Path, changes: dict[str, object], message: str
    ) -> None:
        make_area(tmp_path).begin(overwrite=False)
        other = Area(tmp_path, 'train', 'summer_1', MADE_OF | changes)
        message = rf'^summer_1 in .* was made with .*{message}.* --overwrite'
        with pytest.raises(FileExistsError, match=message):
            other.check([], overwrite=False)
        other.check([], overwrite=True)

    @pytest.mark.parametrize('text', ['', '{', '\0', '[' * 100_000, '9' * 10_000])
    def test_damaged(self, tmp_path: Path, text: str) -> None:
        area = make_area(tmp_path)
        area.begin(overwrite=False)
        Path(area.record).write_text(text)
        message = r'summer_1\.json is .* --overwrite'
        with pytest.raises(OSError, match=message):
            area.check([], overwrite=False)
        area.begin(overwrite=True)
        area.check([], overwrite=False)

    @pytest.mark.parametrize('text', ['[]', 'null', '{}'])
    def test_not_a_record(self, tmp_path: Path, text: str) -> None:
        area = make_area(tmp_path)
        area.begin(overwrite=False)
        Path(area.record).write_text(text)
        with pytest.raises(FileExistsError, match='was made with cloudy'):
            area.check([], overwrite=False)

    @pytest.mark.parametrize('split', ['train', 'test'])
    def test_without_record(self, tmp_path: Path, split: str) -> None:
        """Of the archive, say, and also if it is in the other split."""
        path = add_patch(tmp_path, split=split)
        area = make_area(tmp_path)
        message = f'^{path.parent} holds patches that were not made by this command'
        with pytest.raises(FileExistsError, match=message):
            area.check([], overwrite=False)
        area.check([], overwrite=True)
        assert path.exists()

    def test_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / 'areas' / 'summer_1.json').mkdir(parents=True)
        with pytest.raises(OSError, match=r'summer_1\.json cannot be written'):
            make_area(tmp_path).begin(overwrite=False)


class TestOverwrite:
    def test_removed(self, tmp_path: Path) -> None:
        """The patches of the area, and no others."""
        removed = [add_patch(tmp_path, split=split) for split in ('train', 'test')]
        kept = [add_patch(tmp_path, name) for name in ('summer_11', 'fall_1')]
        area = make_area(tmp_path)
        assert area.has_patch(1)
        assert not area.has_patch(2)
        area.begin(overwrite=True)
        assert not area.has_patch(1)
        assert not any(path.parent.exists() for path in removed)
        assert all(path.exists() for path in kept)

    def test_source_among_patches(self, tmp_path: Path) -> None:
        """What is read is not removed."""
        path = add_patch(tmp_path)
        link = tmp_path / 'scene.tif'
        link.symlink_to(path)
        for source in (path, link):
            message = f'{source} is among the patches of summer_1'
            with pytest.raises(ValueError, match=message):
                make_area(tmp_path).check([tmp_path / 'b.tif', source], overwrite=True)
        make_area(tmp_path, 'summer_2').check([path], overwrite=True)
