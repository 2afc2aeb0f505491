# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Tests of several processes; the file is also the script that each of them runs."""

import os
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from shutil import copytree
from types import ModuleType
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import Tensor, nn
from torchgeo.datasets.utils import Sample

from torchgeo_planetcr import CloudRemoval, PlanetCR, PlanetCRDataModule
from torchgeo_planetcr.datasets.modalities import LIST_COLUMNS, MODALITIES

#: Number of windows in an epoch and number of workers, of each training.
FITS = ((7, 0), (8, 2))

Place = tuple[float, ...]


class Recorder(LightningModule):
    """Keep the places of the samples that a process gets in each epoch."""

    def __init__(self) -> None:
        super().__init__()
        # Buffers are what DistributedDataParallel sends in validation
        self.layer = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))
        self.places: dict[str, list[list[Place]]] = {'fit': [], 'validate': []}

    def on_train_epoch_start(self) -> None:
        self.places['fit'].append([])

    def on_validation_epoch_start(self) -> None:
        self.places['validate'].append([])

    def forward(self, batch: Sample) -> Tensor:
        return self.layer(torch.ones(2, 1)).sum()

    def training_step(self, batch: Sample, batch_idx: int) -> Tensor:
        self.places['fit'][-1] += places(batch)
        return self(batch)

    def validation_step(self, batch: Sample, batch_idx: int) -> None:
        self.places['validate'][-1] += places(batch)
        self(batch)

    def predict_step(self, batch: Sample, batch_idx: int) -> Sample:
        return batch

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Watched(PlanetCRDataModule):
    prepared = 0

    def prepare_data(self) -> None:
        self.prepared += 1
        super().prepare_data()


def places(batch: Sample) -> list[Place]:
    return [
        (int(crs), *bounds)
        for crs, bounds in zip(batch['crs'], batch['bounds'].tolist())
    ]


def work(root: Path, small_root: Path, folder: Path, processes: int) -> None:
    """What each process does: it saves what it has seen to a file of its own."""

    def trainer() -> Trainer:
        return Trainer(
            accelerator='cpu',
            devices=1,
            num_nodes=processes,
            max_epochs=2,
            default_root_dir=folder,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )

    def fit(**kwargs: Any) -> tuple[Recorder, Watched]:
        recorder = Recorder()
        datamodule = Watched(root, patch_size=50, **kwargs)
        trainer().fit(recorder, datamodule)
        return recorder, datamodule

    _, unseeded = fit(length=2)
    sampler: Any = unseeded.train_sampler
    seen: dict[str, Any] = {'seed': sampler.seed, 'prepared': unseeded.prepared}
    for length, num_workers in FITS:
        seed_everything(1, verbose=False)
        recorder, _ = fit(length=length, num_workers=num_workers)
        seen[f'fit {length}'] = recorder.places

    datamodule = PlanetCRDataModule(root)
    batches: Any = trainer().predict(Recorder(), datamodule)
    seen['predict'] = [place for batch in batches for place in places(batch)]
    task = CloudRemoval(model='copy')
    (seen['test'],) = trainer().test(task, datamodule, verbose=False)
    (seen['validate'],) = trainer().validate(task, datamodule, verbose=False)
    small = PlanetCRDataModule(small_root)
    (seen['small'],) = trainer().validate(task, small, verbose=False)

    task = CloudRemoval(model_kwargs={'features': 4, 'num_blocks': 1})
    trained = trainer()
    trained.fit(task, PlanetCRDataModule(root, patch_size=50, eval_size=50, length=2))
    seen['logged'] = {
        key: float(value)
        for key, value in trained.callback_metrics.items()
        if key.startswith('val_')
    }
    torch.save(seen, folder / f'{trained.global_rank}.pt')


if __name__ == '__main__':
    work(*map(Path, sys.argv[1:]), processes=2)


@pytest.fixture(scope='module')
def large_root(
    root: Path, data: ModuleType, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A tree with three patches for validation."""
    large_root = Path(copytree(root, tmp_path_factory.mktemp('large') / 'root'))
    lines = []
    for number in (1, 2, 3):
        paths = [
            data.filepath(
                root,
                data.AREAS[0],
                number,
                MODALITIES[modality].folder,
                MODALITIES[modality].suffix,
            )
            for modality in LIST_COLUMNS
        ]
        lines.append(','.join(str(path.relative_to(root / 'train')) for path in paths))
    (large_root / 'val.csv').write_text('\n'.join(lines))
    return large_root


@pytest.fixture(scope='module')
def alone(
    root: Path, large_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What a single process has seen."""
    folder = tmp_path_factory.mktemp('alone')
    work(large_root, root, folder, processes=1)
    return torch.load(folder / '0.pt')


@pytest.fixture(scope='module')
def pair(
    root: Path, large_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    """What each of two processes has seen, each as if on a node of its own."""
    folder = tmp_path_factory.mktemp('pair')
    command = [sys.executable, __file__, large_root, root, folder]
    environment = {k: v for k, v in os.environ.items() if not k.startswith('PL_')}
    environment |= {'MASTER_ADDR': '127.0.0.1', 'LOCAL_RANK': '0'}
    with socket.create_server(('127.0.0.1', 0)) as server:
        environment['MASTER_PORT'] = str(server.getsockname()[1])
    processes = [
        subprocess.Popen(command, env=environment | {'NODE_RANK': str(rank)})
        for rank in range(2)
    ]
    try:
        assert [process.wait(timeout=300) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    return [torch.load(folder / f'{rank}.pt') for rank in range(2)]


def test_alone(root: Path, alone: dict[str, Any]) -> None:
    """One process draws anew in each epoch, and sees each patch once otherwise."""
    for length, _ in FITS:
        first, second = alone[f'fit {length}']['fit']
        assert len(set(first)) == len(set(second)) == length
        assert not set(first) & set(second)
        places = alone[f'fit {length}']['validate'][0]
        assert len(set(places)) == len(places) == 3
    assert len(set(alone['predict'])) == len(alone['predict'])
    assert len(alone['predict']) == len(PlanetCR(root, 'test'))
    for run in ('test', 'validate', 'small'):
        assert len(alone[run]) == 6


@pytest.mark.slow
def test_seed(pair: list[dict[str, Any]]) -> None:
    """Processes agree on a seed if the user gives none."""
    assert pair[0]['seed'] == pair[1]['seed']


@pytest.mark.slow
def test_prepared_once(pair: list[dict[str, Any]]) -> None:
    assert [seen['prepared'] for seen in pair] == [1, 0]


@pytest.mark.slow
@pytest.mark.parametrize(('length', 'num_workers'), FITS)
def test_fit(
    alone: dict[str, Any], pair: list[dict[str, Any]], length: int, num_workers: int
) -> None:
    """Both draw the windows of one process, each once, and one more if that is odd."""
    expected = alone[f'fit {length}']['fit']
    shares = [seen[f'fit {length}']['fit'] for seen in pair]
    assert [len(epoch) for epoch in expected] == [length, length]
    for epoch in range(2):
        first, second = (share[epoch] for share in shares)
        assert len(first) == len(second)
        drawn = Counter(first + second)
        assert set(drawn.values()) == {1}
        assert not set(expected[epoch]) - set(drawn)
        assert len(drawn) == length + length % 2
    for seen in (expected, *shares):
        assert not set(seen[0]) & set(seen[1])


@pytest.mark.slow
def test_evaluation_places(
    root: Path, alone: dict[str, Any], pair: list[dict[str, Any]]
) -> None:
    """Each patch is evaluated once, although their number is odd."""
    for length, _ in FITS:
        for epoch in range(2):
            first, second = (seen[f'fit {length}']['validate'][epoch] for seen in pair)
            assert (len(first), len(second)) == (2, 1)
            (expected, _) = alone[f'fit {length}']['validate']
            assert sorted(first + second) == sorted(expected)
    first, second = (seen['predict'] for seen in pair)
    assert (len(first), len(second)) == (2, 1)
    assert sorted(first + second) == sorted(alone['predict'])
    assert len(PlanetCR(root, 'test')) == len(alone['predict'])


@pytest.mark.slow
@pytest.mark.parametrize('run', ['test', 'validate', 'small'])
def test_metrics(alone: dict[str, Any], pair: list[dict[str, Any]], run: str) -> None:
    """Metrics are those of one process, also if one of the two has less or no work."""
    assert len(alone[run]) == 6
    for seen in pair:
        assert seen[run] == pytest.approx(alone[run], rel=1e-6)


@pytest.mark.slow
def test_logged_in_training(pair: list[dict[str, Any]]) -> None:
    """Processes agree on what schedulers and checkpoints depend on."""
    first, second = (seen['logged'] for seen in pair)
    assert len(first) == 6
    assert first == second
