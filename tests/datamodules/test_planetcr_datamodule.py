# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import shutil
from pathlib import Path
from typing import Any

import kornia.augmentation as K
import numpy as np
import pytest
import torch
from augmentations import CHANGES
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import Tensor, nn
from torchgeo.datamodules.utils import MisconfigurationException
from torchgeo.datasets import unbind_samples
from torchgeo.datasets.utils import Sample

from torchgeo_planetcr import PlanetCR, PlanetCRDataModule
from torchgeo_planetcr.datasets.planetcr import MissingModalityWarning
from torchgeo_planetcr.main import main
from torchgeo_planetcr.samplers import CenterNativePatchSampler
from torchgeo_planetcr.transforms import (
    MISSING_BACKSCATTER,
    BatchAugmentation,
    RandomCloudPaste,
    RandomClouds,
    RandomModalityDropout,
    RandomSpeckle,
)


class Recorder(LightningModule):
    """Keep the batches that the trainer hands out."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.batches: dict[str, list[Sample]] = {'fit': [], 'validate': [], 'test': []}

    def training_step(self, batch: Sample, batch_idx: int) -> Tensor:
        self.batches['fit'].append(batch)
        return self.layer(torch.ones(1)).sum()

    def validation_step(self, batch: Sample, batch_idx: int) -> None:
        self.batches['validate'].append(batch)

    def test_step(self, batch: Sample, batch_idx: int) -> None:
        self.batches['test'].append(batch)

    def predict_step(self, batch: Sample, batch_idx: int) -> Sample:
        return batch

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def make_trainer(tmp_path: Path, **kwargs: Any) -> Trainer:
    return Trainer(
        accelerator='cpu',
        max_epochs=2,
        default_root_dir=tmp_path,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        num_sanity_val_steps=0,
        **kwargs,
    )


def fit(root: Path, tmp_path: Path, **kwargs: Any) -> tuple[Recorder, Trainer]:
    recorder, trainer = Recorder(), make_trainer(tmp_path)
    trainer.fit(recorder, PlanetCRDataModule(root, **kwargs))
    return recorder, trainer


def test_training_batches(root: Path, tmp_path: Path) -> None:
    recorder, _ = fit(root, tmp_path, batch_size=12, patch_size=(64, 48))
    patches = len(PlanetCR(root, 'train'))
    assert patches == 12
    # One window for each patch in each of the two epochs
    assert len(recorder.batches['fit']) == 2
    first, second = recorder.batches['fit']
    assert first['image'].shape == first['image_clear'].shape == (12, 4, 64, 48)
    assert first['image_s1'].shape == (12, 2, 64, 48)
    assert first['mask'].shape == first['mask_cloud'].shape == (12, 64, 48)
    for key in ('image', 'image_clear', 'image_s1'):
        assert 0 <= first[key].min() < first[key].max() <= 1
    # A batch mixes zones, and each epoch draws new windows
    assert len(first['crs'].unique()) > 2
    assert first['bounds'].dtype == torch.float64
    assert not torch.equal(first['bounds'], second['bounds'])


def test_same_seed_same_windows(root: Path, tmp_path: Path) -> None:
    windows = []
    for seed in (1, 1, 2):
        seed_everything(seed, verbose=False)
        recorder, _ = fit(root, tmp_path, batch_size=4, patch_size=32)
        windows.append(torch.cat([b['bounds'] for b in recorder.batches['fit']]))
    assert torch.equal(windows[0], windows[1])
    assert not torch.equal(windows[0], windows[2])


@pytest.mark.parametrize('count', [1, 2])
def test_overfitting(root: Path, tmp_path: Path, count: int) -> None:
    """The same batches in each epoch, of training and of validation."""

    recorder = Recorder()
    trainer = make_trainer(tmp_path, overfit_batches=count)
    trainer.fit(recorder, PlanetCRDataModule(root, 2, 32, 32, length=8))
    for stage in ('fit', 'validate'):
        bounds = [batch['bounds'].tolist() for batch in recorder.batches[stage]]
        half = len(bounds) // 2
        assert bounds[:half] == bounds[half:] != []
    assert len(recorder.batches['fit']) == 2 * count


def test_keys_stay_in_step(root: Path, tmp_path: Path) -> None:
    plain, augmented = (
        fit(root, tmp_path, batch_size=12, patch_size=40, augment=augment)[0]
        for augment in (False, True)
    )
    dataset = PlanetCR(root, 'train')
    moved = 0
    for batch in augmented.batches['fit']:
        for i in range(12):
            xmin, xmax, _, ymin, ymax, *_ = batch['bounds'][i].tolist()
            view = dataset.in_crs(int(batch['crs'][i]))
            original = view[xmin:xmax, ymin:ymax]
            # Bright pixels of the fake cloudy images are exactly those of the mask
            cloudy = batch['image'][i, 0] >= 0.5
            assert torch.equal(cloudy, batch['mask_cloud'][i] == 1)
            moved += not torch.equal(original['mask'], batch['mask'][i])
    assert moved > 0
    for batch in plain.batches['fit']:
        for i in range(12):
            xmin, xmax, _, ymin, ymax, *_ = batch['bounds'][i].tolist()
            if batch['crs'][i] != 32633:  # where two areas lie at the same place
                original = dataset.in_crs(int(batch['crs'][i]))[xmin:xmax, ymin:ymax]
                torch.testing.assert_close(
                    original['image'] / 10000, batch['image'][i], rtol=0, atol=0
                )


@pytest.mark.parametrize('augmentation', CHANGES)
def test_augmentations(
    augmentation: type[BatchAugmentation], root: Path, tmp_path: Path
) -> None:
    """Only training batches change, and only the keys of the augmentation."""
    kwargs: dict[str, Any] = {
        'batch_size': 4,
        'length': 4,
        # Most windows of this size have a cloud
        'patch_size': (290, 64),
        'eval_size': 64,
        'augment': False,
    }
    runs = []
    for augmentations in ([], [augmentation(p=1)]):
        seed_everything(0, verbose=False)
        recorder, _ = fit(root, tmp_path, augmentations=augmentations, **kwargs)
        runs.append(recorder.batches)
    plain, augmented = runs
    for before, after in zip(plain['fit'], augmented['fit'], strict=True):
        assert before.keys() == after.keys()
        changed = {key for key in before if not torch.equal(before[key], after[key])}
        assert changed == CHANGES[augmentation]
    for before, after in zip(plain['validate'], augmented['validate'], strict=True):
        assert all(torch.equal(before[key], after[key]) for key in before)


def test_augmentations_before_moves_and_names(root: Path, tmp_path: Path) -> None:
    """Augmentations come before flips and turns, and before keys are renamed."""
    seen = []

    class Look(nn.Module):
        def forward(self, batch: Sample) -> Sample:
            seen.append(batch)
            return batch

    rename = {'image_clear': 'target', 'mask_cloud': 'mask_shade'}
    seed_everything(0, verbose=False)
    recorder, _ = fit(
        root,
        tmp_path,
        batch_size=6,
        length=6,
        patch_size=64,
        eval_size=64,
        augmentations=[RandomClouds(p=1), Look()],
        rename=rename,
    )
    moved = 0
    for before, after in zip(seen, recorder.batches['fit'], strict=True):
        assert after.keys() == {rename.get(key, key) for key in before}
        for key in ('image', 'image_clear', 'mask_cloud'):
            name = rename.get(key, key)
            torch.testing.assert_close(
                before[key].double().mean(), after[name].double().mean()
            )
            moved += not torch.equal(before[key], after[name])
        # Clouds and their mask were turned in the same way
        for batch, mask in ((before, 'mask_cloud'), (after, 'mask_shade')):
            is_cloud = batch[mask][:, None].expand_as(batch['image']) == 1
            assert batch['image'][is_cloud].mean() > batch['image'].mean() + 0.05
    assert moved


def test_augmentations_in_a_config(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / 'augmentations.yaml'
    lines = ['data:', '  augmentations:']
    for augmentation in CHANGES:
        lines += [
            f'  - class_path: torchgeo_planetcr.transforms.{augmentation.__name__}'
        ]
        lines += ['    init_args: {p: 0.6}']
    config.write_text('\n'.join(lines))
    args = ['fit', f'--config={config}', f'--data.root={root}']
    args += ['--data.batch_size=4', '--data.patch_size=64', '--data.eval_size=64']
    args += ['--model.model_kwargs={features: 8, num_blocks: 1}']
    args += ['--trainer.fast_dev_run=true', '--trainer.enable_progress_bar=false']
    with pytest.raises(SystemExit):
        main([*args, '--print_config'])
    printed = capsys.readouterr().out
    for augmentation in CHANGES:
        assert f'torchgeo_planetcr.transforms.{augmentation.__name__}' in printed
    assert printed.count('p: 0.6') == len(CHANGES)
    main(args)


def test_augmentation_without_its_modality(root: Path, tmp_path: Path) -> None:
    """One of clouds needs what it adds them to; those of radar have nothing to change."""
    modalities = ['cloudy', 'clear']
    problem = "no 'mask_cloud', which RandomCloudPaste"
    with pytest.raises(ValueError, match=problem):
        fit(root, tmp_path, modalities=modalities, augmentations=[RandomCloudPaste()])
    fit(root, tmp_path, modalities=modalities, augmentations=[RandomModalityDropout()])


def test_no_cloud_masks(
    own_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All that needs none goes on, and what needs one says so."""
    for path in own_root.glob('*/cloudmask_*'):
        shutil.rmtree(path)
    options = [
        f'--data.root={own_root}',
        '--data.patch_size=32',
        '--data.eval_size=32',
        '--data.length=2',
        '--trainer.max_epochs=1',
        '--trainer.accelerator=cpu',
        '--trainer.enable_progress_bar=false',
        f'--trainer.default_root_dir={tmp_path}',
    ]
    model = ['--model.model_kwargs={features: 4, num_blocks: 1}', '--model.loss']
    with pytest.warns(MissingModalityWarning, match="'cloud_mask'"):
        main(['fit', *model, 'l1', *options])
    (checkpoint,) = tmp_path.rglob('last.ckpt')
    out = f'--out={tmp_path / "clear"}'
    for command, more in (('validate', []), ('test', []), ('predict', [out])):
        with pytest.warns(MissingModalityWarning, match="'cloud_mask'"):
            main([command, f'--ckpt_path={checkpoint}', *options, *more])
    assert 'test_PSNR' in capsys.readouterr().out

    with (
        pytest.warns(MissingModalityWarning),
        pytest.raises(SystemExit, match="planetcr fit: .* mask_cloud.* loss='l1'"),
    ):
        main(['fit', *model, 'carl', *options])
    name = 'torchgeo_planetcr.transforms.RandomCloudPaste'
    clouds = f'--data.augmentations=[{{class_path: {name}}}]'
    with (
        pytest.warns(MissingModalityWarning),
        pytest.raises(ValueError, match="no 'mask_cloud', which RandomCloudPaste"),
    ):
        main(['fit', *model, 'l1', clouds, *options])


def test_no_sentinel1_in_some_samples(root: Path, tmp_path: Path) -> None:
    seed_everything(0, verbose=False)
    recorder, _ = fit(
        root,
        tmp_path,
        batch_size=12,
        patch_size=64,
        alignment='native',
        augmentations=[RandomSpeckle(pixel=1), RandomModalityDropout(p=0.5)],
    )
    image_s1 = torch.cat([batch['image_s1'] for batch in recorder.batches['fit']])
    missing = (image_s1 == MISSING_BACKSCATTER).all(dim=(1, 2, 3))
    assert 0 < missing.sum() < len(missing)


@pytest.mark.parametrize('eval_size', [None, 160])
def test_evaluation_windows(root: Path, tmp_path: Path, eval_size: int | None) -> None:
    recorder, trainer = Recorder(), make_trainer(tmp_path)
    datamodule = PlanetCRDataModule(root, batch_size=2, eval_size=eval_size)
    trainer.test(recorder, datamodule, verbose=False)
    dataset = PlanetCR(root, 'test')
    queries = list(CenterNativePatchSampler(dataset, size=eval_size))
    batches = recorder.batches['test']
    assert [len(batch['crs']) for batch in batches] == [2, 1]
    size = eval_size or 300
    restored = datamodule.normalize.inverse(batches[0])
    for i, query in enumerate(queries[:2]):
        sample = dataset[query]
        assert sample['image'].shape == (4, size, size)
        for key in ('image', 'image_clear'):
            torch.testing.assert_close(restored[key][i], sample[key], rtol=1e-6, atol=0)
        assert torch.equal(batches[0]['mask'][i], sample['mask'])
        assert torch.equal(batches[0]['transform'][i], sample['transform'])

    trainer.validate(recorder, datamodule, verbose=False)
    assert len(recorder.batches['validate']) == len(PlanetCR(root, 'val')) == 1


def test_predict_takes_the_test_split(root: Path, tmp_path: Path) -> None:
    datamodule = PlanetCRDataModule(root, num_workers=1)
    batches: Any = make_trainer(tmp_path).predict(Recorder(), datamodule)
    assert [int(batch['crs'][0]) for batch in batches] == [32736, 32646, 32646]


def test_native_alignment(root: Path, tmp_path: Path) -> None:
    recorder, _ = fit(root, tmp_path, patch_size=160, alignment='native', length=3)
    for batch in recorder.batches['fit']:
        assert batch['image'].shape == (1, 4, 160, 160)
        assert batch['image_s1'].shape == (1, 2, 48, 48)
        assert batch['mask'].shape == (1, 48, 48)


def test_rename(root: Path, tmp_path: Path) -> None:
    """Keys are renamed after normalization and augmentation, which need their names."""
    kwargs: dict[str, Any] = {
        'modalities': ['clear', 'worldcover'],
        'batch_size': 12,
        'patch_size': 32,
    }
    recorded = []
    for rename in (None, {'image_clear': 'image', 'mask': 'mask_label'}):
        seed_everything(0, verbose=False)
        recorder, trainer = fit(root, tmp_path, rename=rename, **kwargs)
        datamodule = PlanetCRDataModule(root, rename=rename, **kwargs)
        trainer.test(recorder, datamodule, verbose=False)
        recorded.append([b for stage in recorder.batches.values() for b in stage])
    keys = {'image_clear', 'mask', 'bounds', 'transform', 'crs'}
    for plain, renamed in zip(*recorded, strict=True):
        assert plain.keys() == keys
        assert renamed.keys() == keys - {'image_clear', 'mask'} | {
            'image',
            'mask_label',
        }
        assert torch.equal(plain['image_clear'], renamed['image'])
        assert torch.equal(plain['mask'], renamed['mask_label'])
        assert renamed['image'].max() <= 1


def test_rename_all_modalities(root: Path, tmp_path: Path) -> None:
    rename = {'image_clear': 'image', 'image': 'image_clear'}
    plain, renamed = (
        fit(root, tmp_path, batch_size=12, augment=False, rename=r)[0].batches
        for r in (None, rename)
    )
    (first, *_), (second, *_) = plain['validate'], renamed['validate']
    assert first.keys() == second.keys()
    assert torch.equal(first['image'], second['image_clear'])
    assert torch.equal(first['image_clear'], second['image'])


@pytest.mark.parametrize(
    ('rename', 'problem'),
    [
        ({'image_s1': 'image'}, "no 'image_s1' to rename: add 'sentinel1' to the"),
        ({'clear': 'image'}, "'clear' in rename is none of the keys 'image', 'image_c"),
        ({'crs': 'epsg'}, "'crs' in rename is none of the keys"),
        ({'image_clear': 'mask'}, "the name 'mask' to several keys"),
        ({'image_clear': 'bounds'}, "the name 'bounds' to several keys"),
        ({'image_clear': 'x', 'mask': 'x'}, "the name 'x' to several keys"),
    ],
)
def test_rename_errors(root: Path, rename: dict[str, str], problem: str) -> None:
    datamodule = PlanetCRDataModule(
        root, modalities=('clear', 'worldcover'), rename=rename
    )
    with pytest.raises(ValueError, match=problem):
        datamodule.setup('validate')


def test_plot_of_renamed(root: Path, tmp_path: Path) -> None:
    """TorchGeo's own tasks undo the normalization, and then add a prediction."""
    datamodule = PlanetCRDataModule(
        root, modalities=['clear', 'worldcover'], rename={'image_clear': 'image'}
    )
    recorder = Recorder()
    make_trainer(tmp_path).validate(recorder, datamodule, verbose=False)
    (batch,) = recorder.batches['validate']
    undo = K.AugmentationSequential(
        K.Denormalize(datamodule.mean, datamodule.std), data_keys=None, keepdim=True
    )
    (sample,) = unbind_samples(undo(batch))
    sample['prediction'] = sample['mask']
    figure = datamodule.plot(sample, suptitle='renamed')
    assert figure is not None
    assert figure.get_suptitle() == 'renamed'
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ['Clear', 'Land cover', 'Predicted land cover']

    dataset = PlanetCR(root, 'val', modalities=['clear', 'worldcover'])
    (query,) = CenterNativePatchSampler(dataset, size=None)
    expected = dataset.plot(dataset[query])
    drawn, wanted = (
        np.asarray(fig.axes[0].get_images()[0].get_array())
        for fig in (figure, expected)
    )
    np.testing.assert_allclose(drawn, wanted, atol=1e-5)


def test_plot(root: Path) -> None:
    datamodule = PlanetCRDataModule(root)
    datamodule.setup('validate')
    sample = next(iter(datamodule.val_dataloader()))
    figure = datamodule.plot({key: value[0] for key, value in sample.items()})
    assert figure is not None
    assert len(figure.axes) == 5


def test_precision(root: Path) -> None:
    trainer = Trainer(
        accelerator='cpu', precision='bf16-true', logger=False, barebones=True
    )
    with pytest.raises(ValueError, match=r"use 'bf16-mixed'"):
        trainer.predict(Recorder(), PlanetCRDataModule(root))


def test_errors(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='size=301 is larger than 12 patch'):
        fit(root, tmp_path, patch_size=301)
    with pytest.raises(FileNotFoundError, match='planetcr download-sample'):
        fit(tmp_path / 'nothing', tmp_path)
    with pytest.raises(MisconfigurationException, match='setup must define'):
        PlanetCRDataModule(root).train_dataloader()
