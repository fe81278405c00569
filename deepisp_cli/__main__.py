"""``python -m deepisp_cli`` runs ``deepisp`` where scripts are not on the path."""

from deepisp_cli.cli import main

if __name__ == "__main__":
    main(prog_name="deepisp")
