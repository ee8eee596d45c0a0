-- relay.pending: what waits in the outbox, one row a topic (and one for each queue that some of it is for). It counts, so it takes a moment with a million events.
--   errors  events that the broker refused; each holds up the later ones of its key
--     select * from relay.pending;
create or replace view relay.pending as
select topic, count(*) as events, min(at) as oldest, count(error) as errors,
    (array_agg(error order by seq) filter (where error is not null))[1] as first_error,
    queue
from relay.outbox
group by topic, queue;
