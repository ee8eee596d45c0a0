-- relay.watches: the arguments of the triggers, one row a watched table; for relay.watched and relay.resend_chunk.
create or replace view relay.watches as
with recursive trigger as (
    select t.oid, t.tgrelid, t.tgname, t.tgenabled, t.tgtype & 1 = 0 and t.tgtype & 32 = 0 as bulk,
        -- Whoever makes triggers by hand must not keep the listener waiting: of an owner's, what is above 1,000 bytes in each
        -- may be 4 MiB in all.
        case when t.is_read then a.args else '{}' end as args,
        t.is_looked_at
    from (
        select t.*, octet_length(t.tgargs) <= 262144 and sum(greatest(octet_length(t.tgargs) - 1000, 0))
                        over (partition by c.relowner order by t.tgrelid, t.tgname) <= 4194304 as is_read,
            -- What conditions are made of takes 2.5 s a million functions: of an owner's 1 MiB, as stored, is looked at.
            coalesce(sum(pg_column_size(t.tgqual)) over (partition by c.relowner order by t.tgrelid, t.tgname) <= 1048576, true)
                as is_looked_at
        from pg_trigger t join pg_class c on c.oid = t.tgrelid
        where t.oid in (select oid from relay.arguments)
    ) t join relay.arguments a on a.oid = t.oid
), each as (  -- those of partitions as well; pg_partition_tree would wait for their locks
    select oid, tgrelid as tbl, tgrelid, tgenabled from trigger
    union all
    select t.oid, e.tbl, t.tgrelid, t.tgenabled from pg_trigger t join each e on t.tgparentid = e.oid
), fires as (
    select tbl, bool_and(tgenabled = 'A') as always,
        array_agg(distinct tgrelid order by tgrelid) filter (where tgenabled in ('D', 'R')) as off  -- R: only for replicated rows
    from each
    group by tbl
)
select tgrelid as tbl, min(args[1]) as topic, min(args[2]) as name,
    array_agg(substring(tgname from 8) order by tgname) as triggers,
    bool_and(f.always) as always, max(f.off) is not null as disabled, bool_or(bulk) as bulk,
    relay.read_numbers(max(args[4])) as numbers, relay.read_options(max(args[5])) as options, max(args[6:1605]) as key,
    max(f.off) as off, bool_and(is_looked_at) as is_looked_at
from trigger
join fires f on f.tbl = tgrelid
group by tgrelid;
