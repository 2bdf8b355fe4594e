"""The Grafana dashboards, as code: one for operations, one for the business. `make reference` writes them as JSON."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DataSourceRef

HEIGHT = 8
SOURCE = DataSourceRef(type_val="prometheus", uid="prometheus")

EVENTS = "forecourt_relay_published_events_total"


@dataclass(frozen=True)
class Panel:
    """A panel: what it shows, its unit in Grafana's words, and its queries by legend."""

    title: str
    queries: dict[str, str]
    unit: str = "short"
    single: bool = False
    """One number for the whole range, not a curve."""
    width: int = 8


def counted(*events: str) -> str:
    """Events of these names within the range that is shown, by name."""
    return f'sum by (event) (increase({EVENTS}{{event=~"{"|".join(events)}"}}[$__range]))'


def per_hour(*events: str) -> str:
    """Events of these names an hour, by name."""
    return f'3600 * sum by (event) (rate({EVENTS}{{event=~"{"|".join(events)}"}}[$__rate_interval]))'


def rate(metric: str, *labels: str) -> str:
    """How fast a counter grows each second, by labels."""
    return f"sum by ({', '.join(labels)}) (rate({metric}[$__rate_interval]))"


def quantile(metric: str, share: float, *labels: str) -> str:
    """A quantile of a histogram, by labels."""
    by = ", ".join((*labels, "le"))
    return f"histogram_quantile({share}, sum by ({by}) (rate({metric}_bucket[$__rate_interval])))"


OPERATIONS: dict[str, Sequence[Panel]] = {
    "Processes": (
        Panel("Processes that answer", {"{{app}} {{role}}": 'sum by (app, role) (up{job="forecourt"})'}),
        Panel("Memory", {"{{app}} {{role}}": "sum by (app, role) (process_resident_memory_bytes)"}, "bytes"),
        Panel("CPU", {"{{app}} {{role}}": rate("process_cpu_seconds_total", "app", "role")}, "percentunit"),
    ),
    "Calls": (
        Panel("Commands a second", {"{{service}}": rate("forecourt_commands_total", "service")}, "ops"),
        Panel("Queries a second", {"{{service}}": rate("forecourt_queries_total", "service")}, "ops"),
        Panel("Commands by outcome", {"{{outcome}}": rate("forecourt_commands_total", "outcome")}, "ops"),
        Panel(
            "Time of commands",
            {
                "{{service}} 50 %": quantile("forecourt_command_duration_seconds", 0.5, "service"),
                "{{service}} 99 %": quantile("forecourt_command_duration_seconds", 0.99, "service"),
            },
            "s",
        ),
        Panel(
            "Time of queries",
            {"{{service}} 99 %": quantile("forecourt_query_duration_seconds", 0.99, "service")},
            "s",
        ),
        Panel(
            "Errors that the caller is not to blame for",
            {"{{service}}": "service:forecourt_call_errors:ratio_rate5m"},
            "percentunit",
        ),
    ),
    "Event store": (
        Panel("Events a second", {"{{service}}": "service:forecourt_events:rate5m"}, "ops"),
        Panel("Events in one transaction", {"99 %": quantile("forecourt_append_batch_events", 0.99)}),
        Panel(
            "Oldest event that waits",
            {"{{service}}": "service:forecourt_oldest_unprocessed_event_seconds:max"},
            "s",
        ),
    ),
    "Read models": (
        Panel("Lag", {"{{projection}}": "max by (projection) (forecourt_projection_lag_seconds)"}, "s"),
        Panel("Events behind", {"{{projection}}": "max by (projection) (forecourt_projection_lag_events)"}),
        Panel(
            "Events folded a second",
            {"{{service}}": rate("forecourt_projection_events_total", "service")},
            "ops",
        ),
    ),
    "Relay": (
        Panel("Lag", {"{{service}}": "service:forecourt_relay_lag_seconds:leader"}, "s"),
        Panel("Not confirmed", {"{{service}}": "sum by (service) (forecourt_relay_unconfirmed_events)"}),
        Panel(
            "Confirmed a second",
            {"{{service}}": rate("forecourt_relay_confirmed_events_total", "service")},
            "ops",
        ),
    ),
    "Workers": (
        Panel(
            "Events handled a second",
            {"{{outcome}}": rate("forecourt_handled_events_total", "outcome")},
            "ops",
        ),
        Panel(
            "Time of a handler",
            {"{{handler}} 99 %": quantile("forecourt_handler_duration_seconds", 0.99, "handler")},
            "s",
        ),
        Panel("Parked", {"{{queue}}": "max by (queue) (forecourt_parking_queue_messages)"}),
        Panel("Messages in hand", {"{{service}}": "sum by (service) (forecourt_handler_messages_in_hand)"}),
        Panel(
            "Runs of timers",
            {"{{timer}} {{outcome}}": rate("forecourt_timer_runs_total", "timer", "outcome")},
            "ops",
        ),
    ),
}

BUSINESS: dict[str, Sequence[Panel]] = {
    "Funnel": (
        Panel(
            "From lead to delivery",
            {
                "{{event}}": counted(
                    "LeadCaptured",
                    "LeadQualified",
                    "OpportunityOpened",
                    "TestDriveCompleted",
                    "QuoteIssued",
                    "OpportunityWon",
                    "OrderPlaced",
                    "VehicleDelivered",
                )
            },
            single=True,
            width=24,
        ),
        Panel(
            "Leads an hour",
            {"{{event}}": per_hour("LeadCaptured", "LeadQuarantined", "LeadQualified")},
            width=12,
        ),
        Panel(
            "Orders an hour",
            {"{{event}}": per_hour("OrderPlaced", "OrderCancelled", "OpportunityLost", "OpportunityWon")},
            width=12,
        ),
    ),
    "Deliveries": (
        Panel(
            "Delivered",
            {"delivered": f'sum(increase({EVENTS}{{event="VehicleDelivered"}}[$__range]))'},
            single=True,
            width=6,
        ),
        Panel(
            "The way to the customer, an hour",
            {
                "{{event}}": per_hour(
                    "VehicleAllocated", "PaymentReceived", "OutboundApproved", "VehicleDelivered"
                )
            },
            width=9,
        ),
        Panel(
            "Stock, an hour",
            {"{{event}}": per_hour("ReceivedIntoStock", "PdiPassed", "PdiFailed", "VehicleReleased")},
            width=9,
        ),
    ),
    "Workshop": (
        Panel(
            "Repair orders",
            {"{{event}}": counted("RepairOrderOpened", "VehicleHandedBack")},
            single=True,
            width=6,
        ),
        Panel(
            "Repairs an hour",
            {
                "{{event}}": per_hour(
                    "RepairOrderOpened", "QuoteApproved", "WorkCompleted", "VehicleHandedBack"
                )
            },
            width=9,
        ),
        Panel(
            "Inspections an hour",
            {"{{event}}": per_hour("InspectionPassed", "InspectionFailed", "ReworkRecorded")},
            width=9,
        ),
    ),
    "Complaints and satisfaction": (
        Panel(
            "Complaints",
            {
                "{{event}}": counted(
                    "ComplaintReceived", "ComplaintClosed", "ComplaintReopened", "SlaBreached"
                )
            },
            single=True,
            width=8,
        ),
        Panel(
            "Complaints an hour",
            {"{{event}}": per_hour("ComplaintReceived", "ComplaintClosed", "ComplaintEscalated")},
        ),
        Panel(
            "CSI of return visits, 0 to 10",
            {
                "{{trigger}}": "sum by (trigger) (increase(forecourt_return_visit_csi_points_sum[$__range]))"
                " / (sum by (trigger) (increase(forecourt_return_visit_csi_points_count[$__range])) > 0)"
            },
            single=True,
        ),
    ),
    "Messages to customers": (
        Panel(
            "Asked for, an hour",
            {"{{rule}}": f"3600 * {rate('forecourt_notifications_requested_total', 'rule')}"},
        ),
        Panel(
            "Attempts by outcome, an hour",
            {"{{channel}} {{outcome}}": f"3600 * {rate('forecourt_deliveries_total', 'channel', 'outcome')}"},
        ),
        Panel(
            "Reports of providers, an hour",
            {"{{outcome}}": f"3600 * {rate('forecourt_delivery_receipts_total', 'outcome')}"},
        ),
        Panel(
            "Not sent, by reason, an hour",
            {"{{reason}}": f"3600 * {rate('forecourt_notifications_suppressed_total', 'reason')}"},
        ),
        Panel(
            "Given up", {"{{reason}}": "sum by (reason) (forecourt_notification_dead_letters) or vector(0)"}
        ),
        Panel(
            "Time of an attempt",
            {"{{channel}} 99 %": quantile("forecourt_delivery_duration_seconds", 0.99, "channel")},
            "s",
        ),
    ),
}

DASHBOARDS = {"operations": OPERATIONS, "business": BUSINESS}


def queries(name: str) -> dict[str, str]:
    """The queries of a dashboard, by row, panel and legend."""
    return {
        f"{row} / {panel.title} / {legend}": query
        for row, panels in DASHBOARDS[name].items()
        for panel in panels
        for legend, query in panel.queries.items()
    }


def render(name: str) -> str:
    """The JSON of a dashboard, as Grafana provisions it."""
    page = (
        dashboard.Dashboard(f"Forecourt {name}")
        .uid(f"forecourt-{name}")
        .tags(["forecourt"])
        .timezone("browser")
        .time("now-6h", "now")
        .refresh("30s")
        .readonly()
    )
    for row, panels in DASHBOARDS[name].items():
        page = page.with_row(dashboard.Row(row))
        for panel in panels:
            page = page.with_panel(_panel(panel))
    body = json.dumps(page.build(), cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False)
    return body + "\n"


def _panel(panel: Panel) -> Any:
    kind: Any = stat.Panel() if panel.single else timeseries.Panel()
    built = kind.title(panel.title).datasource(SOURCE).unit(panel.unit).span(panel.width).height(HEIGHT)
    for legend, query in panel.queries.items():
        target = prometheus.Dataquery().expr(query).legend_format(legend)
        built = built.with_target(target.instant() if panel.single else target.range())
    return built
