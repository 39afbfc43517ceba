"""The command line: Docker's commands over the Engine API, and a few of our own.

A process that types `boxwood run` imports that one command and what it needs, nothing else:
measured, `import click` alone is 30 ms, more than the whole of such a process takes now. So each
command is a declaration (`boxwood.cli.command`) that feeds the parser, the help, the completion
and the documentation; click enters for the commands that plugins add and for shell completion.
"""
