"""Base classes of what queries are asked with (`forecourt.rpc.binding.Api.query`)."""

from pydantic import BaseModel, ConfigDict, Field

from forecourt.projections.paging import MAX_SIZE, MAX_TOKEN, PageRequest


class Query(BaseModel):
    """A question: validated at the edge, frozen, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class PagedQuery(Query):
    """A question that is answered a page at a time: ``page_size`` rows, 50 where it is 0, after ``page_token``."""

    page_size: int = Field(default=0, ge=0, le=MAX_SIZE)
    page_token: str = Field(default="", max_length=MAX_TOKEN, pattern=r"^[A-Za-z0-9_-]*$")

    @property
    def page(self) -> PageRequest:
        """The page asked for."""
        return PageRequest(self.page_size, self.page_token)
