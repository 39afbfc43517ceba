"""`boxwood guard NAME`: a command of its own on Boxwood's command line."""

import click


@click.command()
@click.argument("name")
@click.pass_obj
def guard(context, name):
    """Ask the engine's guard to greet NAME."""
    click.echo(context.client.get(f"/ext/guard/hello/{name}")["hello"])
