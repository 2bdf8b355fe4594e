"""An empty ``grpc.aio`` echo, the raw limit of the gRPC edge: ``python -m bench.echo_server ADDRESS HTTP``."""

import sys

import grpc.aio
import uvloop
from aiohttp import web

from crm.customer.v1.customer_pb2 import RegisterCustomerRequest


async def echo(
    request: RegisterCustomerRequest,
    context: "grpc.aio.ServicerContext[RegisterCustomerRequest, RegisterCustomerRequest]",
) -> RegisterCustomerRequest:
    """What came in."""
    return request


async def ready(request: web.Request) -> web.Response:
    """The server answers."""
    return web.Response()


async def main() -> None:
    """Serve until killed; the HTTP address says when it is ready."""
    grpc_address, http_address = sys.argv[1:3]
    server = grpc.aio.server()
    message = RegisterCustomerRequest
    method = grpc.unary_unary_rpc_method_handler(echo, message.FromString, message.SerializeToString)
    handler = grpc.method_handlers_generic_handler("bench.Echo", {"Echo": method})
    server.add_generic_rpc_handlers((handler,))
    server.add_insecure_port(grpc_address)
    await server.start()
    app = web.Application()
    app.router.add_get("/healthz", ready)
    runner = web.AppRunner(app)
    await runner.setup()
    host, port = http_address.split(":")
    await web.TCPSite(runner, host, int(port)).start()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(main())
