# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from torchgeo_planetcr.models.dynamic_filter import _filter, _filter_backward

pytest.importorskip('triton')

CASES = [
    ((2, 2, 5, 7), torch.float32),
    ((1, 1, 1, 1), torch.float32),
    ((1, 1, 23, 29), torch.float32),
    ((2, 1, 6, 3), torch.float64),
    ((2, 1, 6, 3), torch.bfloat16),
]

# Triton decides when it is imported whether it interprets its kernels
INTERPRET = """
import sys

import torch

from torchgeo_planetcr.models import dynamic_filter_kernels

cases = torch.load(sys.argv[1])
results = []
for grad, padded, filters in cases:
    result = dynamic_filter_kernels.forward(padded, filters)
    grads = dynamic_filter_kernels.backward(grad, padded, filters)
    results.append((result, *grads))
torch.save(results, sys.argv[2])
"""

Case = tuple[Tensor, Tensor, Tensor]


def _make(shape: tuple[int, ...], dtype: torch.dtype) -> Case:
    generator = torch.Generator().manual_seed(sum(shape))
    batch_size, channels, height, width = shape
    features, grad = torch.randn(2, *shape, generator=generator).to(dtype)
    padded = F.pad(features, [2] * 4, mode='replicate')
    size = batch_size, channels, 25, height, width
    return grad, padded, torch.randn(size, generator=generator).to(dtype)


def _interpret(cases: list[Case], folder: Path) -> list[Case]:
    torch.save(cases, folder / 'cases.pt')
    process = subprocess.run(
        [sys.executable, '-c', INTERPRET, folder / 'cases.pt', folder / 'results.pt'],
        env=os.environ | {'TRITON_INTERPRET': '1', 'TRITON_CACHE_DIR': str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return torch.load(folder / 'results.pt')


@pytest.fixture(scope='module')
def interpreted(
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[tuple[tuple[int, ...], torch.dtype], tuple[Case, Case]]:
    """What the interpreted kernels make of each case."""
    cases = {case: _make(*case) for case in CASES}
    # As a network in channels_last memory would pass them
    strided = [
        (
            grad.contiguous(memory_format=torch.channels_last),
            padded.contiguous(memory_format=torch.channels_last),
            filters.mT.contiguous().mT,
        )
        for grad, padded, filters in cases.values()
    ]
    results = _interpret(strided, tmp_path_factory.mktemp('triton'))
    return dict(zip(cases, zip(cases.values(), results, strict=True), strict=True))


class TestKernels:
    @pytest.mark.parametrize(('shape', 'dtype'), CASES)
    def test_equal_the_plain_version(
        self,
        interpreted: dict[tuple[tuple[int, ...], torch.dtype], tuple[Case, Case]],
        shape: tuple[int, ...],
        dtype: torch.dtype,
    ) -> None:
        (grad, padded, filters), results = interpreted[shape, dtype]
        expected = _filter(padded, filters), *_filter_backward(grad, padded, filters)
        # The interpreter truncates instead of rounding
        tolerance = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 1e-2}
        for result, value in zip(results, expected, strict=True):
            assert result.dtype == dtype
            torch.testing.assert_close(
                result, value, rtol=tolerance[dtype], atol=tolerance[dtype]
            )

    @pytest.mark.parametrize(
        ('kernel', 'capability'),
        [
            ('forward', 80),
            ('forward', 90),
            ('backward_filters', 90),
            ('backward_padded', 80),
        ],
    )
    def test_compile(
        self,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        kernel: str,
        capability: int,
    ) -> None:
        import triton.language as tl
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource, compile

        from torchgeo_planetcr.models import dynamic_filter_kernels

        monkeypatch.setenv('TRITON_CACHE_DIR', str(tmp_path))
        # The default, of which Triton warns that it will change
        monkeypatch.setenv('TRITON_DEFAULT_FP_FUSION', '1')
        function = getattr(dynamic_filter_kernels, f'_{kernel}')
        constants = {'EXACT': tl.float32, 'PIXELS': dynamic_filter_kernels.PIXELS}
        signature = {
            name: 'constexpr'
            if name in constants
            else 'i32'
            if name in ('height', 'width')
            else '*bf16'
            for name in function.arg_names
        }

        compiled = compile(
            ASTSource(function, signature, constants),
            target=GPUTarget('cuda', capability, 32),
        )

        assert f'.target sm_{capability}' in compiled.asm['ptx']
        assert compiled.metadata.shared == 0
