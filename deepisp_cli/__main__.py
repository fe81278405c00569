"""``python -m deepisp_cli`` does what ``deepisp`` does, where scripts are not on the path."""

from deepisp_cli.cli import main

if __name__ == "__main__":
    main(prog_name="deepisp")
