"""The `lowclip` command. Each subcommand parses, calls the library and prints; the library does the work."""

import click

from lowclip_runtime.cli.bundle_commands import embed, info, verify
from lowclip_runtime.cli.demo_command import demo
from lowclip_runtime.cli.eval_command import evaluate
from lowclip_runtime.cli.index_commands import duplicates, index, search
from lowclip_runtime.cli.options import configure_process


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="lowclip")
def main() -> None:
    """Search photos in Azerbaijani and other languages with a small CLIP model."""
    configure_process()


for command in (embed, index, search, duplicates, evaluate, info, verify, demo):
    main.add_command(command)
