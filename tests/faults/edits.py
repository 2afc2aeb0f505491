# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Hypothesis strategies that damage kept indexes and checkpoints."""

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from .mutations import Canary, Damage, anything, contents, flipped

# --- the kept index


@st.composite
def index_table(draw: DrawFn, data: bytes) -> Damage:
    """An index with other numbers or texts, written as it should be."""
    table = pq.read_table(io.BytesIO(data))
    metadata = dict(table.schema.metadata)
    attrs = json.loads(metadata[b'PANDAS_ATTRS'])
    kind = draw(
        st.sampled_from(['cell', 'cell', 'cell', 'attrs', 'rows', 'column', 'type'])
    )
    number = draw(st.integers(0, table.num_columns - 1))
    column = table.schema.field(number)
    text = f'{kind} {column.name}'
    if kind == 'cell':
        values = table[number].to_pylist()
        row = draw(st.integers(0, len(values) - 1))
        new = draw(_cells(column.type, values))
        text += f' {values[row]!r} -> {new!r}'
        values[row] = new
        table = table.set_column(number, column, pa.array(values, column.type))
    elif kind == 'attrs':
        text = _edit_attrs(draw, attrs)
    elif kind == 'rows':
        rows = draw(st.lists(st.integers(0, table.num_rows - 1), max_size=8))
        table, text = table.take(pa.array(rows, pa.int64())), f'rows {rows}'
        attrs['patches'] = len(rows)
    elif kind == 'column':
        table = table.drop_columns([column.name])
    elif not pa.types.is_binary(column.type):
        values = [str(value) for value in table[number].to_pylist()]
        table = table.set_column(number, column.name, pa.array(values))
    metadata[b'PANDAS_ATTRS'] = json.dumps(attrs).encode()
    file = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(metadata), file)
    return contents(text, file.getvalue())


def _cells(kind: pa.DataType, values: list[Any]) -> SearchStrategy[Any]:
    """Other values of a cell of the index."""
    if pa.types.is_integer(kind):
        bits = kind.bit_width - 1
        near = st.sampled_from([0, 1, 2, 60, None])
        return st.integers(-(2**bits), 2**bits - 1) | near
    if pa.types.is_floating(kind):
        return st.floats() | st.sampled_from([3.0, 0.0, 300_000.0, None])
    if pa.types.is_binary(kind):
        return st.binary(max_size=30) | st.none()
    texts = (
        '../outside/x.tif /etc/passwd EPSG:32733 EPSG:99999 >u2 |O <f2 band train test'
    )
    known = st.sampled_from([*texts.split(), *values, '', None])
    return known | st.text(max_size=5)


def _edit_attrs(draw: DrawFn, attrs: dict[str, Any]) -> str:
    """Change what the index says of itself."""
    key = draw(st.sampled_from(sorted(attrs)))
    lies = [{'train': 'all is well'}, {'train': 'Send money'}, {'train': 7}, {'x': 'y'}]
    attrs[key] = draw(st.sampled_from([0, 2, 5, '1', None, [], {}, 'x', *lies]))
    return f'{key} is {attrs[key]!r}'


def index_bomb(data: bytes) -> Damage:
    """An index of some kilobytes that becomes gigabytes."""
    schema = pq.read_table(io.BytesIO(data)).schema
    step, steps = 100_000, 20
    attrs = json.loads(schema.metadata[b'PANDAS_ATTRS']) | {'patches': step * steps}
    schema = schema.with_metadata(
        schema.metadata | {b'PANDAS_ATTRS': json.dumps(attrs).encode()}
    )
    columns = [
        pa.repeat(pa.scalar('x' * 1000, field.type), step)
        if field.name in ('patch', 'cloudy')
        else pa.nulls(step, field.type)
        for field in schema
    ]
    table, file = pa.table(columns, schema=schema), io.BytesIO()
    with pq.ParquetWriter(file, schema, compression='zstd') as writer:
        for _ in range(steps):
            writer.write_table(table)
    return contents('a bomb', file.getvalue())


def indexes(data: bytes) -> SearchStrategy[Damage]:
    """Damage that the kept index can have."""
    return (
        anything(data)
        | flipped(data, len(data) // 2)
        | index_table(data)
        | index_table(data)
    )


# --- checkpoints

type Edit = Callable[[dict[str, Any]], Any]


def _set(part: str, key: str, value: Any) -> Edit:
    """Another value of a key of a part of a checkpoint, or of the checkpoint itself."""

    def edit(checkpoint: dict[str, Any]) -> None:
        (checkpoint[part] if part else checkpoint)[key] = value

    return edit


def _spoil(value: Any) -> Edit:
    """Something else in place of the first tensor, made of it if it can be called."""

    def edit(checkpoint: dict[str, Any]) -> None:
        state = checkpoint['state_dict']
        key = next(iter(state))
        state[key] = value(state[key]) if callable(value) else value

    return edit


def class_paths(canary: Path) -> list[dict[str, Any]]:
    """Hyperparameters that make a canary, if classes that they name are instantiated."""
    arguments: dict[str, dict[str, Any]] = {
        'subprocess.Popen': {'args': ['touch', str(canary)]},
        'logging.FileHandler': {'filename': str(canary)},
        'torch.nn.Linear': {'in_features': 3, 'out_features': 3},
    }
    return [{'class_path': key, 'init_args': args} for key, args in arguments.items()]


def edits(canary: Path) -> dict[str, Edit]:
    """Ways to change what a checkpoint holds, by what they are called."""
    hp = 'hyper_parameters'
    found: dict[str, Edit] = {}
    told = {
        '_instantiator': 'lightning.pytorch.cli.instantiate_module',
        '_class_path': 'torchgeo_planetcr.CloudRemoval',
    }

    def everywhere(key: str, value: Any) -> Edit:
        def edit(checkpoint: dict[str, Any]) -> None:
            checkpoint[hp] |= told | {key: value}

        return edit

    for number, spec in enumerate(class_paths(canary)):
        for key in ('model', 'loss', 'optimizer', 'lr', 'weights', 'extra'):
            found[f'class path {number} in {key}'] = everywhere(key, spec)
        nested = {'features': 8, 'num_blocks': 1, 'x': spec}
        found[f'class path {number} in model_kwargs'] = everywhere(
            'model_kwargs', nested
        )
    values: dict[str, list[Any]] = {
        'model': ['nope', '', 5, None, '../../x', ['copy'], 'copy', 'os.system'],
        'model_kwargs': [
            {'features': -1},
            {'features': 'x'},
            {'nope': 1},
            [],
            5,
            {1: 2},
        ],
        'model_kwargs ': [
            {'features': 60_000},
            {'num_blocks': 3_000_000},
            {'features': 1e9},
        ],
        'weights': ['/etc/passwd', '/nowhere', 5, True, 'http://127.0.0.1:9/x'],
        'lr': ['x', -1, None, float('nan')],
        'loss': ['nope', 5, None],
        'compile': [True],
        '_instantiator': ['os.system', 'builtins.exec', 5, ''],
        '_class_path': ['os.system', 'subprocess.Popen', 'torch.nn.Linear', 5],
    }
    for key, choices in values.items():
        found |= {f'{key} {value!r}': _set(hp, key.strip(), value) for value in choices}
    for value in ({}, [], None, 5, 'x'):
        found[f'hyperparameters {value!r}'] = _set('', hp, value)
        found[f'state {value!r}'] = _set('', 'state_dict', value)
    for value in ({}, 5, None, {'module.x': torch.ones(1)}, {'a': 1}):
        found[f'network {value!r}'] = _set('', 'network', value)
    tensors = {
        'NaN': lambda tensor: tensor * float('nan'),
        'infinity': lambda tensor: tensor + float('inf'),
        'a view of a terabyte': lambda tensor: torch.zeros(1).expand(2**20, 2**18),
        'of no device': lambda tensor: tensor.to('meta'),
        'complex': lambda tensor: tensor.to(torch.complex64),
        'sparse': lambda tensor: torch.zeros(3, 3).to_sparse(),
        'of another shape': lambda tensor: tensor[:1],
        'a text': 'x',
        'nothing': None,
    }
    found |= {f'a tensor {name}': _spoil(value) for name, value in tensors.items()}
    found['one tensor more'] = _set('state_dict', 'model.extra', torch.zeros(3))
    found['a version'] = _set('', 'pytorch-lightning_version', '99.0')
    found['a pickle within'] = _set('', 'callbacks', Canary(canary))
    return found


@st.composite
def edited(draw: DrawFn, data: bytes, canary: Path) -> Damage:
    """A checkpoint that holds something else."""
    known = edits(canary)
    name = draw(st.sampled_from(sorted(known)))
    checkpoint = torch.load(io.BytesIO(data), weights_only=True)
    known[name](checkpoint)
    file = io.BytesIO()
    torch.save(checkpoint, file)
    return contents(name, file.getvalue())


@st.composite
def packed(draw: DrawFn, data: bytes) -> Damage:
    """The parts of a checkpoint in another archive."""
    how = draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
    prefix = draw(st.sampled_from(['', '../../', '/', 'x/']))
    text = f'packed again, {how=} {prefix=}'
    return contents(text, _pack(data, how, prefix))


def checkpoint_bomb(data: bytes) -> Damage:
    """A checkpoint of some megabytes that becomes gigabytes."""
    return contents('a bomb', _pack(data, zipfile.ZIP_DEFLATED, blocks=3 * 2**8))


def _pack(data: bytes, how: int, prefix: str = '', blocks: int = 0) -> bytes:
    """Pack the parts of a checkpoint again, the first tensor as blocks of 4 MiB of zeros."""
    old, file = zipfile.ZipFile(io.BytesIO(data)), io.BytesIO()
    with old, zipfile.ZipFile(file, 'w', how, compresslevel=1) as new:
        for name in old.namelist():
            with new.open(prefix + name, 'w', force_zip64=True) as part:
                if not (blocks and name.endswith('/data/0')):
                    part.write(old.read(name))
                else:
                    for _ in range(blocks):
                        part.write(bytes(2**22))
    return file.getvalue()


@st.composite
def weight_bit(draw: DrawFn, data: bytes) -> Damage:
    """A bit of the weights is another one, and the checksum of the archive tells."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = [i for i in archive.infolist() if '/data/' in i.filename]
    part = draw(st.sampled_from(parts))
    name, extra = struct.unpack_from('<HH', data, part.header_offset + 26)
    start = part.header_offset + 30 + name + extra
    return draw(flipped(data, start, start + part.file_size))


def checkpoints(path: Path, canary: Path) -> SearchStrategy[Damage]:
    """Damage that a checkpoint can have; what executes makes a canary."""
    data = path.read_bytes()
    legacy = io.BytesIO()
    torch.save(Canary(canary), legacy, _use_new_zipfile_serialization=False)
    pickles = [pickle.dumps(Canary(canary)), legacy.getvalue()]
    return st.one_of(
        anything(data),
        weight_bit(data),
        edited(data, canary),
        edited(data, canary),
        edited(data, canary),
        packed(data),
        st.sampled_from(pickles).map(partial(contents, 'a pickle')),
    )
