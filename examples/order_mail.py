"""An order is confirmed: its customer gets a mail. PYTHON_HANDLERS=order_mail (docs/python.md).

SMTP is down: nothing is lost or parked, the mails go when it is back. An address that the server refuses is parked.
"""

import os
import smtplib
from email.message import EmailMessage
from typing import Any

from relay.handlers import Refuse, handles


@handles("public.orders", op=["insert", "update"])
def order_confirmed(old: dict[str, Any] | None, new: dict[str, Any], id: str) -> None:
    if new["state"] != "confirmed" or (old and old["state"] == "confirmed"):
        return
    if not new["email"]:
        raise Refuse("the order has no address")
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "shop@example.com", new["email"], f"Your order {new['id']}"
    mail["Message-ID"] = f"<{id}@shop.example.com>"  # what comes twice after a crash is known to mail programs
    mail.set_content(f"Thank you. Your order {new['id']} over {new['total']} is confirmed.\n")
    with smtplib.SMTP(
        os.environ.get("SMTP_HOST", "127.0.0.1"), int(os.environ.get("SMTP_PORT", "25")), timeout=20
    ) as smtp:
        smtp.send_message(mail)
