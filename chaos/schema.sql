-- The application of the chaos run, and the audit that knows what it committed. Run as the application's role.
create schema audit;
create sequence audit.change;
create table audit.log (
    aid bigint generated always as identity primary key,  -- a row's changes get it in their order: under its lock
    at timestamptz not null default clock_timestamp(),
    xid bigint not null default pg_current_xact_id()::text::bigint,
    tbl text not null,
    op text not null,
    old jsonb,
    new jsonb
);
create function audit.number() returns trigger language plpgsql as $$
begin
    new.change := nextval('audit.change');  -- each version of each row has a number of its own
    return new;
end $$;
create function audit.write() returns trigger language plpgsql as $$
begin
    insert into audit.log (tbl, op, old, new) values (
        tg_table_schema || '.' || tg_table_name, lower(tg_op),
        case when tg_op in ('UPDATE', 'DELETE') then to_jsonb(old) end,
        case when tg_op in ('INSERT', 'UPDATE') then to_jsonb(new) end);
    return null;
end $$;
create function audit.truncated() returns trigger language plpgsql as $$
begin
    insert into audit.log (tbl, op) values (tg_table_schema || '.' || tg_table_name, 'truncate');
    return null;
end $$;

-- "!!audit" fires before every other AFTER trigger: the audit has its own opinion of the order of nested changes.
do $$
declare
    name text;
begin
    foreach name in array array['accounts', 'totals', 'scratch', 'loads'] loop
        execute format('create table %I (id int primary key, n int not null default 0, note text, amount numeric,'
                       ' change bigint)', name);
        execute format('create trigger number before insert or update on %I for each row'
                       ' execute function audit.number()', name);
        if name <> 'loads' then  -- watched by statement triggers, which suffer no other: its writers fill the audit
            execute format('create trigger "!!audit" after insert or update or delete on %I for each row'
                           ' execute function audit.write()', name);
        end if;
    end loop;
end $$;
create trigger "!!audit_truncate" after truncate on scratch for each statement execute function audit.truncated();

-- The application's own triggers: one changes the same row again, one changes other rows.
create function again() returns trigger language plpgsql as $$
begin
    update accounts set n = n + 1, note = 'again' where id = new.id;
    return null;
end $$;
create trigger again after insert or update on accounts for each row when (new.n % 5 = 0) execute function again();
create function others() returns trigger language plpgsql as $$
begin
    update totals set n = n + 1, amount = new.amount where id = new.id % 4;
    if new.n % 3 = 0 then
        update accounts set note = 'other' where id = new.id + 1 and n % 5 <> 0;
    end if;
    return null;
end $$;
create trigger others after update on accounts for each row when (new.n % 7 = 0) execute function others();
insert into totals select i from generate_series(0, 3) i;
insert into accounts select i from generate_series(1, 40) i;
