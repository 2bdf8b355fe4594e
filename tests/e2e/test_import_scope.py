"""An import of the head office tells a store nothing of the customers of another one, nor of what a file says."""

from dataclasses import replace
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.protobuf.json_format import MessageToJson
from google.protobuf.message_factory import GetMessageClass

from tests.e2e.client import METHODS, refusal
from tests.e2e.group import HEAD, NEIGHBOUR, STORE, STREAM_TRIES, Caller, Group

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]

IMPORT = METHODS["customer.ImportCustomers"]
HEAD_FOR_NEIGHBOUR = replace(HEAD, dealer="D002")


def chunk(import_id: str, *rows: dict[str, Any], first: int = 1) -> Any:
    """Rows of a file."""
    message: Any = GetMessageClass(IMPORT.input_type)(import_id=import_id, file_name="customers.csv")
    for number, row in enumerate(rows, start=first):
        message.rows.add(row=number, **row)
    return message


def person(mobile: str, **columns: str) -> dict[str, Any]:
    """A row about somebody."""
    return {"name": "王伟", "mobile": mobile, **columns}


async def sent(group: Group, caller: Caller, *chunks: Any) -> list[Any]:
    """The reports on the rows. Raises `grpc.aio.AioRpcError`."""
    call: Any = group.channel.stream_stream(
        f"/{IMPORT.containing_service.full_name}/{IMPORT.name}",
        GetMessageClass(IMPORT.input_type).SerializeToString,
        GetMessageClass(IMPORT.output_type).FromString,
    )
    metadata = group.metadata("customer.ImportCustomers", caller)
    for _ in range(STREAM_TRIES):
        try:
            answers = call(iter(chunks), timeout=60, metadata=metadata)
            return [row async for answer in answers for row in answer.rows]
        except grpc.aio.AioRpcError as error:
            # grpc's client says so where a stream is refused while it is still sending.
            if error.code() is not grpc.StatusCode.INTERNAL:
                raise
    raise AssertionError(f"broke off {STREAM_TRIES} times")


async def stored(group: Group, caller: Caller, import_id: str) -> Any:
    """An import as a caller reads it."""
    head = int(await group.head())
    return await group.client(caller).ask("customer.GetImport", after=head, import_id=import_id)


async def test_a_store_does_not_learn_that_another_one_has_a_customer(group: Group) -> None:
    (theirs,) = await sent(group, STORE, chunk(str(uuid4()), person("13800000101")))
    import_id = str(uuid4())
    (report,) = await sent(group, HEAD_FOR_NEIGHBOUR, chunk(import_id, person("13800000101")))
    assert report.outcome == 1
    found = await stored(group, NEIGHBOUR, import_id)
    assert (found.created, found.duplicates) == (1, 0)
    assert theirs.customer_id not in MessageToJson(found)


async def test_a_customer_who_is_shared_with_a_store_is_a_duplicate(group: Group) -> None:
    (theirs,) = await sent(group, STORE, chunk(str(uuid4()), person("13800000102")))
    owner = group.client(STORE)
    await owner("customer.ShareCustomer", customer_id=theirs.customer_id, store="D002")
    (report,) = await sent(group, HEAD_FOR_NEIGHBOUR, chunk(str(uuid4()), person("13800000102")))
    assert (report.outcome, report.customer_id) == (3, theirs.customer_id)


async def test_an_import_for_several_stores_names_to_each_its_own_customers(group: Group) -> None:
    rows = [person("13800000103", dealer_id=store) for store in ("D001", "D002") for _ in range(2)]
    import_id = str(uuid4())
    reports = await sent(group, HEAD, chunk(import_id, *rows))
    assert [report.outcome for report in reports] == [1, 3, 1, 3]
    named = [problem.customer_id for problem in (await stored(group, STORE, import_id)).problems]
    assert named == [reports[0].customer_id, ""]
    named = [problem.customer_id for problem in (await stored(group, HEAD, import_id)).problems]
    assert named == [reports[0].customer_id, reports[2].customer_id]


async def test_the_words_of_a_sender_are_not_stored(group: Group) -> None:
    import_id = str(uuid4())
    said = "line 1: '王伟,13800000104"
    await sent(group, STORE, chunk(import_id, {"unreadable": said}, {"unreadable": "broken encoding"}))
    reasons = [problem.reason for problem in (await stored(group, STORE, import_id)).problems]
    assert reasons == ["cannot be read", "broken encoding"]
    assert "13800000104" not in str(await group.events())


async def test_a_later_chunk_of_another_stores_import_writes_nothing(group: Group) -> None:
    import_id = str(uuid4())
    await sent(group, NEIGHBOUR, chunk(import_id, person("13800000105")))
    mine = chunk(str(uuid4()), person("13800000106"))
    foreign = chunk(import_id, person("13800000107"), first=2)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await sent(group, STORE, mine, foreign)
    answer = refusal(refused.value)
    assert (answer.code, set(answer.fields)) == (grpc.StatusCode.INVALID_ARGUMENT, {"import_id"})
    assert "13800000107" not in str(await group.events())
