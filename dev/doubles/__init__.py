"""What stands in the place of what cannot be had here: an HTTP endpoint that answers as it is told, an Odoo."""
