# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Command-line interface to TorchGeo-PlanetCR."""

import sys
from collections.abc import Sequence
from importlib.metadata import version

from jsonargparse import auto_cli
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from torchgeo.datamodules import BaseDataModule
from torchgeo.datasets import DatasetNotFoundError
from torchgeo.tasks import BaseTask

from .datamodules import PlanetCRDataModule
from .datasets import download_sample
from .models import read_checkpoint
from .summary import index, info
from .tasks import CloudRemoval

#: Commands that do not run a trainer.
COMMANDS = {'info': info, 'index': index, 'download-sample': download_sample}


class PlanetCRCLI(LightningCLI):
    """TorchGeo's command line with CloudRemoval and PlanetCRDataModule as defaults."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Set the defaults.

        Args:
            parser: parser of one of the commands.
        """
        defaults = {'model': CloudRemoval, 'data': PlanetCRDataModule}
        parser.set_defaults(
            {
                key: {'class_path': f'torchgeo_planetcr.{value.__name__}'}
                for key, value in defaults.items()
            }
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the arguments, and see that the checkpoint can be read.

        Args:
            parser: the parser.
            args: arguments (defaults to those of the process).
        """
        super().parse_arguments(parser, args)
        path = self.config[self.config.subcommand].get('ckpt_path')
        # Lightning also takes the address of a file, and these words for one.
        words = ('best', 'hpc', 'last', 'registry')
        if path and '://' not in path and not path.startswith(words):
            try:
                read_checkpoint(path)
            except ValueError as error:
                parser.error(str(error))


def run_trainer(args: Sequence[str] | None = None) -> PlanetCRCLI:
    """Run fit, validate, test or predict.

    Args:
        args: arguments (defaults to those of the process).

    Returns:
        The object that holds the trainer, the model and the data module.
    """
    return PlanetCRCLI(
        model_class=BaseTask,
        datamodule_class=BaseDataModule,
        seed_everything_default=0,
        parser_kwargs={
            'prog': 'planetcr',
            'version': version('torchgeo-planetcr'),
            'epilog': 'Further commands: ' + ', '.join(COMMANDS),
        },
        subclass_mode_model=True,
        subclass_mode_data=True,
        save_config_kwargs={'overwrite': True},
        args=None if args is None else list(args),
    )


def main(args: Sequence[str] | None = None) -> None:
    """Command-line interface to TorchGeo-PlanetCR.

    Args:
        args: arguments (defaults to those of the process).
    """
    given = list(sys.argv[1:] if args is None else args)
    if not given:
        given = args = ['--help']
    name, *rest = given
    if name not in COMMANDS:
        try:
            run_trainer(args)
        except DatasetNotFoundError as error:
            sys.exit(f'planetcr {name}: {error}')
        return
    try:
        result = auto_cli(COMMANDS[name], args=rest, prog=f'planetcr {name}')
    except (OSError, RuntimeError, ValueError) as error:
        sys.exit(f'planetcr {name}: {error}')
    if result is not None:
        print(result)
