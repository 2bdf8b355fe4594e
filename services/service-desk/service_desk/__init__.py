"""The service desk: appointments, workshop, complaints, return visits and reminders."""
