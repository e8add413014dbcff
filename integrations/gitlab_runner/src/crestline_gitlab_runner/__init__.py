"""GitLab Runner custom executor on FirecREST v2."""

import typer

app = typer.Typer(help="GitLab Runner custom executor.", no_args_is_help=True)
