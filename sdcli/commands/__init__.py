"""The commands of `sd`, one file each; files that begin with an underscore are shared by several."""

IN_FORCE = "sdcli.settings"
"""The key in click's ctx.meta of the user's settings that fill in what was not typed; a list of Setting."""

SERVER = "sdcli.server"
"""The key in click's ctx.meta of the Server that draws for the command; see `_remote.py`."""
