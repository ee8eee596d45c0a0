"""What the three Odoo targets share: the connection, the judgement of answers, the mapping and its values."""
