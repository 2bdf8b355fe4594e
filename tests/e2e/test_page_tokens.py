"""Page tokens, as clients get them."""

import pytest

from customer.read_models import customers
from forecourt.discovery import find_services
from forecourt.projections.queries import PageRequest
from forecourt.runtime import Runtime
from tests.e2e import stories
from tests.e2e.group import STORE, Group

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]


async def test_a_token_is_read_by_another_process_of_the_service(group: Group) -> None:
    """Behind a load balancer the next page is asked of any of them."""
    do = group.client(STORE)
    registered = {await stories.register(do), await stories.register(do)}
    metadata = {"dealer-id": STORE.dealer, "after-position": str(do.position)}
    first = await do("customer.SearchCustomers", metadata=metadata, page_size=1)
    other = await Runtime.open(find_services(), group.runtime.settings)
    try:
        (part,) = (part for part in other.services if part.service.name == "customer")
        request = PageRequest(1, first.next_page_token)
        second = await part.read_models.page(customers, order=["name", "customer_id"], page=request)
    finally:
        await other.close()
    assert {first.customers[0].customer_id, str(second.items[0].customer_id)} == registered
