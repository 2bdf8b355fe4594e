"""A table that does not fit its proto service is refused at start."""

from collections.abc import Callable

import pytest

from forecourt.access.permissions import permission_of
from forecourt.rpc.binding import Api, BindingError
from tests.integration.edge_shop import (
    CloseBasket,
    GetBasket,
    OpenBasket,
    UploadedRow,
    basket,
    get_basket,
    make_api,
    open_twice,
    upload,
    watch,
)

FULL_NAME = "edge.shop.v1.ShopService"


def test_a_table_that_fits_is_accepted() -> None:
    assert {method.name for method, _ in make_api().check()} == set(make_api().rpcs)


def test_every_method_must_be_bound() -> None:
    api = make_api()
    del api.rpcs["Watch"]
    with pytest.raises(BindingError, match=r"not bound: Watch"):
        api.check()


def test_every_line_must_be_a_method() -> None:
    api = make_api()
    api.command("Nothing", basket, OpenBasket)
    with pytest.raises(BindingError, match="has no method Nothing"):
        api.check()


@pytest.mark.parametrize(
    "bind",
    [
        lambda api: api.query("Watch", GetBasket, get_basket),
        lambda api: api.server_stream("GetBasket", GetBasket, watch),
        lambda api: api.client_stream("Chat", UploadedRow, upload),
    ],
)
def test_a_stream_must_be_bound_as_one(bind: Callable[[Api], None]) -> None:
    api = make_api()
    for name in ("Watch", "GetBasket", "Chat"):
        scratch = Api(FULL_NAME)
        bind(scratch)
        if name in scratch.rpcs:
            api.rpcs |= scratch.rpcs
    with pytest.raises(BindingError, match="the proto says otherwise"):
        api.check()


def test_every_method_says_who_may_call_it() -> None:
    api = Api("edge.shop.v1.CarelessService")
    api.query("GetBasket", GetBasket, get_basket)
    api.query("ListBaskets", GetBasket, get_basket)
    with pytest.raises(BindingError, match=r"CarelessService\.GetBasket: .*crm\.access\.requires"):
        api.check()
    with pytest.raises(BindingError, match=r"CarelessService\.GetBasket: .*crm\.access\.requires"):
        api.permissions()


def test_a_permission_is_written_in_three_words() -> None:
    method = Api("edge.shop.v1.CarelessService").descriptor().methods_by_name["ListBaskets"]
    with pytest.raises(ValueError, match="All baskets!: is no permission"):
        permission_of(method)


def test_a_service_that_no_module_has_is_named() -> None:
    with pytest.raises(BindingError, match=r"nowhere\.v1\.X: is in no generated module"):
        Api("nowhere.v1.X").check()


def test_a_method_is_bound_once() -> None:
    with pytest.raises(BindingError, match="bound twice"):
        make_api().command("OpenBasket", basket, OpenBasket)


def test_a_command_must_be_decided_by_its_decider() -> None:
    class Strange(CloseBasket):
        pass

    with pytest.raises(BindingError, match="decides no"):
        Api(FULL_NAME).command("CloseBasket", basket, Strange)


def test_a_function_says_by_its_annotation_what_it_takes() -> None:
    api = Api(FULL_NAME)
    api.command("OpenTwice", handle=open_twice)
    assert api.rpcs["OpenTwice"].model is GetBasket

    async def silent(query, call):  # the annotation is what is missing
        return query, call

    with pytest.raises(BindingError, match="annotate"):
        api.command("CloseBasket", handle=silent)
