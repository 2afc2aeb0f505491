# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Measure the time and memory of training GLF-CR and Align-CR, and write a report.

    python benchmarks/models.py [--device cuda] [--output docs/benchmarks] [--quick]

On a CPU it takes about a quarter of an hour and 15 GB of memory. Nothing else should run
at the same time. ``--quick`` is a trial with small networks and crops.
"""

import argparse
import datetime
import gc
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from data_loading import say
from naive import make_naive
from numpy.typing import NDArray
from report import Goal, goal_table, hardware, make_parser, publish, spread, table, wrap
from torch import Tensor, nn
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from torchgeo_planetcr.models import GLFCR, AlignCR, DSen2CR

#: Networks by name.
NETWORKS: dict[str, Any] = {'DSen2-CR': DSen2CR, 'GLF-CR': GLFCR, 'Align-CR': AlignCR}

#: Networks that are compared with a naive version.
TRAINED = ('GLF-CR', 'Align-CR')

#: Versions of a network.
NAIVE, OURS, RECOMPUTE = 'naive', 'ours', 'ours, `recompute=True`'
VERSIONS = (NAIVE, OURS, RECOMPUTE)

#: With these variables, the allocator of glibc returns large pieces of memory at once, so
#: that resident memory is memory in use. They must be set before a process starts.
EAGER_MALLOC = {
    'MALLOC_MMAP_THRESHOLD_': '1000000',
    'MALLOC_TRIM_THRESHOLD_': '1000000',
    'MALLOC_TOP_PAD_': '100000',
}

#: Parts of the names of operations that convolve or multiply matrices.
PRODUCTS = ('conv', 'mm')

#: Largest batch that is tried on a GPU.
LARGEST_BATCH = 512


class Effort(NamedTuple):
    """How much to measure."""

    #: Side of the crops in pixels, and number of stages of each network.
    size: int
    stages: int
    #: Number of turns of training, by network.
    rounds: dict[str, int]
    #: Number of turns of inference on a CPU, and of steps on a GPU.
    inferences: int
    steps: int


FULL = Effort(160, 6, {'GLF-CR': 5, 'Align-CR': 2}, 3, 10)
QUICK = Effort(64, 2, {'GLF-CR': 2, 'Align-CR': 2}, 2, 2)


class Job(NamedTuple):
    """What a process trains or runs."""

    network: str
    version: str
    device: str
    size: int
    stages: int
    steps: int = 1

    def make(self) -> nn.Module:
        """Make the network with the same random numbers each time."""
        torch.manual_seed(0)
        kwargs: dict[str, Any] = {}
        if self.network in TRAINED:
            kwargs = {'num_stages': self.stages, 'recompute': self.version == RECOMPUTE}
        model = NETWORKS[self.network](**kwargs)
        if self.version == NAIVE:
            make_naive(model)
        return model.to(self.device)


def memory(field: str) -> float:
    """Memory of this process in MB, such as ``VmRSS`` for what is resident now."""
    status = Path('/proc/self/status').read_text()
    (line,) = (line for line in status.splitlines() if line.startswith(f'{field}:'))
    return int(line.split()[1]) * 1024 / 1e6


class Training:
    """A network with a batch and an optimizer, to be measured."""

    def __init__(
        self,
        job: Job,
        batch_size: int = 1,
        *,
        fast: bool = False,
        compiled: bool = False,
    ) -> None:
        """Make a network and a batch.

        Args:
            job: What to train.
            batch_size: Number of crops of a step.
            fast: Use mixed precision and ``channels_last``.
            compiled: Compile the network.
        """
        self.job = job
        self.fast = fast
        self.model = job.make()
        layout = torch.channels_last if fast else torch.contiguous_format
        self.model.to(memory_format=layout)
        if compiled:
            self.model.compile()
        self.optimizer = torch.optim.Adam(self.model.parameters(), 1e-4)
        self.image, self.image_s1, self.target = (
            torch.rand(batch_size, channels, job.size, job.size)
            .to(job.device)
            .contiguous(memory_format=layout)
            for channels in (4, 2, 4)
        )
        self.memory = memory('VmRSS')

    def predict(self) -> Tensor:
        """Restore the batch."""
        with torch.autocast(self.job.device, torch.bfloat16, enabled=self.fast):
            return self.model(self.image, self.image_s1)

    def infer(self) -> None:
        """Restore the batch in evaluation mode."""
        self.model.eval()
        with torch.inference_mode():
            self.predict()

    def step(self) -> None:
        """Take a step of training."""
        self.optimizer.zero_grad()
        F.l1_loss(self.predict(), self.target).backward()
        self.optimizer.step()

    def time(self, what: str) -> float:
        """Measure how many seconds a method takes."""
        self._wait()
        start = time.perf_counter()
        getattr(self, what)()
        self._wait()
        return time.perf_counter() - start

    def _wait(self) -> None:
        """Wait for the GPU."""
        if self.job.device == 'cuda':
            torch.cuda.synchronize()

    def peak(self) -> float:
        """MB that training has taken on a CPU, without the network itself."""
        return memory('VmHWM') - self.memory

    def share(self) -> float:
        """Share of the time of a step that convolutions and matrix products take."""
        is_gpu = self.job.device == 'cuda'
        activities = [ProfilerActivity.CPU]
        if is_gpu:
            activities.append(ProfilerActivity.CUDA)
        with profile(activities=activities) as profiler:
            self.time('step')
        products = total = 0.0
        for event in profiler.key_averages():
            if event.is_user_annotation:
                continue
            # On a GPU, a kernel is also counted with the operation that starts it
            is_kernel = event.device_type != DeviceType.CPU
            value = (
                event.self_device_time_total if is_gpu else event.self_cpu_time_total
            )
            if is_kernel == is_gpu:
                total += value
            # Kernels of the compiler have the names of all operations that they replace
            library, _, name = event.key.partition('::')
            is_product = any(part in name for part in PRODUCTS)
            if not is_kernel and library in ('aten', 'torchvision') and is_product:
                products += value
        return products / total

    def throughput(self) -> dict[str, Any]:
        """Find the largest batch that fits, and measure the time of steps with it.

        Returns:
            Size of the batch, images per second of each step, GB, and the share of
            convolutions and matrix products.
        """
        job, fast = self.job, self.job.version != NAIVE
        # Without compiling, which takes long for each size and does not change the memory
        low, high = 0, 1
        while high <= LARGEST_BATCH and _train(job, high, fast=fast):
            low, high = high, 2 * high
        for _ in range(3):
            middle = (low + high) // 2
            if low < middle < high <= LARGEST_BATCH:
                fits = _train(job, middle, fast=fast)
                low, high = (middle, high) if fits else (low, middle)
        while low:
            if result := _train(job, low, job.steps, fast=fast, compiled=fast):
                return result
            low -= max(1, low // 8)
        raise RuntimeError(
            f'no batch of {job.network} fits into the memory of the device'
        )


def _train(job: Job, batch_size: int, steps: int = 1, **kwargs: bool) -> dict[str, Any]:
    """Train with batches of a given size.

    Args:
        job: What to train.
        batch_size: Number of crops of a step.
        steps: Number of steps whose time is measured.
        **kwargs: Keyword arguments to pass to :class:`Training`.

    Returns:
        What :meth:`Training.throughput` returns, or nothing if the memory is too small.
    """
    is_gpu = job.device == 'cuda'
    result = {}
    try:
        training = Training(job, batch_size, **kwargs)
        for _ in range(2):
            training.step()
        if is_gpu:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        result = {
            'batch_size': batch_size,
            'speeds': [batch_size / training.time('step') for _ in range(steps)],
            'memory': torch.cuda.max_memory_allocated() / 1e9 if is_gpu else 0.0,
            'share': training.share() if steps > 1 else 0.0,
        }
    except torch.OutOfMemoryError:
        result = {}
    training = None
    # Else, batches of another size make the compiler generate code for any size
    torch.compiler.reset()
    gc.collect()
    if is_gpu:
        torch.cuda.empty_cache()
    return result


def work(job: Job) -> None:
    """Answer the questions of :meth:`Worker.ask`, one on each line.

    Args:
        job: What to train or run.
    """
    training = Training(job)
    for line in sys.stdin:
        match line.split():
            case ['time', what]:
                answer: Any = training.time(what)
            case [question]:
                answer = getattr(training, question)()
        print(json.dumps(answer), flush=True)


class Worker:
    """A process of its own for a job, so that it has its own memory and speed."""

    def __init__(self, job: Job, environment: dict[str, str] | None = None) -> None:
        """Start the process.

        Args:
            job: What to train or run.
            environment: Variables to add to the environment.
        """
        self.process = subprocess.Popen(
            [sys.executable, __file__, '--job', json.dumps(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | (environment or {}),
        )

    def __enter__(self) -> Self:
        """Return the worker, whose process already runs."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()

    def ask(self, question: str) -> Any:
        """Ask a question, and wait for the answer.

        Args:
            question: Name of a method of :class:`Training`. With ``time`` before it, the
                answer is how many seconds the method takes.

        Returns:
            The answer.
        """
        assert self.process.stdin and self.process.stdout
        print(question, file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(
                f'a process ended instead of answering {question!r}: see its error above'
            )
        return json.loads(line)


def time_in_turns(
    workers: Sequence[Worker], what: str, rounds: int
) -> NDArray[np.float64]:
    """Measure the time of several jobs in turns, so that noise is the same for all.

    Args:
        workers: Process of each job.
        what: Method whose time to measure.
        rounds: Number of turns.

    Returns:
        Seconds, a row for each turn and a column for each job.
    """
    seconds = np.empty((rounds, len(workers)))
    for turn in range(-1, rounds):
        columns = list(range(len(workers)))
        for column in columns if turn % 2 else columns[::-1]:
            # Turn -1 warms up
            seconds[turn, column] = workers[column].ask(f'time {what}')
    return seconds


class Steps(NamedTuple):
    """Seconds and MB of training on a CPU, with a column or an item for each version."""

    seconds: NDArray[np.float64]
    memory: NDArray[np.float64]
    memory_default: NDArray[np.float64]
    shares: NDArray[np.float64]

    def ratios(self, version: str) -> NDArray[np.float64]:
        """Ratio of the time to that of the naive version, in each turn."""
        return self.seconds[:, VERSIONS.index(version)] / self.seconds[:, 0]


def compare(network: str, effort: Effort) -> float:
    """Compare the outputs of all versions of a network.

    Args:
        network: Name of the network.
        effort: Size of the images.

    Returns:
        Largest difference.
    """
    outputs = []
    for version in VERSIONS:
        job = Job(network, version, 'cpu', effort.size, effort.stages)
        training = Training(job)
        training.model.eval()
        with torch.no_grad():
            outputs.append(training.predict())
    difference = max(float((y - outputs[0]).abs().max()) for y in outputs[1:])
    assert difference < 1e-5, f'{network}: outputs differ by {difference}'
    return difference


def measure_steps(network: str, effort: Effort) -> Steps:
    """Train each version of a network on a CPU.

    Args:
        network: Name of the network.
        effort: How much to measure.

    Returns:
        Seconds and MB.
    """
    jobs = [
        Job(network, version, 'cpu', effort.size, effort.stages) for version in VERSIONS
    ]
    peaks = []
    for job in jobs:
        with Worker(job, EAGER_MALLOC) as worker:
            # Gradients and the state of Adam exist from the second step on
            for _ in range(2):
                worker.ask('step')
            peaks.append(worker.ask('peak'))
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(job)) for job in jobs]
        seconds = time_in_turns(workers, 'step', effort.rounds[network])
        default = [worker.ask('peak') for worker in workers]
        shares = [worker.ask('share') for worker in workers]
    return Steps(seconds, *map(np.array, (peaks, default, shares)))


def measure_inference(effort: Effort) -> dict[str, NDArray[np.float64]]:
    """Run each network on a CPU.

    Args:
        effort: How much to measure.

    Returns:
        Images per second of each turn, by network.
    """
    with ExitStack() as stack:
        workers = [
            stack.enter_context(
                Worker(Job(network, OURS, 'cpu', effort.size, effort.stages))
            )
            for network in NETWORKS
        ]
        seconds = time_in_turns(workers, 'infer', effort.inferences)
    return dict(zip(NETWORKS, 1 / seconds.T, strict=True))


def measure_throughput(
    effort: Effort, device: str
) -> dict[str, dict[str, dict[str, Any]]]:
    """Train each version of each network on a GPU.

    Args:
        effort: How much to measure.
        device: The GPU.

    Returns:
        What :meth:`Training.throughput` returns, by network and version.
    """
    results: dict[str, dict[str, dict[str, Any]]] = {}
    for network in TRAINED:
        results[network] = {}
        for version in VERSIONS:
            say(f'{network}, {version}')
            job = Job(
                network, version, device, effort.size, effort.stages, effort.steps
            )
            with Worker(job) as worker:
                results[network][version] = worker.ask('throughput')
    return results


def machine(device: str, start: float, load: float) -> str:
    """Describe the machine, the versions of software, and the date."""
    gpu = ''
    if device == 'cuda':
        properties = torch.cuda.get_device_properties(0)
        gpu = f'{properties.name} with {properties.total_memory / 1e9:.0f} GB, '

    def git(*arguments: str) -> str:
        command = ['git', '-C', str(Path(__file__).parent), *arguments]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        return result.stdout.strip()

    commit = git('rev-parse', '--short', 'HEAD') or 'unknown'
    if git('status', '--porcelain', '--', ':/torchgeo_planetcr', ':/benchmarks'):
        commit += ' with changes'
    return (
        f'{gpu}{hardware()}, {torch.get_num_threads()} threads, {platform.system()}; Python '
        f'{platform.python_version()}, PyTorch {torch.__version__}; commit {commit}. '
        f'{datetime.date.today().isoformat()}, {(time.time() - start) / 60:.0f} minutes, '
        f'load average {load:.1f} at the start.'
    )


def _cpu_goals(steps: Steps, network: str) -> list[Goal]:
    """Goals on a CPU, and what was measured."""
    ratio = steps.memory[VERSIONS.index(RECOMPUTE)] / steps.memory[0]
    slower, faster = steps.ratios(RECOMPUTE), steps.ratios(OURS)
    return [
        Goal(
            f'{network}, {RECOMPUTE}: memory against naive',
            'at most 1/3',
            f'{ratio:.3f}',
            bool(ratio <= 1 / 3),
        ),
        Goal(
            f'{network}, {RECOMPUTE}: time against naive',
            'at most 1.25 times',
            f'{spread(slower)} times',
            bool(np.median(slower) <= 1.25),
        ),
        Goal(
            f'{network}, {OURS}: time against naive',
            'less than 1 time',
            f'{spread(faster)} times',
            bool(np.median(faster) < 1),
        ),
    ]


def _step_table(steps: Steps, network: str) -> str:
    """Table of the time and memory of a step."""
    rows = [
        [
            f'{network}, {version}',
            spread(steps.seconds[:, i]),
            '' if version == NAIVE else spread(steps.ratios(version)),
            f'{steps.memory[i]:.0f}',
            '' if version == NAIVE else f'{steps.memory[i] / steps.memory[0]:.3f}',
            f'{steps.memory_default[i]:.0f}',
            f'{100 * steps.shares[i]:.0f} %',
        ]
        for i, version in enumerate(VERSIONS)
    ]
    header = [
        '',
        's for a step',
        'against naive',
        'MB in use at most',
        'against naive',
        'MB resident at most, default allocator',
        'convolutions and matrix products',
    ]
    return table(header, rows)


#: What both pages say about the naive version.
ABOUT_NAIVE = """*naive* is the same network with the same weights, whose dynamic filter copies
its input 25 times (`torch.nn.functional.unfold`), and whose attention makes a tensor for each
term of its logits, see `benchmarks/naive.py`."""

#: First lines of the page of a trial.
TRIAL = '**A trial: its figures mean nothing.**\n\n'


def measure_on_cpu(effort: Effort) -> str:
    """Measure on a CPU.

    Args:
        effort: How much to measure.

    Returns:
        The report.
    """
    start, load = time.time(), os.getloadavg()[0]
    differences, steps = {}, {}
    for network in TRAINED:
        say(f'{network}: compare outputs')
        differences[network] = compare(network, effort)
    for network in TRAINED:
        say(f'{network}: train')
        steps[network] = measure_steps(network, effort)
    say('inference')
    inference = measure_inference(effort)
    goals = goal_table(_cpu_goals(steps['GLF-CR'], 'GLF-CR'))
    tables = '\n\n'.join(_step_table(steps[network], network) for network in TRAINED)
    rounds = ' and '.join(f'{len(steps[n].seconds)} of {n}' for n in TRAINED)
    largest = max(differences.values())
    restored = table(
        ['', 'images per second'],
        [[network, spread(speeds)] for network, speeds in inference.items()],
    )
    return wrap(f"""# What it takes to train the networks

<!-- Written by `python benchmarks/models.py`: run it again instead of editing. -->

{TRIAL if effort is QUICK else ''}`python benchmarks/models.py` measured this on one machine and
in one run, and wrote this page. {ABOUT_NAIVE} The outputs of all versions were compared before. They differ by
at most {largest:.1e}. Figures are the median and, in brackets, the least and the largest of all
turns; ratios of times are taken within each turn.

Machine: {machine('cpu', start, load)}

## Goals

{goals}

## A training step

Forward pass, L1 loss, backward pass and a step of Adam with one {effort.size} x {effort.size}
crop, in float32. Each network has a process of its own. The processes take their steps in turns,
{rounds}, after one step that is not counted.

{tables}

- MB in use at most: peak of resident memory (`VmHWM`) in two steps, minus resident memory
  (`VmRSS`) before them. It contains gradients and the state of Adam, but not the weights. The allocator returned freed memory at once
  ({', '.join(f'`{name}={value}`' for name, value in EAGER_MALLOC.items())}), which takes
  time. The time of these processes was not measured.
- MB resident at most: the same with the default allocator, in the processes whose time was
  measured. glibc keeps memory that was freed.
- Convolutions and matrix products: their share of the time of one step, by `torch.profiler`.

## Inference

Evaluation mode, one {effort.size} x {effort.size} image at a time, in float32,
{effort.inferences} turns.

{restored}

## On a GPU

This run used no GPU. `python benchmarks/models.py --device cuda` measures on one, and writes
`models-cuda.md`. If that page is missing, nothing has been measured on a GPU.
""")


def measure_on_gpu(effort: Effort, device: str = 'cuda') -> str:
    """Measure on a GPU.

    Args:
        effort: How much to measure.
        device: The GPU.

    Returns:
        The report.
    """
    start, load = time.time(), os.getloadavg()[0]
    results = measure_throughput(effort, device)
    rows, goals = [], []
    for network, versions in results.items():
        slow = np.median(versions[NAIVE]['speeds'])
        for version, result in versions.items():
            ratio = float(np.median(result['speeds']) / slow)
            rows.append(
                [
                    f'{network}, {version}',
                    str(result['batch_size']),
                    spread(result['speeds']),
                    '' if version == NAIVE else f'{ratio:.2f}',
                    f'{result["memory"]:.1f}',
                    f'{1e3 * result["memory"] / result["batch_size"]:.0f}',
                    f'{100 * result["share"]:.0f} %',
                ]
            )
        best = (
            max(
                float(np.median(versions[version]['speeds']))
                for version in VERSIONS[1:]
            )
            / slow
        )
        goals.append(
            Goal(
                f'{network}, ours: images per second against naive',
                'at least 4 times',
                f'{best:.2f} times',
                bool(best >= 4),
            )
        )
    header = [
        '',
        'crops of a batch',
        'images per second',
        'times as fast as naive',
        'GB at most',
        'MB for a crop',
        'convolutions and matrix products',
    ]
    return wrap(f"""# What it takes to train the networks on a GPU

<!-- Written by `python benchmarks/models.py --device cuda`: run it again instead of editing. -->

{TRIAL if effort is QUICK else ''}`python benchmarks/models.py --device cuda` measured this on one
machine and in one run, and wrote this page. {ABOUT_NAIVE} It is trained in float32, as PyTorch does
by default; ours with bfloat16 mixed precision, `channels_last` and `model.compile()`.

Machine: {machine(device, start, load)}

## Goals

{goal_table(goals)}

## Training

Forward pass, L1 loss, backward pass and a step of Adam with {effort.size} x {effort.size} crops,
{effort.steps} steps after two that are not counted. The batch is about the largest that fits.
It was found without compiling.

{table(header, rows)}

- GB at most: `torch.cuda.max_memory_allocated`.
- Convolutions and matrix products: their share of the time of the GPU's kernels in one step,
  by `torch.profiler`.
""")


def main() -> None:
    """Measure and write the report."""
    parser = make_parser(__doc__)
    parser.add_argument('--device', choices=('cpu', 'cuda'), default='cpu')
    # The script starts itself with this option
    parser.add_argument('--job', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job:
        work(Job(*json.loads(args.job)))
        return
    effort = QUICK if args.quick else FULL
    is_cpu = args.device == 'cpu'
    text = measure_on_cpu(effort) if is_cpu else measure_on_gpu(effort, args.device)
    publish(text, args, f'models{"" if is_cpu else f"-{args.device}"}')


if __name__ == '__main__':
    main()
