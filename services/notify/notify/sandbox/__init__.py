"""Stands in for the outer world on a laptop: a mail server and two SMS gateways that show what arrived.

``python -m notify.sandbox --smtp-port P --sms-port Q --http-port R [--data DIR]``
"""

from forecourt.discovery import Sandbox

SANDBOX = Sandbox(
    name="sandbox",
    module="notify.sandbox",
    ports={"smtp": 2525, "sms": 8026, "http": 8025},
    variables={
        "smtp": {"NOTIFY_SMTP_URLS": "smtp://{host}:{port}"},
        "sms": {
            "NOTIFY_SMS_GENERIC_URL": "http://{host}:{port}",
            "NOTIFY_TWILIO_URL": "http://{host}:{port}",
        },
    },
    callback="NOTIFY_CALLBACK_URL",
    pages={"http": "what arrived"},
)
