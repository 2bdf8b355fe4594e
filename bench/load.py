"""The load of ``bench.commands``, as a process of its own: ``python -m bench.load echo|register|import ADDRESS N``.

Prints calls (or customers) per second. ``register`` and ``import`` read a token from ``BENCH_TOKEN``.
"""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import uuid4

import grpc.aio
import uvloop

from crm.customer.v1 import customer_pb2
from crm.customer.v1.customer_pb2_grpc import CustomerServiceStub

IN_FLIGHT = 64
OPTIONS = [("grpc.lb_policy_name", "round_robin")]
CHUNK = 400


def customer(number: int) -> customer_pb2.RegisterCustomerRequest:
    """A customer with a mobile number of its own."""
    mobile = customer_pb2.ContactPoint(
        kind=customer_pb2.CONTACT_KIND_MOBILE, value=f"138{number % 100_000_000:08}"
    )
    return customer_pb2.RegisterCustomerRequest(
        kind=customer_pb2.CUSTOMER_KIND_PROSPECT,
        name=f"王 {number}",
        source="bench",
        contact_points=[mobile],
        consents=[
            customer_pb2.Consent(purpose=customer_pb2.PURPOSE_SERVICE, channel=customer_pb2.CHANNEL_SMS)
        ],
    )


async def in_flight(call: Callable[[int], Awaitable[object]], total: int, first: int) -> float:
    """Calls per second of ``total`` calls, `IN_FLIGHT` at a time."""
    numbers = iter(range(first, first + total))

    async def caller() -> None:
        for number in numbers:
            await call(number)

    start = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(IN_FLIGHT)))
    return total / (time.perf_counter() - start)


async def echo(channel: grpc.aio.Channel, total: int, first: int) -> float:
    """The same messages to an echo that answers what came in."""
    message = customer_pb2.RegisterCustomerRequest
    method = channel.unary_unary(
        "/bench.Echo/Echo",
        request_serializer=message.SerializeToString,
        response_deserializer=message.FromString,
    )
    metadata = (("authorization", f"Bearer {os.environ['BENCH_TOKEN']}"),)
    return await in_flight(lambda number: method(customer(number), metadata=metadata), total, first)


async def register(channel: grpc.aio.Channel, total: int, first: int) -> float:
    """Registrations, one call each."""
    stub = CustomerServiceStub(channel)
    metadata = (("authorization", f"Bearer {os.environ['BENCH_TOKEN']}"),)
    return await in_flight(
        lambda number: stub.RegisterCustomer(customer(number), metadata=metadata), total, first
    )


async def import_rows(channel: grpc.aio.Channel, total: int, first: int) -> float:
    """The same customers through the streaming import."""
    stub = CustomerServiceStub(channel)
    metadata = (("authorization", f"Bearer {os.environ['BENCH_TOKEN']}"),)
    import_id = str(uuid4())

    async def chunks() -> AsyncIterator[customer_pb2.ImportCustomersRequest]:
        for start in range(0, total, CHUNK):
            rows = [
                customer_pb2.ImportRow(
                    row=number + 1,
                    name=f"王 {first + number}",
                    mobile=f"138{first + number:08}",
                    consents="service",
                )
                for number in range(start, min(total, start + CHUNK))
            ]
            yield customer_pb2.ImportCustomersRequest(import_id=import_id, rows=rows)

    created = 0
    begin = time.perf_counter()
    async for answer in stub.ImportCustomers(chunks(), metadata=metadata):
        created += sum(row.outcome == customer_pb2.ROW_OUTCOME_CREATED for row in answer.rows)
    rate = total / (time.perf_counter() - begin)
    if created != total:
        raise RuntimeError(f"{created} of {total} customers were imported")
    return rate


KINDS = {"echo": echo, "register": register, "import": import_rows}


async def main() -> None:
    """Run one kind of load and print its rate."""
    kind, address, total, first = sys.argv[1:5]
    async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
        await channel.channel_ready()
        await KINDS[kind](channel, IN_FLIGHT * 4, int(first))
        print(await KINDS[kind](channel, int(total), int(first) + 10_000))


if __name__ == "__main__":
    uvloop.run(main())
