"""`python -m bench.peers.bare_aiohttp PORT`: one aiohttp handler that answers with a little JSON.

It checks no token, has no database and no telemetry. It is the unit in which the gateway's work is measured.
"""

from __future__ import annotations

import sys

import uvloop
from aiohttp import web

BODY = {"accessible": True, "reason": "COMPLETED", "source": "CACHE", "version": 7}


async def answer(_request: web.Request) -> web.Response:
    return web.json_response(BODY)


def main() -> None:
    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    uvloop.install()
    web.run_app(application, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)


if __name__ == "__main__":
    main()
