"""`python -m lowclip_runtime` is the `lowclip` command."""

from lowclip_runtime.cli import main

if __name__ == "__main__":
    main(prog_name="lowclip")
