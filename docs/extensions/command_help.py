# Copyright (c) TorchGeo-PlanetCR Contributors. All rights reserved.
# Licensed under the MIT License.

"""Directive that shows what ``planetcr COMMAND --help`` prints, for each command."""

import contextlib
import io
import os
import sys
from unittest import mock

from docutils import nodes
from lightning.pytorch.cli import LightningCLI
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from torchgeo_planetcr.main import COMMANDS, main

#: Number of columns of the text.
WIDTH = 74


def read_help(command: str) -> str:
    """Read the help of a command.

    Args:
        command: Name of the command.

    Returns:
        The text that it prints.
    """
    output = io.StringIO()
    with (
        mock.patch.dict(os.environ, {'COLUMNS': str(WIDTH)}),
        mock.patch.object(sys, 'argv', ['planetcr', command, '--help']),
        contextlib.redirect_stdout(output),
        contextlib.suppress(SystemExit),
    ):
        main()
    return output.getvalue()


class CommandHelp(SphinxDirective):
    """A section for each command."""

    def run(self) -> list[nodes.Node]:
        """Make the sections.

        Returns:
            The sections.
        """
        sections: list[nodes.Node] = []
        for command in (*LightningCLI.subcommands(), *COMMANDS):
            title = f'planetcr {command}'
            text = read_help(command)
            sections.append(
                nodes.section(
                    '',
                    nodes.title(text=title),
                    nodes.literal_block(text, text, language='text', classes=['help']),
                    ids=[nodes.make_id(title)],
                )
            )
        return sections


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directive.

    Args:
        app: Sphinx.

    Returns:
        What Sphinx has to know about it.
    """
    app.add_directive('command-help', CommandHelp)
    return {'parallel_read_safe': True}
