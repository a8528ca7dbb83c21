"""A click command that leaves its words alone: they follow pflag's grammar, not click's."""

import click


class RawCommand(click.Command):
    """All words after the command's name are in ``context.args``, ``--help`` and ``--`` among them."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.args = list(args)
        return ctx.args
