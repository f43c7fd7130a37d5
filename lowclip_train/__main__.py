"""`python -m lowclip_train` is the `lowclip-train` command, as launchers of several processes want it."""

from lowclip_train.cli import main

if __name__ == "__main__":
    main(prog_name="lowclip-train")
