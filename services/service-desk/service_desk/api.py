"""The service desk's gRPC table: every RPC, and what answers it."""

from forecourt.rpc.binding import Api
from service_desk import appointment as appointments_
from service_desk import booking
from service_desk import queries as q_
from service_desk import reminder as reminders_
from service_desk import return_visit as visits_
from service_desk.appointment import appointment
from service_desk.complaint import commands as complaint_
from service_desk.complaint.decisions import complaint
from service_desk.read_models.appointments import appointments
from service_desk.read_models.complaints import complaints
from service_desk.read_models.reminders import reminders
from service_desk.read_models.repair_orders import repair_orders
from service_desk.read_models.return_visits import return_visits
from service_desk.read_models.vehicle_timeline import vehicle_timeline
from service_desk.reminder import reminder
from service_desk.repair_order import commands as order_
from service_desk.repair_order.decisions import repair_order
from service_desk.return_visit import return_visit

api = Api("crm.service_desk.v1.ServiceDeskService")

api.command("RequestAppointment", appointment, appointments_.RequestAppointment)
api.command("BookAppointment", handle=booking.book)
api.command("ConfirmAppointment", handle=booking.confirm)
api.command("RescheduleAppointment", handle=booking.reschedule)
api.command("CheckInAppointment", appointment, appointments_.CheckInAppointment)
api.command("CompleteAppointment", appointment, appointments_.CompleteAppointment)
api.command("RecordNoShow", handle=booking.no_show)
api.command("CancelAppointment", handle=booking.cancel)
api.command("SetWorkshopCapacity", handle=booking.set_capacity)
api.query("ListAppointments", q_.ListAppointments, q_.list_appointments, reads=[appointments])

api.command("OpenRepairOrder", repair_order, order_.OpenRepairOrder)
api.command("QuoteRepair", repair_order, order_.QuoteRepair)
api.command("ApproveQuote", repair_order, order_.ApproveQuote)
api.command("DeclineQuote", repair_order, order_.DeclineQuote)
api.command("AddJob", repair_order, order_.AddJob)
api.command("DispatchTechnician", repair_order, order_.DispatchTechnician)
api.command("RequestParts", repair_order, order_.RequestParts)
api.command("IssueParts", repair_order, order_.IssueParts)
api.command("ReportPartsShort", repair_order, order_.ReportPartsShort)
api.command("StartWork", repair_order, order_.StartWork)
api.command("PauseWork", repair_order, order_.PauseWork)
api.command("ResumeWork", repair_order, order_.ResumeWork)
api.command("CompleteWork", repair_order, order_.CompleteWork)
api.command("PassInspection", repair_order, order_.PassInspection)
api.command("FailInspection", repair_order, order_.FailInspection)
api.command("RecordRework", repair_order, order_.RecordRework)
api.command("InvoiceRepair", repair_order, order_.InvoiceRepair)
api.command("SubmitClaim", repair_order, order_.SubmitClaim)
api.command("SettleClaim", repair_order, order_.SettleClaim)
api.command("RecordRepairPayment", repair_order, order_.RecordRepairPayment)
api.command("HandBackVehicle", repair_order, order_.HandBackVehicle)
api.command("CancelRepairOrder", repair_order, order_.CancelRepairOrder)
api.query("GetRepairOrder", q_.GetRepairOrder, q_.get_repair_order, reads=[repair_orders])
api.query("ListRepairOrders", q_.ListRepairOrders, q_.list_repair_orders, reads=[repair_orders])
api.query("GetWorkshopBoard", q_.GetWorkshopBoard, q_.get_workshop_board, reads=[repair_orders])

api.command("ReceiveComplaint", complaint, complaint_.ReceiveComplaint)
api.command("AcknowledgeComplaint", complaint, complaint_.AcknowledgeComplaint)
api.command("TriageComplaint", complaint, complaint_.TriageComplaint)
api.command("DispatchComplaint", complaint, complaint_.DispatchComplaint)
api.command("RecordComplaintAction", complaint, complaint_.RecordComplaintAction)
api.command("ProposeResolution", complaint, complaint_.ProposeResolution)
api.command("RecordCustomerReply", complaint, complaint_.RecordCustomerReply)
api.command("CompleteRevisit", complaint, complaint_.CompleteRevisit)
api.command("CloseComplaint", complaint, complaint_.CloseComplaint)
api.command("ReopenComplaint", complaint, complaint_.ReopenComplaint)
api.command("EscalateComplaint", complaint, complaint_.EscalateComplaint)
api.command("PauseComplaintSla", complaint, complaint_.PauseComplaintSla)
api.command("ResumeComplaintSla", complaint, complaint_.ResumeComplaintSla)
api.query("GetComplaint", q_.GetComplaint, q_.get_complaint, reads=[complaints])
api.query("ListOpenComplaints", q_.ListOpenComplaints, q_.list_open_complaints, reads=[complaints])

api.command("RecordReturnVisitAttempt", return_visit, visits_.RecordReturnVisitAttempt)
api.command("CompleteReturnVisit", return_visit, visits_.CompleteReturnVisit)
api.query("ListReturnVisits", q_.ListReturnVisits, q_.list_return_visits, reads=[return_visits])
api.command("WithdrawReminder", reminder, reminders_.WithdrawReminder)
api.query("ListReminders", q_.ListReminders, q_.list_reminders, reads=[reminders])

api.query("GetVehicleTimeline", q_.GetVehicleTimeline, q_.get_vehicle_timeline, reads=[vehicle_timeline])
