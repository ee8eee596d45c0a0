"""A stand-in Odoo: what real servers 14.0, 17.0 and 19.0 were measured to answer (docs/odoo.md), to break.

As "14" it is a 17 but for what 14 refuses less or words otherwise.

`server.py` runs it in a process of its own, `handle.py` is what a test holds, `client.py` speaks to it as to a real
server. What is here and not there: `model.py` the models, `store.py` records and transactions, `convert.py` and
`load.py` the import, `methods.py` the other methods, `http.py` and `answers.py` the wire, `trouble.py` what breaks.
"""
