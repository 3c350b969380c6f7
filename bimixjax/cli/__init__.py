"""The `bimix` command.

- `commands`: the list of subcommands, and how one command line is run. `console`: what all of them share.
- `training`, `fitting`, `importing` ...: the subcommands, each a dataclass of options whose `work` is a thin shell.
- `options`, `law_lines`: values of options, and a line on each law. `compiled`: where compiled programs are kept.
- `progress`, `signals`: a terminal that says how far work is, and how a command ends at a signal.

    >>> from bimixjax.cli import COMMANDS
    >>> list(COMMANDS)[:3]
    ['demo', 'corpus', 'entropy']
"""

from bimixjax.cli.commands import COMMANDS as COMMANDS, main as main, run as run
