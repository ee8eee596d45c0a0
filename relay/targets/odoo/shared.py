"""What all workers of TARGET=odoo-load share."""

import dataclasses

from relay.targets.bisection import Limits
from relay.targets.odoo.actions import Waiting
from relay.targets.odoo.external_ids import Records
from relay.targets.odoo.headers import Headers
from relay.targets.odoo.lookups import Lookups
from relay.targets.odoo.mapping import MappingFile
from relay.targets.odoo.matching import Adoption
from relay.targets.odoo.missing_links import Orphans


@dataclasses.dataclass(frozen=True, slots=True)
class Shared:
    """The mapping, and what is remembered of Odoo and of rows."""

    mapping: MappingFile
    records: Records
    limits: Limits
    orphans: Orphans
    adoption: Adoption
    lookups: Lookups
    waiting: Waiting
    headers: Headers
