"""The command line: `holdfast`. main.py is the way in, one file per noun, show.py what is printed.

typer and rich are loaded here and nowhere else in the library; what a command needs is loaded by the command.
"""
