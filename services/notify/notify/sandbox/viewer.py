"""Shows what arrived, to people (``/``) and programs (``/messages``), and sets faults (``/faults``)."""

import msgspec
from aiohttp import web
from markupsafe import escape

from notify.sandbox.evidence import Arrived, Evidence
from notify.sandbox.faults import Fault, Faults

FILTERS = ("channel", "provider", "to", "key", "contains")
SHOWN = 200

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Forecourt sandbox</title><style>
body {{ font: 14px/1.5 system-ui, sans-serif; margin: 2rem; }}
table {{ border-collapse: collapse; width: 100%; }}
th, td {{ border-bottom: 1px solid #ddd; padding: .4rem .6rem; text-align: left; vertical-align: top; }}
td.text {{ white-space: pre-wrap; }}
</style></head><body>
<h1>{count} messages arrived</h1>
<p>The latest {shown}. As JSON: <a href="/messages">/messages</a> (filters: {filters}).</p>
<table><tr><th>#</th><th>when</th><th>by</th><th>to</th><th>message</th><th>receipt</th></tr>
{rows}
</table></body></html>
"""


class Viewer:
    """The routes."""

    def __init__(self, evidence: Evidence, faults: Faults) -> None:
        self._evidence = evidence
        self._faults = faults

    def app(self) -> web.Application:
        """The application."""
        app = web.Application()
        app.router.add_get("/", self._page)
        app.router.add_get("/messages", self._messages)
        app.router.add_get("/faults", self._get_faults)
        app.router.add_post("/faults", self._set_fault)
        app.router.add_delete("/faults", self._clear_faults)
        return app

    async def _page(self, request: web.Request) -> web.Response:
        latest = self._evidence.find()[-SHOWN:][::-1]
        page = PAGE.format(
            count=len(self._evidence),
            shown=len(latest),
            filters=", ".join(FILTERS),
            rows="\n".join(map(_row, latest)),
        )
        return web.Response(text=page, content_type="text/html")

    async def _messages(self, request: web.Request) -> web.Response:
        unknown = set(request.query) - set(FILTERS)
        if unknown:
            return web.json_response({"error": f"unknown filter: {', '.join(sorted(unknown))}"}, status=400)
        found = self._evidence.find(**{name: request.query.get(name, "") for name in FILTERS})
        body = msgspec.json.encode({"count": len(found), "messages": found})
        return web.Response(body=body, content_type="application/json")

    async def _get_faults(self, request: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(self._faults.present), content_type="application/json")

    async def _set_fault(self, request: web.Request) -> web.Response:
        try:
            self._faults.set(msgspec.json.decode(await request.read(), type=Fault))
        except msgspec.MsgspecError as error:
            return web.json_response({"error": str(error)}, status=400)
        return await self._get_faults(request)

    async def _clear_faults(self, request: web.Request) -> web.Response:
        self._faults.clear()
        return await self._get_faults(request)


def _row(message: Arrived) -> str:
    text = f"{message.subject}\n\n{message.text}" if message.subject else message.text
    cells = (message.number, message.received_at[:19], message.provider, message.to)
    plain = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
    return f'<tr>{plain}<td class="text">{escape(text)}</td><td>{escape(message.receipt)}</td></tr>'
