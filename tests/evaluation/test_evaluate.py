# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import hashlib
import json
import math
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn

import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torchgeo.tasks import BaseTask, SemanticSegmentation
from torchvision.models import alexnet

from torchgeo_planetcr import CloudRemoval, PlanetCR, evaluate, remove_clouds
from torchgeo_planetcr.datasets.index import FILENAME, IndexWarning
from torchgeo_planetcr.evaluation import Evaluation, EvaluationPatches
from torchgeo_planetcr.evaluation.evaluate import choose_protocol
from torchgeo_planetcr.evaluation.report.sections import strata
from torchgeo_planetcr.evaluation.summary import from_json, to_json
from torchgeo_planetcr.main import main
from torchgeo_planetcr.metrics import LPIPS, PROTOCOLS
from torchgeo_planetcr.transforms import PlanetCRNormalize

#: A data frame, whose elements may be anything to a type checker.
type Frame = Any

SIZE = 64

METRICS = ['PSNR', 'SSIM', 'SAM', 'MAE', 'RMSE']

TINY = {'features': 8, 'num_blocks': 1}

#: Of any evaluation in this process.
QUIET: dict[str, Any] = {'accelerator': 'cpu', 'size': SIZE}


class Result(NamedTuple):
    """What an evaluation left."""

    text: str
    out: Path
    summary: dict[str, Any]
    rows: Frame
    found: Evaluation | None = None

    def figures(self) -> Frame:
        keys = ['method', 'kind', 'stratum', 'metric']
        return pd.DataFrame(self.summary['figures']).set_index(keys).sort_index()


def refuse(constant: str) -> NoReturn:
    raise AssertionError(f'{constant} is no JSON')


def load(out: Path, text: str = '') -> Result:
    content = (out / 'summary.json').read_text()
    summary = json.loads(content, parse_constant=refuse)
    if (out / 'patches.csv').exists():
        rows = pd.read_csv(out / 'patches.csv')
    else:
        rows = pd.read_parquet(out / 'patches.parquet')
    return Result(text, out, summary, rows)


def save(task: BaseTask, path: Path) -> Path:
    """Write a checkpoint as Lightning does."""
    trainer = Trainer(accelerator='cpu', logger=False, enable_progress_bar=False)
    trainer.strategy.connect(task)
    trainer.save_checkpoint(path)
    return path


def work(tree: Path, checkpoint: Path, folder: Path) -> None:
    """Run the command for three patches, and for one: a process has nothing to do."""
    strata.DRAWN_METRICS = ()
    options = ['--devices=2', '--accelerator=cpu', f'--size={SIZE}']
    for split, methods in (('test', ['copy', f'net={checkpoint}']), ('val', ['copy'])):
        out = [f'--split={split}', f'--out={folder / split}']
        main(['evaluate', str(tree), *methods, *options, *out])


if __name__ == '__main__':
    work(*map(Path, sys.argv[1:]))


@pytest.fixture(scope='module', autouse=True)
def torch_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No weights of AlexNet are installed, also in processes of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('TORCH_HOME', str(tmp_path_factory.mktemp('torch')))
        yield


@pytest.fixture(autouse=True)
def no_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw no charts, which take most of the time, but for the shared result."""
    monkeypatch.setattr(strata, 'DRAWN_METRICS', ())


@pytest.fixture(scope='module')
def tree(cloudy_root: Path) -> Path:
    return cloudy_root


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    task = CloudRemoval(model_kwargs=TINY)
    return save(task, tmp_path_factory.mktemp('checkpoint') / 'epoch=1-step=2.ckpt')


@pytest.fixture(scope='module')
def folders(
    tree: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Predictions: those of the checkpoint in two formats, and the clear images."""
    folder = tmp_path_factory.mktemp('predictions')
    folders = {name: folder / name for name in ('arrays', 'rasters', 'perfect')}
    for path in folders.values():
        path.mkdir()
    task = CloudRemoval.load_from_checkpoint(checkpoint, weights_only=True).eval()
    patches = EvaluationPatches(PlanetCR(tree, 'test'), SIZE)
    for number, name in enumerate(patches.names):
        sample = PlanetCRNormalize()(patches[number])
        with torch.inference_mode():
            restored = task(sample['image'][None], sample['image_s1'][None])[0].numpy()
        np.save(folders['arrays'] / f'{name}.npy', restored)
        (clear,) = tree.glob(f'test/planet_cloudfree_*/*/*{name}.tif')
        shutil.copy(clear, folders['perfect'] / f'{name}.tif')
        # Of the whole patch, of which the window counts
        path = folders['rasters'] / f'{name}.tif'
        shutil.copy(clear, path)
        with rasterio.open(path, 'r+') as dst:
            array = dst.read()
            window = slice(150 - SIZE // 2, 150 + SIZE // 2)
            array[:, window, window] = (restored * 10000).round().clip(0, 65535)
            dst.write(array)
    return folders


@pytest.fixture(scope='module')
def result(
    tree: Path,
    checkpoint: Path,
    folders: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Result:
    out = tmp_path_factory.mktemp('result') / 'deep' / 'out'
    methods = {'copy': 'copy', 'net': checkpoint, **folders}
    found = evaluate(tree, methods, out, **QUIET)
    assert found is not None
    return load(out, str(found))._replace(found=found)


class TestFigures:
    def test_perfect(self, result: Result) -> None:
        rows = result.rows[result.rows['method'] == 'perfect']
        assert len(rows) == 3
        expected = {'PSNR': 100, 'SSIM': 1, 'SAM': 0, 'MAE': 0, 'RMSE': 0}
        figures = result.figures()
        for metric, value in expected.items():
            assert rows[metric].to_numpy() == pytest.approx(value, abs=1e-6)
            found = figures.loc['perfect', :, :, metric]
            found = found[found['patches'] > 0]
            assert len(found) > 5
            assert found['value'].to_numpy() == pytest.approx(value, abs=1e-6)

    def test_predictions_of_the_checkpoint(self, result: Result) -> None:
        """As float32 they give what the checkpoint gives, as uint16 nearly."""
        tables = {
            name: rows.drop(columns='method').set_index('patch')
            for name, rows in result.rows.groupby('method')
        }
        pd.testing.assert_frame_equal(tables['arrays'], tables['net'], rtol=1e-9)
        difference = tables['rasters'][METRICS] - tables['net'][METRICS]
        # Rounding changes a value by half a unit of the files at most
        assert difference['MAE'].abs().max() <= 0.5e-4
        assert difference['RMSE'].abs().max() <= 0.5e-4
        assert difference['PSNR'].abs().max() < 0.02
        assert difference['SSIM'].abs().max() < 1e-3
        assert difference['SAM'].abs().max() < 0.05
        assert (tables['net']['MAE'] > 0.01).all()
        assert (difference['MAE'] != 0).all()

    def test_copy(self, result: Result, tree: Path) -> None:
        """From the files alone."""
        rows = result.rows[result.rows['method'] == 'copy'].set_index('patch')
        window = slice(150 - SIZE // 2, 150 + SIZE // 2)
        for name, row in rows.iterrows():
            images = []
            for kind in ('planet_cloudy', 'planet_cloudfree'):
                (path,) = tree.glob(f'test/{kind}_*/*/*{name}.tif')
                with rasterio.open(path) as src:
                    images.append(src.read()[:, window, window] / 10000)
                assert row['crs'] == str(src.crs)
            (path,) = tree.glob(f'test/cloudmask_*/*/*{name}.npy')
            mask = np.load(path)[window, window]
            error = images[0] - images[1]
            assert row['cloud_cover'] == mask.mean()
            assert row['pixels_cloudy'] == mask.sum()
            assert row['MAE'] == pytest.approx(np.abs(error).mean(), rel=1e-5)
            assert row['RMSE'] == pytest.approx(math.sqrt((error**2).mean()), rel=1e-5)
            cloudy = np.abs(error[:, mask]).mean()
            assert row['MAE_cloudy'] == pytest.approx(cloudy, rel=1e-5)
            assert row['season'] == str(name).split('_')[0]
            assert row['aoi'] == str(name).split('_p_')[0]

    def test_figures_are_those_of_the_rows(self, result: Result) -> None:
        figures = result.figures()
        for method, rows in result.rows.groupby('method'):
            for metric in METRICS:
                figure = figures.loc[(method, 'all', 'all', metric)]
                assert figure['value'] == pytest.approx(rows[metric].mean())
                assert (figure['patches'], figure['areas']) == (3, 2)
                # Too few areas for intervals
                assert figure[['low', 'high']].isna().all()
            total = (rows['MAE_cloudy'] * rows['pixels_cloudy']).sum()
            figure = figures.loc[(method, 'cloud', 'cloudy', 'MAE')]
            assert figure['pixels'] == rows['pixels_cloudy'].sum()
            assert figure['value'] == pytest.approx(total / figure['pixels'])
        empty = figures.loc['copy', 'season', 'spring']
        assert empty[['value', 'low', 'high']].isna().all(axis=None)
        assert (empty['patches'] == 0).all()
        assert set(figures.loc['copy', 'area'].index.get_level_values(0)) == {
            'summer_33',
            'winter_34',
        }

    def test_comparisons(self, result: Result) -> None:
        table: Frame = pd.DataFrame(result.summary['comparisons'])
        assert len(table[['baseline', 'method']].drop_duplicates()) == 10
        keys = ['baseline', 'method', 'metric']
        table = table[table['kind'] == 'all'].set_index(keys).sort_index()
        better = table.loc[('copy', 'perfect')]
        assert (better['share_better'] == 1).all()
        assert (better['difference'][['PSNR', 'SSIM']] > 0).all()
        assert (better['difference'][['SAM', 'MAE', 'RMSE']] < 0).all()
        same = table.loc[('net', 'arrays')]
        assert (same['share_better'] == 0.5).all()
        assert (same['p_value'] == 1).all()


class TestFiles:
    def test_folder(self, result: Result) -> None:
        names = {'patches.parquet', 'report.html', 'summary.json'}
        assert {path.name for path in result.out.iterdir()} == names

    def test_rows(self, result: Result) -> None:
        first = ['method', 'patch', 'aoi', 'season', 'crs', 'cloud_cover', *METRICS]
        assert result.rows.columns[: len(first)].tolist() == first
        assert len(result.rows) == 5 * 3
        assert not result.rows.duplicated(['method', 'patch']).any()

    def test_summary(
        self, result: Result, tree: Path, checkpoint: Path, folders: dict[str, Path]
    ) -> None:
        summary = result.summary
        assert summary['data']['root'] == str(tree)
        assert summary['data']['split'] == 'test'
        assert (summary['data']['patches'], summary['data']['areas']) == (3, 2)
        assert summary['format'] == 1
        assert summary['hardware']['accelerator'] == 'cpu'
        assert summary['hardware']['device']
        assert summary['hardware']['processes'] == 1
        assert summary['hardware']['batch_size'] == 1
        assert summary['hardware']['precision'] == '32-true'
        assert summary['versions']['python'] == platform.python_version()
        assert summary['protocol']['name'] == 'standard (modified)'
        assert summary['protocol']['size'] == [SIZE, SIZE]
        assert summary['protocol']['alignment'] == 'geo'
        assert list(summary['protocol']['metrics']) == METRICS
        assert summary['protocol']['metrics']['SAM']['unit'] == 'degrees'
        assert summary['bootstrap']['resamples'] == 10000
        for package in ('torch', 'torchgeo', 'torchgeo-planetcr', 'torchmetrics'):
            assert summary['versions'][package] == version(package)
        assert list(summary['methods']) == ['copy', 'net', *folders]
        digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
        assert summary['methods']['net'] == {
            'kind': 'checkpoint',
            'source': str(checkpoint),
            'sha256': digest,
            'model': 'dsen2cr',
        }
        assert summary['methods']['arrays']['kind'] == 'predictions'
        assert len(summary['methods']['arrays']['sha256']) == 64
        assert summary['landcover'] is None
        assert any('AlexNet' in note for note in summary['notes'])

    def test_format(self, result: Result) -> None:
        """What is written is what the types of the summary say, in their order."""
        content = (result.out / 'summary.json').read_text()
        found = to_json(from_json(json.loads(content)))
        assert json.dumps(found, indent=1) == content

    def test_fingerprint(self, result: Result, tree: Path) -> None:
        """What sha256sum prints of the files of the split, hashed."""
        names = sorted(
            str(path.relative_to(tree))
            for path in (tree / 'test').rglob('*')
            if path.suffix in ('.tif', '.npy')
        )
        assert len(names) == 3 * 5
        lines = [
            f'{hashlib.sha256((tree / name).read_bytes()).hexdigest()}  {name}\n'
            for name in names
        ]
        expected = hashlib.sha256(''.join(lines).encode()).hexdigest()
        assert result.summary['data']['fingerprint'] == expected

    def test_report(self, result: Result) -> None:
        report = (result.out / 'report.html').read_text()
        for name in result.summary['methods']:
            assert name in report
        assert '</html>' in report

    def test_found(self, result: Result) -> None:
        """Python is given what is in the files, as tables."""
        found = result.found
        assert found is not None
        assert found.report == str(result.out / 'report.html')
        pd.testing.assert_frame_equal(found.patches, result.rows)
        for table, name in (
            (found.figures, 'figures'),
            (found.comparisons, 'comparisons'),
        ):
            # JSON has null for NaN
            expected: Frame = pd.DataFrame(result.summary[name]).astype(table.dtypes)
            pd.testing.assert_frame_equal(table, expected)
        is_main = (found.figures['kind'] == 'all') & (found.figures['metric'] == 'PSNR')
        psnr = found.figures[is_main].set_index('method')['value']
        assert psnr.to_dict() == {
            name: pytest.approx(rows['PSNR'].mean())
            for name, rows in result.rows.groupby('method')
        }
        # As the last line of a cell, it is what the command prints
        assert repr(found) == str(found) == result.text

    def test_text(self, result: Result, tree: Path) -> None:
        lines = result.text.splitlines()
        assert lines[0] == f'Split test of {tree}: 3 patches, 2 areas'
        assert lines[1] == (
            'Protocol: standard (modified), 64 x 64 pixels in the center of each patch'
        )
        assert lines[3].split() == METRICS
        assert [line.split()[0] for line in lines[4:9]] == list(
            result.summary['methods']
        )
        value = result.figures().loc[('net', 'all', 'all', 'PSNR'), 'value']
        assert lines[5].split()[1] == f'{value:.4g}'
        assert lines[-1] == f'Report: {result.out / "report.html"}'
        assert any(line.startswith('Note: LPIPS was not') for line in lines)


def check_same(found: Result, expected: Result) -> None:
    """Rows and figures are the same, but for the last digits."""
    methods = list(found.summary['methods'])
    rows = expected.rows[expected.rows['method'].isin(methods)].reset_index(drop=True)
    pd.testing.assert_frame_equal(
        found.rows, rows, check_dtype=False, rtol=1e-5, atol=1e-9
    )
    figures = expected.figures().loc[methods].sort_index()
    pd.testing.assert_frame_equal(
        found.figures(), figures, check_dtype=False, rtol=1e-5, atol=1e-9
    )
    for key in ('fingerprint', 'patches', 'areas', 'split'):
        assert found.summary['data'][key] == expected.summary['data'][key]


def test_batches_and_csv_of_another_place(
    result: Result,
    tree: Path,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By the command, from a configuration, of the same data in another folder."""
    shutil.copytree(tree, tmp_path / 'moved')
    monkeypatch.chdir(tmp_path)
    Path('config.yaml').write_text(
        f'root: moved\nmethods: [copy, net={checkpoint}]\nout: out\nsize: {SIZE}\n'
        'table: csv\nbatch_size: 3\naccelerator: cpu\n'
    )
    main(['evaluate', '--config=config.yaml'])
    printed = capsys.readouterr().out
    assert 'Split test of moved: 3 patches, 2 areas' in printed
    assert (tmp_path / 'out' / 'patches.csv').exists()
    assert not (tmp_path / 'out' / 'patches.parquet').exists()
    check_same(load(tmp_path / 'out'), result)


@pytest.fixture(scope='module')
def processes(
    tree: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """What two processes leave together: Lightning runs this file in both."""
    folder = tmp_path_factory.mktemp('processes')
    environment = {k: v for k, v in os.environ.items() if not k.startswith('PL_')}
    result = subprocess.run(
        [sys.executable, __file__, tree, checkpoint, folder],
        check=False,
        capture_output=True,
        text=True,
        env=environment | {'OMP_NUM_THREADS': '1'},
        stdin=subprocess.DEVNULL,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    (folder / 'printed.txt').write_text(result.stdout)
    return folder


@pytest.mark.slow
def test_two_processes(processes: Path, result: Result) -> None:
    found = load(processes / 'test')
    check_same(found, result)
    assert found.summary['hardware']['processes'] == 2
    # The second process is silent
    assert (processes / 'printed.txt').read_text().count('Report: ') == 2


@pytest.mark.slow
def test_more_processes_than_patches(
    processes: Path, tree: Path, tmp_path: Path
) -> None:
    evaluate(tree, ['copy'], tmp_path, 'val', **QUIET)
    expected = load(tmp_path)
    assert len(expected.rows) == 1
    check_same(load(processes / 'val'), expected)


def test_overwrite(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / 'out'
    options: dict[str, Any] = {**QUIET, 'size': 16}
    evaluate(tree, ['copy'], out, 'val', table='csv', **options)
    first = (out / 'summary.json').read_bytes()
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    match = 'holds patches.csv, report.html, summary.json already: .* --overwrite'
    with pytest.raises(FileExistsError, match=match) as error:
        evaluate(tree, ['copy'], out, 'val', **options)
    assert str(out) in str(error.value)
    # Nor does an error with it
    with pytest.raises(ValueError, match='NaN'):
        evaluate(tree, {'bad': Nothing()}, out, 'val', overwrite=True, **options)
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before

    # Nothing of the first one stays
    evaluate(tree, {'again': 'copy'}, out, 'val', overwrite=True, **options)
    names = {'patches.parquet', 'report.html', 'summary.json'}
    assert {path.name for path in out.iterdir()} == names
    assert (out / 'summary.json').read_bytes() != first
    assert load(out).rows['method'].tolist() == ['again']


@pytest.mark.parametrize(
    ('protocol', 'size', 'alignment', 'name'),
    [
        ('reference', 160, None, 'reference'),
        ('reference', None, 'reference', 'reference'),
        ('reference', None, 'geo', 'reference (modified)'),
        ('reference', 40, None, 'reference (modified)'),
        ('standard', None, 'geo', 'standard'),
        ('standard', 300, None, 'standard (modified)'),
        ('standard', None, 'reference', 'standard (modified)'),
    ],
)
def test_name_of_the_protocol(
    protocol: str,
    size: int | None,
    alignment: Literal['geo', 'reference'] | None,
    name: str,
) -> None:
    original = PROTOCOLS[protocol]
    chosen, found = choose_protocol(protocol, size, alignment)
    assert found == name
    assert chosen.metrics == original.metrics
    assert chosen.size == (size or original.size)
    assert chosen.alignment == (alignment or original.alignment)


def test_modified_protocol(tree: Path, tmp_path: Path) -> None:
    """Its name, window and alignment are those of the summary and of the text."""
    options: dict[str, Any] = {'protocol': 'reference', 'size': 40, 'alignment': 'geo'}
    found = evaluate(tree, ['copy'], tmp_path, 'val', accelerator='cpu', **options)
    protocol = load(tmp_path).summary['protocol']
    assert protocol['name'] == 'reference (modified)'
    assert protocol['size'] == [40, 40]
    assert protocol['alignment'] == 'geo'
    assert 'Protocol: reference (modified), 40 x 40 pixels' in str(found)


class Brighter(nn.Module):
    """Puts values beyond 1 in a share of the columns."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.columns = columns

    def forward(self, image: Tensor, image_s1: Tensor) -> Tensor:
        image = image.clone()
        image[..., : self.columns] = 1.5
        return image


def test_note_on_values_beyond(tree: Path, tmp_path: Path) -> None:
    methods = {'few': Brighter(1), 'many': Brighter(3)}
    evaluate(tree, methods, tmp_path, 'val', accelerator='cpu', size=100)
    notes = [n for n in load(tmp_path).summary['notes'] if 'outside of [0, 1]' in n]
    assert len(notes) == 1
    assert notes[0].startswith('3 % of the values of many lie outside of [0, 1]')


def test_reference_protocol(sample_root: Path, tmp_path: Path) -> None:
    """What the authors' code gives on the patch fall_1_p_457 that they publish."""
    out = tmp_path / 'out'
    options = ['--protocol', 'reference', '--split', 'train', '--accelerator', 'cpu']
    main(['evaluate', str(sample_root), 'copy', '--out', str(out), *options])
    result = load(out)
    assert result.summary['protocol']['size'] == [160, 160]
    assert result.summary['protocol']['alignment'] == 'reference'
    assert result.summary['notes'] == []
    figures = result.figures()
    of_all = figures.loc['copy', 'all', 'all']['value']
    expected = {
        'PSNR': 21.88338274278033,
        'SSIM': 0.770215630531311,
        'SAM': 23.090463638305664,
        'MAE': 0.06688600033521652,
    }
    assert of_all[list(expected)].to_dict() == pytest.approx(expected, rel=1e-5)
    of_class = figures.loc['copy', 'class level 2']
    by_class = {
        'Tree cover': (0.11164766467115277, 33.04556644507952),
        'Grassland': (0.09198333819707234, 33.912315368652344),
        'Cropland': (0.05720567217623514, 21.113125266448773),
        'Built-up': (0.12954992177535077, 26.18811497813411),
        'Bare / sparse vegetation': (0.08911795182661576, 27.562812943892045),
    }
    for name in of_class.index.get_level_values('stratum').unique():
        rows = of_class.loc[name]
        assert rows['low'].isna().all()
        if name in by_class:
            found = rows['value'][['MAE', 'SAM']].tolist()
            assert found == pytest.approx(by_class[name], rel=1e-5)
            assert (rows['pixels'] > 0).all()
        else:
            assert rows['value'].isna().all()
            assert (rows['pixels'] == 0).all()
    assert of_class['pixels']['Cropland']['MAE'] > 10000
    row = result.rows.iloc[0]
    assert row['patch'] == 'fall_1_p_457'
    assert row['MAE_tree_cover'] == pytest.approx(by_class['Tree cover'][0], rel=1e-5)
    assert np.isnan(row['MAE_shrubland'])


def test_land_cover(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    task = SemanticSegmentation('fcn', num_filters=8, in_channels=4, num_classes=7)
    # Without biases, what is mapped depends on the image
    for parameter in task.parameters():
        if parameter.ndim == 1:
            nn.init.zeros_(parameter)
    path = save(task, tmp_path / 'landcover.ckpt')
    out = tmp_path / 'out'
    options = [f'--size={SIZE}', '--batch-size=2', '--accelerator=cpu', f'--out={out}']
    zero = save(CloudRemoval(model_kwargs=TINY), tmp_path / 'zero.ckpt')
    methods = ['copy', f'zero={zero}']
    main(['evaluate', str(tree), *methods, '--landcover-model', str(path), *options])
    landcover = load(out).summary['landcover']
    assert landcover['model'] == {
        'source': str(path),
        'sha256': hashlib.sha256(path.read_bytes()).hexdigest(),
        'model': 'fcn',
        'backbone': 'resnet50',
        'level': 1,
    }
    keys = ['image', 'pixels', 'class']
    figures: Frame = pd.DataFrame(landcover['figures']).set_index(keys).sort_index()
    # The method 'copy' would be 'cloudy' once more
    assert set(figures.index.get_level_values('image')) == {'clear', 'cloudy', 'zero'}
    assert {(c['image'], c['baseline']) for c in landcover['comparisons']} == {
        ('zero', 'cloudy')
    }
    assert (figures['low'].isna() & figures['high'].isna()).all()
    assert not figures.loc['cloudy']['iou'].equals(figures.loc['clear']['iou'])
    gaps: Frame = pd.DataFrame(landcover['gaps']).set_index(keys)['gap']
    for image in ('cloudy', 'zero'):
        mean = figures['iou'][:, 'all', 'mean']
        expected = mean['clear'] - mean[image]
        assert gaps[image, 'all', 'mean'] == pytest.approx(expected)
    printed = capsys.readouterr().out
    assert f'Land cover, mIoU on images: clear {mean["clear"]:.4g}, cloudy' in printed


class TestMissingModalities:
    """What is not there as a whole leaves its own figures out, and no others."""

    @pytest.fixture
    def own_tree(self, tree: Path, tmp_path: Path) -> Path:
        return Path(shutil.copytree(tree, tmp_path / 'tree'))

    @pytest.mark.parametrize(
        ('folder', 'kinds', 'key'),
        [
            ('cloudmask', {'cloud', 'cloud cover'}, 'cloud'),
            ('landcover', {'class level 1', 'class level 2'}, 'land cover'),
            ('S1', set(), 'sentinel1'),
        ],
    )
    def test_one(
        self,
        own_tree: Path,
        folders: dict[str, Path],
        result: Result,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        folder: str,
        kinds: set[str],
        key: str,
    ) -> None:
        for path in own_tree.glob(f'test/{folder}_*'):
            shutil.rmtree(path)
        out = tmp_path / 'out'
        methods = ['copy', f'perfect={folders["perfect"]}']
        options = [f'--size={SIZE}', '--accelerator=cpu', f'--out={out}']
        main(['evaluate', str(own_tree), *methods, *options])
        printed = capsys.readouterr().out
        assert any(
            key in note and note in printed for note in load(out).summary['notes']
        )

        names = ['copy', 'perfect']
        figures = result.figures().loc[names].drop(index=list(kinds), level='kind')
        pd.testing.assert_frame_equal(load(out).figures(), figures)
        found, expected = load(out).rows, result.rows
        expected = expected[expected['method'].isin(names)].reset_index(drop=True)
        left_out = set(expected) - set(found)
        assert bool(left_out) == bool(kinds)
        expected = expected[list(found)]
        if folder == 'cloudmask':
            assert found['cloud_cover'].isna().all()
            expected = expected.assign(cloud_cover=math.nan)
        pd.testing.assert_frame_equal(found, expected)

        report = (out / 'report.html').read_text()
        for kind, title in strata.KINDS.items():
            assert (f'<h2>{title.title}</h2>' in report) == (kind not in kinds)

    def test_all(
        self, own_tree: Path, folders: dict[str, Path], result: Result, tmp_path: Path
    ) -> None:
        """Pairs of images, and nothing else."""
        for folder in ('cloudmask', 'landcover', 'S1'):
            for path in own_tree.glob(f'*/{folder}_*'):
                shutil.rmtree(path)
        out = tmp_path / 'out'
        evaluate(own_tree, ['copy', str(folders['perfect'])], out, **QUIET)
        figures = load(out).figures()
        kinds = ['all', 'area', 'season']
        assert sorted(set(figures.index.get_level_values('kind'))) == kinds
        expected = result.figures().loc[['copy', 'perfect']]
        keep = expected.index.get_level_values('kind').isin(kinds)
        expected = expected[keep].drop(columns='pixels')
        pd.testing.assert_frame_equal(figures.drop(columns='pixels'), expected)

    def test_network_without_sentinel1(
        self, own_tree: Path, checkpoint: Path, tmp_path: Path
    ) -> None:
        for path in own_tree.glob('test/S1_*'):
            shutil.rmtree(path)
        out = tmp_path / 'out'
        with pytest.raises(
            SystemExit, match=r'planetcr evaluate: .*\.ckpt needs'
        ) as error:
            main(['evaluate', str(own_tree), 'copy', str(checkpoint), f'--out={out}'])
        assert 'Sentinel-1' in str(error.value)
        assert not out.exists()
        with pytest.raises(ValueError, match='Nothing needs Sentinel-1'):
            evaluate(own_tree, {'mine': Nothing()}, out, **QUIET)
        evaluate(own_tree, {'copy': 'copy', 'mine': OfImages()}, out, **QUIET)
        figures = load(out).figures()['value']
        assert figures['mine'].equals(figures['copy'])

    def test_nothing_to_compare_with(self, own_tree: Path, tmp_path: Path) -> None:
        for path in own_tree.glob('test/planet_cloudfree_*'):
            shutil.rmtree(path)
        with pytest.raises(ValueError, match="needs 'clear'"):
            evaluate(own_tree, ['copy'], tmp_path / 'out', **QUIET)

    def test_land_cover(self, own_tree: Path, tmp_path: Path) -> None:
        """Without cloud masks there is the score on all pixels, without labels none."""
        task = SemanticSegmentation('fcn', num_filters=8, in_channels=4, num_classes=7)
        path = save(task, tmp_path / 'landcover.ckpt')
        arguments: dict[str, Any] = {'landcover_model': path, **QUIET}
        evaluate(own_tree, ['copy'], tmp_path / 'whole', **arguments)
        for folder in own_tree.glob('test/cloudmask_*'):
            shutil.rmtree(folder)
        evaluate(own_tree, ['copy'], tmp_path / 'out', **arguments)
        whole, found = (
            pd.DataFrame(load(tmp_path / name).summary['landcover']['figures'])
            for name in ('whole', 'out')
        )
        expected = whole[whole['pixels'] == 'all'].reset_index(drop=True)
        pd.testing.assert_frame_equal(found, expected)
        for folder in own_tree.glob('test/landcover_*'):
            shutil.rmtree(folder)
        with pytest.raises(ValueError, match="landcover_model needs 'worldcover'"):
            evaluate(own_tree, ['copy'], tmp_path / 'none', **arguments)


@pytest.mark.parametrize('dtype', ['uint16', 'float32'])
def test_folder_of_remove_clouds(
    own_root: Path, tmp_path: Path, dtype: Literal['uint16', 'float32']
) -> None:
    """What it makes of the test split has the figures of the network itself."""
    (path,) = own_root.glob('test/planet_cloudy_summer/*/*.tif')
    with rasterio.open(path, 'r+') as dst:
        array = dst.read()
        # The scene and what is made of it have no data there
        array[:, 120:170, :150] = 0
        dst.write(array)
    clear, out = tmp_path / 'clear', tmp_path / 'out'
    scenes, s1 = (
        sorted(own_root.glob(f'test/{folder}_*/*/*.tif'))
        for folder in ('planet_cloudy', 'S1')
    )
    remove_clouds(OfImages(), scenes, s1, clear, dtype=dtype, accelerator='cpu')
    assert len(list(clear.rglob('*.png'))) == 3
    options = [f'--size={SIZE}', '--accelerator=cpu', f'--out={out}']
    main(['evaluate', str(own_root), 'copy', f'theirs={clear}', *options])
    figures = load(out).figures()
    pd.testing.assert_frame_equal(
        figures.loc['theirs'], figures.loc['copy'], rtol=1e-4, check_dtype=False
    )
    assert figures.loc['copy']['value'].notna().any()


def test_lpips(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    os.makedirs(os.path.dirname(LPIPS.weights_path()))
    torch.manual_seed(0)
    # Random numbers of the right shapes, without those of the large classifier
    with torch.device('meta'):
        shapes = alexnet().features.state_dict()
    weights = {f'features.{k}': 0.05 * torch.randn(v.shape) for k, v in shapes.items()}
    torch.save(weights, LPIPS.weights_path())
    out = tmp_path / 'out'
    found = evaluate(tree, ['copy'], out, 'val', **QUIET)
    result = load(out)
    assert 'LPIPS' in str(found)
    assert result.summary['notes'] == []
    assert result.summary['protocol']['metrics']['LPIPS']['higher_is_better'] is False
    sample = EvaluationPatches(PlanetCR(tree, 'val'), SIZE)[0]
    sample = PlanetCRNormalize()(sample)
    pair = sample['image'][None], sample['image_clear'][None]
    expected = LPIPS().image_values(*pair).item()
    assert expected > 1e-4
    assert result.rows['LPIPS'].tolist() == pytest.approx([expected], rel=1e-5)
    figure = result.figures().loc[('copy', 'all', 'all', 'LPIPS')]
    assert figure['value'] == pytest.approx(expected, rel=1e-5)


class Nothing(nn.Module):
    """Makes no numbers."""

    def forward(self, image: Tensor, image_s1: Tensor) -> Tensor:
        return image * torch.nan


class OfImages(nn.Module):
    """Needs no Sentinel-1."""

    sar_channels = 0

    def forward(self, image: Tensor, image_s1: Tensor) -> Tensor:
        return image


class Never(nn.Module):
    """Is not called."""

    def forward(self, image: Tensor, image_s1: Tensor) -> NoReturn:
        raise AssertionError('It came to that')


def test_index_of_another_user(tree: Path, tmp_path: Path) -> None:
    """It is made again, which is no news about the data."""
    root = Path(shutil.copytree(tree, tmp_path / 'root'))
    (root / FILENAME).write_bytes(b'PAR1')
    with pytest.warns(IndexWarning, match=FILENAME):
        evaluate(root, ['copy'], tmp_path / 'out', 'val', **QUIET)
    notes = load(tmp_path / 'out').summary['notes']
    assert not any(FILENAME in note for note in notes)


class TestErrors:
    def test_nothing_stays(
        self, tree: Path, folders: dict[str, Path], tmp_path: Path
    ) -> None:
        bad = tmp_path / 'bad'
        shutil.copytree(folders['arrays'], bad)
        last = max(bad.iterdir())
        array = np.load(last)
        array[0, 0, 0] = np.nan
        np.save(last, array)
        out = tmp_path / 'out'
        with pytest.raises(ValueError, match='NaN or infinite') as error:
            evaluate(tree, ['copy', bad], out, **QUIET)
        assert str(last) in str(error.value)
        assert not out.exists()

    def test_weights_too_large(self, tree: Path, tmp_path: Path) -> None:
        """The file is named, and not the network alone."""
        task = CloudRemoval(model_kwargs={'features': 4, 'num_blocks': 1})
        for value in task.state_dict().values():
            value.fill_(1e38)
        path = save(task, tmp_path / 'large.ckpt')
        with pytest.raises(ValueError, match=rf'{path}.* makes values that are NaN'):
            evaluate(tree, [path], tmp_path / 'out', **QUIET)

    def test_headers_before_anything(
        self, tree: Path, folders: dict[str, Path], tmp_path: Path
    ) -> None:
        bad = tmp_path / 'bad'
        shutil.copytree(folders['arrays'], bad)
        last = max(bad.iterdir())
        np.save(last, np.load(last)[:3])
        with pytest.raises(ValueError, match=r'shape \(3, 64, 64\)') as error:
            evaluate(tree, {'a': Never(), 'b': bad}, tmp_path / 'out', **QUIET)
        assert str(last) in str(error.value)
        assert not (tmp_path / 'out').exists()

    def test_data(self, tree: Path) -> None:
        before = sorted(tree.rglob('*'))
        for out in (tree, tree / 'test' / '..'):
            with pytest.raises(ValueError, match='is the folder of the data'):
                evaluate(tree, {'a': Never()}, out, overwrite=True, **QUIET)
        assert sorted(tree.rglob('*')) == before

    def test_module(self, tree: Path, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match='nothing makes values that are NaN'):
            evaluate(tree, {'nothing': Nothing()}, tmp_path / 'out', **QUIET)
        assert not (tmp_path / 'out').exists()

    @pytest.mark.parametrize(
        ('options', 'match'),
        [
            ({'protocol': 'best'}, "protocol='best' is not one of reference, standard"),
            ({'table': 'xlsx'}, "table='xlsx' is not one of parquet, csv"),
            ({'split': 'all'}, "split='all' is not one of"),
            (
                {'alignment': 'native'},
                "alignment='native' is not one of geo, reference",
            ),
            ({'size': 301}, 'size=301 is larger than'),
            ({'size': 0}, 'size'),
            ({'methods': []}, 'nothing to evaluate'),
            ({'accelerator': 'abacus'}, 'abacus'),
            ({'batch_size': 0}, 'batch_size'),
        ],
    )
    def test_arguments(
        self, tree: Path, tmp_path: Path, options: dict[str, Any], match: str
    ) -> None:
        arguments: dict[str, Any] = {
            **QUIET,
            'root': tree,
            'methods': ['copy'],
            **options,
        }
        with pytest.raises(ValueError, match=match):
            evaluate(out=tmp_path / 'out', **arguments)
        assert not (tmp_path / 'out').exists()

    def test_out(self, tree: Path, tmp_path: Path) -> None:
        (tmp_path / 'file').write_text('in the way')
        for out in (tmp_path / 'file', tmp_path / 'file' / 'out'):
            with pytest.raises(NotADirectoryError, match='write to another') as error:
                evaluate(tree, ['copy'], out, **QUIET)
            assert str(tmp_path / 'file') in str(error.value)
