"""A1111: `/sdapi/v1/`, the API of AUTOMATIC1111's web UI, as the clients of it call it.

`fields` is the table from its names to those of a Request, `settings` that of its options, `answers` and `lists` are
what it answers, `extras` enlarges pictures, and `api` has the routes.
"""

from sdcli.serve.a1111.api import PREFIX, routes

__all__ = ["PREFIX", "routes"]
