"""Settings of sales, from the environment."""

from datetime import timedelta

from pydantic import Field

from forecourt.config import ServiceSettings


class SalesSettings(ServiceSettings):
    """How long sales keeps what belongs to nobody it knows."""

    sales_lead_retention_days: int = Field(default=730, ge=1, le=36_500)
    """Days without news after which the key of a lead is destroyed that nobody has linked to a customer."""

    @property
    def lead_retention(self) -> timedelta:
        """How long such a lead is kept."""
        return timedelta(days=self.sales_lead_retention_days)
