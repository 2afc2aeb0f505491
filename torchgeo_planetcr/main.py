# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Command-line interface to TorchGeo-PlanetCR."""

import os
import pkgutil
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from inspect import getdoc, signature
from types import MappingProxyType
from typing import Any, NoReturn

from jsonargparse import ActionConfigFile, ArgumentParser, Namespace, get_loader
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_only
from torch import distributed
from torchgeo.datamodules import BaseDataModule
from torchgeo.datasets.utils import Path
from torchgeo.tasks import BaseTask

from . import __version__
from .checkpoint import (
    check_weights,
    lightning_content,
    no_larger_than,
    read_checkpoint,
    show,
)
from .datamodules import PlanetCRDataModule
from .datasets import download_sample
from .demo import demo
from .evaluation import evaluate
from .inference import PlanetCRTrainer, remove_clouds
from .inference.trainer import WholeConfigCallback
from .memory import keep_memory
from .preparation import make_patches
from .processes import end_with_parent
from .raster.text import read_text
from .simulation import simulate, simulate_scene
from .summary import index, info
from .tasks import CloudRemoval, load_task
from .tasks.cloud_removal import MissingKeyError
from .tasks.restore import FUNCTIONS, check_objects, read_arguments
from .terminal import Progress, best_checkpoint, clear_terminal


def remove_clouds_of(
    cloudy: Sequence[Path],
    *,
    checkpoint: Path,
    out: Path,
    s1: Sequence[Path] | None = None,
    composite: Sequence[Path] | None = None,
    model: str | None = None,
    **kwargs: Any,
) -> str | None:
    """Remove the clouds of whole PlanetScope scenes.

    Args:
        cloudy: Scenes
        checkpoint: Checkpoint of `planetcr fit`, or of the authors' code
        out: GeoTIFF to write, cloud-optimized, on the grid of the scene, or the folder
            for those of several scenes, in which finished ones are left out
        s1: Images of Sentinel-1
        composite: Cloud masks
        model: Class of your own, such as my_models.Mine, of the model of the checkpoint.
            It is imported
        **kwargs: Further arguments of
            :func:`~torchgeo_planetcr.inference.remove_clouds`

    Returns:
        What was written.
    """
    return remove_clouds(
        checkpoint if model is None else load_task(checkpoint, model),
        _unpack(cloudy),
        s1 and _unpack(s1),
        out,
        composite and _unpack(composite),
        **kwargs,
    )


def _unpack(paths: Sequence[Path]) -> Path | Sequence[Path]:
    """The only one of several paths, which may be a folder, or all."""
    return paths[0] if len(paths) == 1 else paths


#: Commands that do not run a trainer.
COMMANDS: dict[str, Callable[..., object]] = {
    'info': info,
    'index': index,
    'download-sample': download_sample,
    'evaluate': evaluate,
    'remove-clouds': remove_clouds_of,
    'make-patches': make_patches,
    'simulate': simulate,
    'simulate-scene': simulate_scene,
    'demo': demo,
}

#: Arguments of commands, but for options, that take one or more values.
LISTS = {
    'methods': "'copy' (the cloudy image), paths of checkpoints, and folders of "
    'predictions called PATCH.tif or PATCH.npy; each also as NAME=PATH',
    'cloudy': 'PlanetScope scenes, surface reflectance x 10000, folders or glob '
    'expressions, or a CSV file with the columns cloudy, s1 and, for composites, mask',
}

#: Options of commands that take one or more values.
LIST_OPTIONS = {
    's1': 'Sentinel-1 backscatter, VV and VH in one file or in two whose names differ in vv '
    'and vh alone, in any CRS and resolution: files, folders or glob expressions, of which '
    'each scene takes what meets it and is nearest in time',
    'composite': "cloud masks, Planet's usable data masks (UDM2) or any rasters of 1 "
    '(cloud) and 0 (clear), where scenes are kept if they are clear: files, folders or glob '
    'expressions, of which each scene takes the one with its name',
}

#: Objects that a command does not need, so that nobody has to give them again.
UNNEEDED = {
    'fit': set(),
    'validate': {*FUNCTIONS},
    'test': {*FUNCTIONS},
    'predict': {*FUNCTIONS, 'loss'},
}

#: Arguments that the state of the optimizer and the scheduler in a checkpoint replaces.
OF_OPTIMIZER = ('lr', 'patience', 'lr_factors')

#: Arguments that the weights in a checkpoint depend on.
OF_NETWORK = ('model', 'backbone', 'model_kwargs')

#: Name of an argument of the model in an option.
MODEL_OPTION = re.compile(r'--model\.(?:init_args\.)?(\w+)')

#: How an object is given on the command line.
OBJECT_OPTION = (
    '--model.{0}="{{class_path: {1}}}", or --config with that of its training'
)

#: How the names of those functions of Lightning begin that restore a checkpoint.
RESTORING = ('restore_', '_restore_', 'resume_start')

#: Options that need no value.
FLAGS = ('--overwrite', '--fill_gaps', '--fill-gaps')

#: Options of commands that take several numbers.
NUMBERS = ('--bands', '--cloud_cover')

#: A number as a value of an option.
NUMBER = re.compile(r'-?\d+(\.\d*)?')

#: Name of an option but for its dashes.
OPTION = re.compile(r'(?<=^--)[\w-]+')


class NamesConfig(ArgumentParser):
    """Parser whose errors name the configuration files that were given."""

    #: Texts of the files, by their names.
    configs: Mapping[str, str] = MappingProxyType({})

    def parse_path(self, path: Path, *args: Any, **kwargs: Any) -> Namespace:
        """Parse a configuration file.

        Args:
            path: The file.
            *args: As jsonargparse has them.
            **kwargs: As jsonargparse has them.

        Returns:
            What it holds.

        Raises:
            OSError: If it is no text.
        """
        self.configs = {**self.configs, os.fspath(path): ''}
        self.configs[os.fspath(path)] = read_text(path)
        try:
            return super().parse_path(path, *args, **kwargs)
        except (RecursionError, ValueError) as error:
            self.error(str(error), error)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print an error, and end.

        Args:
            message: What is wrong.
            ex: The error behind it.
        """
        if configs := self.all_configs():
            message = f'{message} (read from {", ".join(configs)})'
        super().error(message, ex)

    def all_configs(self) -> dict[str, str]:
        """Find the texts of all files, also of those of a command.

        Returns:
            Texts by the names of the files.
        """
        configs = dict(self.configs)
        for action in self._actions:
            # That of a command is read by a parser of its own
            if isinstance(action.choices, Mapping):
                for parser in action.choices.values():
                    configs |= parser.configs
        return configs


class TrainerParser(NamesConfig, LightningArgumentParser):
    """Parser of the commands that run a trainer."""


class PlanetCRCLI(LightningCLI):
    """TorchGeo's command line with CloudRemoval and PlanetCRDataModule as defaults."""

    #: What the checkpoint holds that is given by its path, until the task is made.
    checkpoint: Mapping[str, Any] = MappingProxyType({})

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Set the defaults.

        Args:
            parser: Parser of one of the commands.
        """
        defaults = {'model': CloudRemoval, 'data': PlanetCRDataModule}
        parser.set_defaults(
            {
                key: {'class_path': f'torchgeo_planetcr.{value.__name__}'}
                for key, value in defaults.items()
            }
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the arguments, and note which of the model are given.

        Args:
            parser: The parser.
            args: Arguments (defaults to those of the process).
        """
        super().parse_arguments(parser, args)
        #: How each argument of the model is given that is, in words.
        self.given: dict[str, str] = {}
        command = self.config.get('subcommand')
        for path, text in self.parser.all_configs().items():
            content = get_loader('yaml')(text)
            for name in _model_arguments(content) | _model_arguments(content, command):
                self.given[name] = f'{name} in {path}'
        options = map(MODEL_OPTION.match, sys.argv[1:] if args is None else args)
        for option in filter(None, options):
            self.given[option[1]] = f'--model.{option[1]}'

    def _parse_ckpt_path(self) -> None:
        """Take over what a checkpoint says of the task.

        Lightning would import and call any class that is named there.
        """
        config = self.config[self.config.subcommand]
        self._take_classes(config.model.get('init_args', Namespace()))
        path = config.get('ckpt_path')
        if not path or _is_left_to_lightning(path):
            return
        try:
            self.checkpoint = lightning_content(path, read_checkpoint(path))
            self._take_arguments(config, path)
        except ValueError as error:
            self.parser.error(str(error))

    def _take_classes(self, init_args: Namespace) -> None:
        """Take a text of the user with a dot for the class of a module."""
        for name in ('model', 'loss'):
            given = init_args.get(name)
            if isinstance(given, str) and '.' in given:
                init_args[name] = Namespace(class_path=given, init_args=Namespace())

    def _take_arguments(self, config: Namespace, path: str) -> None:
        """Take over the arguments of the task from the checkpoint."""
        kind = pkgutil.resolve_name(config.model.class_path)
        if not issubclass(kind, CloudRemoval):
            return
        init_args = config.model.init_args
        given = {
            name
            for name, value in vars(init_args).items()
            if isinstance(value, Namespace) or (name in FUNCTIONS and value is not None)
        }
        arguments = read_arguments(path, self.checkpoint, kind)
        known = arguments.without(given).values
        changed = self._changed_arguments(init_args, known, path)
        left_out = given | changed | UNNEEDED[self.config.subcommand]
        values, objects = arguments.without(left_out)
        check_objects(path, objects, OBJECT_OPTION)
        init_args.update(Namespace(values))
        if 'weights' in init_args:
            # The file of initial weights may be gone, and is not needed
            init_args.weights = None

    def _changed_arguments(
        self, init_args: Namespace, values: Mapping[str, Any], path: str
    ) -> set[str]:
        """Find what is given and says something else of the task than a checkpoint."""
        changed = {
            name
            for name in self.given
            if name in init_args and _plain(values.get(name)) != _plain(init_args[name])
        }
        for name in changed.intersection(OF_NETWORK, values):
            raise ValueError(
                f"'{path}' was trained with {name}={show(values[name])}, and "
                f'{self.given[name]} says {show(init_args[name])}: leave it out'
            )
        is_fit = self.config.subcommand == 'fit'
        replaced = {'weights', *(OF_OPTIMIZER if is_fit else ())}
        if ignored := changed & replaced:
            names = ', '.join(self.given[name] for name in sorted(ignored))
            rank_zero_only(print)(
                f"{names} is ignored: what is in '{path}' takes its place",
                file=sys.stderr,
            )
        return changed.difference(OF_OPTIMIZER)

    def instantiate_classes(self) -> None:
        """Instantiate the classes, of which the task may be described by a checkpoint."""
        if not self.checkpoint:
            try:
                super().instantiate_classes()
            except ValueError as error:
                reason = _reason(error)
                # Any other may be from the user's own code, and its place is needed
                if not isinstance(reason, ValueError):
                    raise
                sys.exit(f'planetcr {self.subcommand}: {reason}')
            return
        path = self.config[self.config.subcommand].ckpt_path
        try:
            with no_larger_than(self.checkpoint['state_dict']):
                super().instantiate_classes()
        # Libraries raise almost anything for arguments that do not fit
        except Exception as error:
            reason = _reason(error)
            raise OSError(f"{reason} (with the arguments in '{path}')") from error

    def after_instantiate_classes(self) -> None:
        """Check that the weights in the checkpoint are those of the task."""
        self.trainer.callbacks.insert(0, Progress())
        if not self.checkpoint:
            self._refuse_random_weights()
            return
        path = self.config[self.config.subcommand].ckpt_path
        try:
            if self.model.strict_loading:
                check_weights(self.model, self.checkpoint['state_dict'], path)
        except ValueError as error:
            self.parser.error(str(error))
        self.checkpoint = MappingProxyType({})

    def _refuse_random_weights(self) -> None:
        """Refuse to use a network that is chosen by name, and was never trained."""
        config = self.config[self.config.subcommand]
        if self.subcommand == 'fit' or config.get('ckpt_path'):
            return
        init_args = config.model.get('init_args', Namespace())
        # A class of the user's own may load its weights itself, and weights of an
        # architecture may be those of its backbone alone
        name = init_args.get('model')
        model = getattr(self.model, 'model', None)
        is_loaded = getattr(model, 'has_all_weights', False) or (
            init_args.get('weights') and name in CloudRemoval.models
        )
        has_weights = next(self.model.parameters(), None) is not None
        if isinstance(name, str) and has_weights and not is_loaded:
            sys.exit(
                f'planetcr {self.subcommand}: The weights of {name!r} would be random: '
                'give the checkpoint of a training by --ckpt_path'
            )

    def report(self) -> str | None:
        """Say what was written, once and at the end.

        Returns:
            A line, None if there is nothing to say.
        """
        if not self.trainer.is_global_zero:
            return None
        if self.subcommand == 'fit':
            return best_checkpoint(self.trainer)
        return self.trainer.written if self.subcommand == 'predict' else None

    def _run_subcommand(self, subcommand: str) -> None:
        """Run a command, and name the checkpoint with which it cannot."""
        try:
            super()._run_subcommand(subcommand)
        # What Lightning says of a damaged state of training can be of any kind
        except Exception as error:
            path = self.config[subcommand].get('ckpt_path')
            frames = traceback.extract_tb(error.__traceback__)
            if any(frame.name.startswith(RESTORING) for frame in frames):
                raise OSError(f"'{path}' cannot be restored: {error}") from error
            if path and isinstance(error, FloatingPointError):
                raise FloatingPointError(f"'{path}': {error}") from error
            raise


def _model_arguments(content: Any, *keys: str | None) -> set[str]:
    """Names of the arguments of the model in the content of a configuration file."""
    for key in (*keys, 'model'):
        content = content.get(key) if isinstance(content, Mapping) else None
    if isinstance(content, Mapping):
        content = content.get('init_args', content)
    return {*content} if isinstance(content, Mapping) else set()


def _plain(value: Any) -> Any:
    """A value in which lists, as configurations have them, stand for tuples."""
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    return (
        [_plain(part) for part in value] if isinstance(value, list | tuple) else value
    )


def _reason(error: BaseException) -> BaseException:
    """The error behind one of jsonargparse, which lists all types that were tried."""
    while error.__cause__ and str(error).startswith('Does not validate against any'):
        error = error.__cause__
    return error


def _is_left_to_lightning(path: str) -> bool:
    """Whether Lightning looks for a checkpoint of its own."""
    return not os.path.lexists(path) and path.startswith(('best', 'hpc', 'last'))


def run_trainer(args: Sequence[str] | None = None) -> PlanetCRCLI:
    """Run fit, validate, test or predict.

    Args:
        args: Arguments (defaults to those of the process).

    Returns:
        The object that holds the trainer, the model and the data module.
    """
    return PlanetCRCLI(
        model_class=BaseTask,
        datamodule_class=BaseDataModule,
        trainer_class=PlanetCRTrainer,
        parser_class=TrainerParser,
        seed_everything_default=0,
        parser_kwargs={
            'prog': 'planetcr',
            'version': __version__,
            'epilog': 'Further commands: ' + ', '.join(COMMANDS),
        },
        subclass_mode_model=True,
        subclass_mode_data=True,
        save_config_callback=WholeConfigCallback,
        # Its table counts no operations, as nothing is known of the images before
        trainer_defaults={'enable_model_summary': False},
        args=None if args is None else list(args),
    )


def run_command(name: str, args: Sequence[str]) -> object:
    """Run a command that does not run a trainer.

    Args:
        name: One of :data:`COMMANDS`.
        args: Its arguments.

    Returns:
        What it reports.
    """
    function = COMMANDS[name]
    description, _, _ = (getdoc(function) or '').partition('\n\nArgs:')
    parser = NamesConfig(prog=f'planetcr {name}', description=description)
    parser.add_argument('--config', action=ActionConfigFile, help='file of arguments')
    lists = {
        key: parameter
        for key, parameter in signature(function).parameters.items()
        if key in (LIST_OPTIONS if parameter.kind == parameter.KEYWORD_ONLY else LISTS)
    }
    parser.add_function_arguments(function, as_positional=True, skip={*lists})
    # jsonargparse would want the elements of a list in brackets, and a value for a flag
    for key, parameter in lists.items():
        if key in LISTS:
            parser.add_argument(key, nargs='+', help=LISTS[key])
        else:
            parser.add_argument(
                f'--{key}',
                nargs='+',
                required=parameter.default is parameter.empty,
                help=LIST_OPTIONS[key],
            )
    # People type --landcover-model, and Lightning has --landcover_model
    args = [OPTION.sub(lambda name: name[0].replace('-', '_'), arg) for arg in args]
    args = _join_numbers(args)
    arguments = parser.parse_args(args).as_dict()
    arguments.pop('config')
    return function(**arguments)


def _join_numbers(args: Sequence[str]) -> list[str]:
    """Put numbers after an option into the brackets that jsonargparse wants."""
    joined: list[str] = []
    for arg in args:
        name, _, values = joined[-1].partition('=') if joined else ('', '', '')
        if name not in NUMBERS or not NUMBER.fullmatch(arg):
            joined.append(arg)
        elif values:
            joined[-1] = f'{name}={values[:-1]}, {arg}]'
        else:
            joined[-1] = f'{name}=[{arg}]'
    return joined


def main(args: Sequence[str] | None = None) -> None:
    """Command-line interface to TorchGeo-PlanetCR.

    Args:
        args: Arguments (defaults to those of the process).
    """
    given = [*(sys.argv[1:] if args is None else args)] or ['--help']
    given = [
        f'{arg}=true' if arg in FLAGS and after not in ('true', 'false') else arg
        for arg, after in zip(given, [*given[1:], ''])
    ]
    if args is None:
        # The process belongs to the command
        keep_memory()
        end_with_parent()
        clear_terminal(given[0])
        # Where the user's own modules are, as for Python, but behind all others
        sys.path.append(os.getcwd())
        # Lightning looks there, also when it starts other processes
        sys.argv[1:] = given
    name, *rest = given
    try:
        if name not in COMMANDS:
            result = run_trainer(None if args is None else given).report()
        else:
            result = run_command(name, rest)
        if _is_distributed():
            # The first process to end would cut off the data that it has sent to others
            distributed.barrier()
    except KeyboardInterrupt:
        sys.exit(f'planetcr {name}: interrupted')
    # A data set that is not found raises one, too; weights of NaN raise the second
    except (OSError, FloatingPointError, MissingKeyError) as error:
        sys.exit(f'planetcr {name}: {_message(error)}')
    except (RuntimeError, ValueError, MisconfigurationException) as error:
        # In training, it may come from the user's own code
        if name not in (*COMMANDS, 'predict'):
            raise
        sys.exit(f'planetcr {name}: {_message(error)}')
    finally:
        # Lightning leaves its threads running, which can abort a process that ends
        if _is_distributed():
            distributed.destroy_process_group()
    if result is not None:
        print(result)


def _is_distributed() -> bool:
    """Whether other processes take part."""
    return distributed.is_available() and distributed.is_initialized()


def _message(error: Exception) -> str:
    """Message of an error, without the traceback if it comes from a DataLoader's process."""
    text = str(error)
    if text.startswith('Caught '):
        _, _, text = text.strip().splitlines()[-1].partition(': ')
    return text
