"""The roles of the trade: each can do its job, and none more than that."""

import pytest

from tests.staff import ELSEWHERE, granted, required

JOBS = {
    "salesperson": """
        RegisterCustomer GetCustomer GrantConsent LogInteraction RequestErasure CaptureLead
        QualifyLead ConvertLead ScheduleTestDrive CompleteTestDrive IssueQuote WinOpportunity
        LoseOpportunity ReserveVehicle QueryStock PlaceOrder AllocateVehicle AddAncillaryOrder
        RecordDeposit NotifyOutbound CompleteHandoverSheet DeliverVehicle RecordIdentityDocument
        ListIdentityDocuments
    """,
    "sales_manager": """
        AssignCustomer ShareCustomer AssignOpportunity RegisterVehicle PurchaseVehicle ReceiveIntoStock
        TransferVehicle ApproveOutbound CancelOrder ReturnVehicle GetFunnel PlaceOrder
    """,
    "service_adviser": """
        BookAppointment CheckInAppointment OpenRepairOrder QuoteRepair ApproveQuote AddJob
        SubmitClaim InvoiceRepair HandBackVehicle GetWorkshopBoard GetVehicleTimeline RequestParts
        ReceiveComplaint
    """,
    "technician": """
        RequestParts StartWork PauseWork ResumeWork CompleteWork AddJob GetRepairOrder PassPdi
        FailPdi
    """,
    "workshop_manager": """
        SetWorkshopCapacity DispatchTechnician IssueParts ReportPartsShort PassInspection
        FailInspection RecordRework CancelRepairOrder StartWork RecordComplaintAction
    """,
    "customer_care_agent": """
        ReceiveComplaint AcknowledgeComplaint TriageComplaint DispatchComplaint ProposeResolution
        RecordCustomerReply CompleteRevisit CloseComplaint ReopenComplaint EscalateComplaint
        PauseComplaintSla RecordReturnVisitAttempt CompleteReturnVisit WithdrawReminder
        ListReminders RequestErasure RejectErasure
    """,
    "finance": """
        RecordDeposit RecordPayment IssueInvoice InvoiceRepair RecordRepairPayment SettleClaim
        GetOrder GetRepairOrder UnmaskIdentityDocument
    """,
    "store_manager": """
        WriteOffBalance ApproveErasure ApproveOutbound RequeueDeadLetter CloseComplaint ListOrders
        GetWorkshopBoard CountNotifications
    """,
    "head_office": """
        ImportCustomers GetImport ApproveErasure TransferVehicle AssignCustomer GetFunnel
        ListDeadLetters GetCustomerHistory ExportCustomer UnmaskIdentityDocument
    """,
    "manufacturer": "GetVehicle QueryStock GetFunnel GetVehicleTimeline SettleClaim",
    "auditor": "GetCustomer GetOrder GetRepairOrder GetComplaint ListNotifications GetImport",
    "system": "ImportCustomers CaptureLead CaptureAdfLead RegisterVehicle ReceiveIntoStock RecordOdometer",
}
FORBIDDEN = {
    "salesperson": """
        ApproveOutbound RecordPayment IssueInvoice WriteOffBalance ApproveErasure ImportCustomers
        AssignCustomer UnmaskIdentityDocument ExportCustomer
    """,
    "sales_manager": "RecordPayment IssueInvoice WriteOffBalance ApproveErasure",
    "service_adviser": "RecordRepairPayment SettleClaim PassInspection PlaceOrder CloseComplaint",
    "technician": "GetCustomer SearchCustomers InvoiceRepair PassInspection IssueParts HandBackVehicle",
    "workshop_manager": "SettleClaim RecordRepairPayment PlaceOrder",
    "customer_care_agent": "ApproveErasure PlaceOrder OpenRepairOrder",
    "finance": "WriteOffBalance ApproveOutbound NotifyOutbound PlaceOrder SubmitClaim",
    "store_manager": """
        RecordPayment RecordRepairPayment IssueInvoice SettleClaim ImportCustomers UnmaskIdentityDocument
        ExportCustomer
    """,
    "head_office": "RecordPayment WriteOffBalance PlaceOrder",
    "manufacturer": """
        GetCustomer SearchCustomers GetCustomerHistory GetNotification GetContact GetComplaint
        ListLeads
    """,
    "system": "GetCustomer SearchCustomers ApproveErasure",
}
READING = ("Get", "List", "Search", "Query", "Count", "Preview")


def may(role: str) -> set[str]:
    return {rpc.rpartition(".")[2] for rpc, permission in required().items() if permission in granted()[role]}


def test_every_role_of_the_trade_is_there() -> None:
    assert granted().keys() == JOBS.keys()


@pytest.mark.parametrize("role", JOBS)
def test_a_role_can_do_its_job(role: str) -> None:
    assert set(JOBS[role].split()) <= may(role)


@pytest.mark.parametrize("role", FORBIDDEN)
def test_a_role_cannot_do_what_others_must(role: str) -> None:
    assert not set(FORBIDDEN[role].split()) & may(role)


def test_an_auditor_changes_nothing() -> None:
    assert [rpc for rpc in may("auditor") if not rpc.startswith(READING)] == []


def test_whoever_only_looks_needs_a_permission_to_view() -> None:
    for rpc, permission in required().items():
        reads = rpc.rpartition(".")[2].startswith(READING)
        assert reads == permission.endswith(".view"), (rpc, permission)


def test_no_role_may_do_everything() -> None:
    everything = set(required().values())
    assert all(has < everything for has in granted().values())


def test_every_permission_is_held_by_somebody_of_the_dealers() -> None:
    staff = set().union(*(has for role, has in granted().items() if role not in ELSEWHERE))
    assert staff == set(required().values())
