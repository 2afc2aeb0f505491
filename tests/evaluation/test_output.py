# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import csv
import json
import math
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from report_summary import make_summary

from torchgeo_planetcr.evaluation.output import check_folder, to_text, write
from torchgeo_planetcr.evaluation.summary import from_json

FILES = ('patches.parquet', 'patches.csv', 'report.html', 'summary.json')

ROWS = pd.DataFrame({'patch': ['a', 'b'], 'PSNR': [20.5, math.nan]})


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


class TestCheckFolder:
    def test_free(self, tmp_path: Path) -> None:
        """Nothing is made, and other files are in nobody's way."""
        (tmp_path / 'notes.txt').write_text('mine')
        for out in (tmp_path, tmp_path / 'deep' / 'out'):
            check_folder(out, tmp_path / 'data', overwrite=False)
        assert names(tmp_path) == {'notes.txt'}

    @pytest.mark.parametrize('name', FILES)
    def test_taken(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / name
        path.write_text('old')
        match = f'{tmp_path} holds {name} already: write to another place'
        with pytest.raises(FileExistsError, match=match):
            check_folder(tmp_path, tmp_path / 'data', overwrite=False)
        check_folder(tmp_path, tmp_path / 'data', overwrite=True)
        assert path.read_text() == 'old'

    @pytest.mark.parametrize('overwrite', [False, True])
    def test_data(self, tmp_path: Path, overwrite: bool) -> None:
        root = tmp_path / 'data'
        root.mkdir()
        (tmp_path / 'link').symlink_to(root)
        for out in (root, tmp_path / 'link', root / 'x' / '..'):
            with pytest.raises(ValueError, match='is the folder of the data'):
                check_folder(out, root, overwrite)
        check_folder(root / 'out', root, overwrite)

    def test_file_in_the_way(self, tmp_path: Path) -> None:
        path = tmp_path / 'file'
        path.write_text('')
        for out in (path, path / 'out'):
            with pytest.raises(NotADirectoryError, match=f'{path} is not a folder'):
                check_folder(out, tmp_path / 'data', overwrite=True)

    @pytest.mark.skipif(
        os.name != 'posix' or os.geteuid() == 0, reason='root may write anywhere'
    )
    def test_permission(self, tmp_path: Path) -> None:
        folder = tmp_path / 'folder'
        folder.mkdir(mode=0o500)
        with pytest.raises(PermissionError, match=f'{folder} cannot be written'):
            check_folder(folder / 'out', tmp_path / 'data', overwrite=False)


class TestWrite:
    def test_parquet(self, tmp_path: Path) -> None:
        out = tmp_path / 'deep' / 'out'
        write(out, 'parquet', ROWS, {'a': None, 'b': [1.5]}, '<p>ä</p>')
        assert names(out) == {'patches.parquet', 'report.html', 'summary.json'}
        rows = pd.read_parquet(out / 'patches.parquet')
        pd.testing.assert_frame_equal(rows, ROWS)
        assert json.loads((out / 'summary.json').read_text()) == {'a': None, 'b': [1.5]}
        assert (out / 'report.html').read_text(encoding='utf-8') == '<p>ä</p>'

    def test_other_files(self, tmp_path: Path) -> None:
        """Those of the last evaluation go, those of others stay."""
        for name in (*FILES, 'notes.txt'):
            (tmp_path / name).write_text('old')
        write(tmp_path, 'csv', ROWS, {}, 'new')
        expected = {'patches.csv', 'report.html', 'summary.json', 'notes.txt'}
        assert names(tmp_path) == expected
        pd.testing.assert_frame_equal(pd.read_csv(tmp_path / 'patches.csv'), ROWS)
        assert (tmp_path / 'report.html').read_text() == 'new'
        assert (tmp_path / 'notes.txt').read_text() == 'old'

    def test_formulas(self, tmp_path: Path) -> None:
        """Names of folders are no formulas to a spreadsheet."""
        write(tmp_path, 'csv', ROWS.assign(method='=1+1'), {}, '')
        with (tmp_path / 'patches.csv').open() as file:
            methods = {row['method'] for row in csv.DictReader(file)}
        assert methods == {"'=1+1"}

    @pytest.mark.parametrize('table', ['parquet', 'csv'])
    @pytest.mark.parametrize('value', [math.nan, {1, 2}])
    def test_error(self, tmp_path: Path, table: str, value: Any) -> None:
        """The summary, the last that is written, is no JSON."""
        for name in FILES:
            (tmp_path / name).write_text('old')
        with pytest.raises((ValueError, TypeError), match='JSON'):
            write(tmp_path, table, ROWS, {'value': value}, 'new')
        assert names(tmp_path) == {*FILES}
        assert {path.read_text() for path in tmp_path.iterdir()} == {'old'}

    def test_error_when_replacing(self, tmp_path: Path) -> None:
        """The report cannot be put where a folder is: no summary is beside new rows."""
        (tmp_path / 'report.html').mkdir()
        (tmp_path / 'summary.json').write_text('old')
        with pytest.raises(OSError, match=r'report\.html'):
            write(tmp_path, 'parquet', ROWS, {}, 'new')
        assert names(tmp_path) == {'report.html', 'patches.parquet'}


class TestText:
    def test_lines(self) -> None:
        summary = make_summary(['copy'], 5, landcover=False, only=['season'])
        figures = [f for f in summary['figures'] if f['kind'] == 'all'][:3]
        for figure, values in zip(
            figures,
            ((20.56789, 18.0, 22.12345), (3.25, None, None), (None, None, None)),
        ):
            figure.update(zip(('value', 'low', 'high'), values))
        season = next(f for f in summary['figures'] if f['kind'] == 'season')
        summary |= {'figures': [*figures, season], 'notes': ['one', 'two']}
        lines = to_text(from_json(summary), Path('out')).splitlines()
        assert lines[:3] == [
            'Split test of /data/planet-cr: 250 patches, 5 areas',
            'Protocol: standard, whole patches',
            '',
        ]
        assert lines[3].split() == ['PSNR', 'SSIM', 'SAM']
        assert lines[4].split() == [
            'copy', '20.57', '(18', 'to', '22.12)', '3.25', 'none'
        ]  # fmt: skip
        assert lines[5:] == [
            '',
            'Note: one',
            'Note: two',
            f'Report: {Path("out") / "report.html"}',
        ]

    def test_land_cover(self) -> None:
        summary = make_summary(['net'], only=['season'])
        summary['protocol']['size'] = [160, 160]
        ious = {'clear': 0.5, 'cloudy': None, 'net': 0.123456}
        for figure in summary['landcover']['figures']:
            if figure['class'] == 'mean' and figure['pixels'] == 'all':
                figure['iou'] = ious[figure['image']]
        text = to_text(from_json(summary), Path('out'))
        assert 'Protocol: standard, 160 x 160 pixels in the center of each' in text
        assert '\nLand cover, mIoU on images: clear 0.5, net 0.1235\n' in text
