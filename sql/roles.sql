-- The roles (they belong to the whole server, and are shared by all databases in which relay is installed):
--   relay_owner      owns schema relay; nobody logs in as it, and no code of a user runs as it
--   relay_trigger    reads the watched tables, past row level security; no code of a user runs as it either
--   relay_compute    runs such code (casts, conditions), read-only and rolled back; has no right on anything
--   relay_listener   for listen.py: reads, marks and removes events       grant relay_listener  to listener_login;
--   relay_publisher  for applications that call relay.publish             grant relay_publisher to app;
--   relay_watcher    for owners of tables who call relay.watch            grant relay_watcher   to table_owner;
-- A role that only writes to watched tables needs none of them.

do $$
declare
    r text;
    bad text;
    remedy text;
    may_create boolean := (select rolsuper or rolcreaterole from pg_roles where rolname = current_user);
    may_set text := case when current_setting('server_version_num')::int >= 160000 then 'SET' else 'MEMBER' end;
begin
    if current_setting('server_version_num')::int < 130000 then
        raise exception 'relay needs PostgreSQL 13 or newer, this is %', current_setting('server_version');
    end if;

    -- Who owns the database may have a superuser who connects to it be a role of his, and the roles below would be that one's.
    if (select rolsuper from pg_roles where rolname = session_user) and not (select rolsuper from pg_roles where rolname = current_user)
       and exists (select from pg_db_role_setting d cross join unnest(d.setconfig) s where s like 'role=%' and d.setrole = 0
                   and d.setdatabase = (select oid from pg_database where datname = current_database())) then
        raise exception 'relay refuses to install: database % has made % of %', current_database(), current_user, session_user
            using detail = 'Its owner could become the roles of relay.',
                hint = format('alter database %I reset role; or psql -c ''set role none'' -f ...', current_database());
    end if;

    foreach r in array array['relay_owner', 'relay_trigger', 'relay_compute', 'relay_listener', 'relay_publisher',
                            'relay_watcher'] loop
        continue when exists (select from pg_roles where rolname = r);
        if not may_create then
            raise exception 'role % does not exist, and % may not create roles', r, current_user
                using hint = format('As a superuser: alter role %I createrole;', current_user);
        end if;
        execute format('create role %I nologin', r);
    end loop;

    -- Policies are code of the tables' owners: relay_trigger passes them by instead. Where it may not be given that
    -- (a managed service), relay.watched says what it means for tables that have policies.
    if not (select rolbypassrls from pg_roles where rolname = 'relay_trigger') then
        begin
            alter role relay_trigger bypassrls;
        exception when insufficient_privilege then
            null;
        end;
    end if;

    -- What these own runs inside the statements of every writer: they must have nothing worth stealing.
    select string_agg(format('%s is %s', rolname, concat_ws(', ', case when rolsuper then 'superuser' end,
                case when rolcreaterole then 'createrole' end, case when rolcreatedb then 'createdb' end,
                case when rolreplication then 'replication' end, case when rolbypassrls and rolname <> 'relay_trigger' then 'bypassrls' end,
                case when rolcanlogin then 'login' end)), '; ')
        into bad from pg_roles
        where rolname in ('relay_owner', 'relay_trigger', 'relay_compute')
          and (rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolcanlogin
               or rolbypassrls and rolname <> 'relay_trigger');
    if bad is not null then
        raise exception 'relay refuses to install: %', bad
            using detail = 'Triggers run with the rights of these roles, inside the statements of every writer.',
                hint = 'alter role relay_owner nosuperuser nocreaterole nocreatedb noreplication nobypassrls nologin; '
                    'and the same for relay_trigger (which may have bypassrls) and relay_compute.';
    end if;
    select string_agg(format('%s is a member of %s', m.member::regrole, m.roleid::regrole), '; ')
        into bad from pg_auth_members m
        where m.member in ('relay_owner'::regrole, 'relay_trigger'::regrole, 'relay_compute'::regrole);
    if bad is not null then
        raise exception 'relay refuses to install: %', bad
            using detail = 'Triggers run with the rights of these roles, inside the statements of every writer.',
                hint = 'revoke that membership.';
    end if;

    -- Somebody who may create roles could have made these before, and be their member since. (Who installs without being
    -- a superuser is one, and so may be those who did it before.)
    select string_agg(format('%s may become %s', m.member::regrole, m.roleid::regrole), '; '),
           string_agg(format('revoke %s from %s;', m.roleid::regrole, m.member::regrole), ' ')
        into bad, remedy from pg_auth_members m join pg_roles r on r.oid = m.member
        where m.roleid in ('relay_owner'::regrole, 'relay_trigger'::regrole, 'relay_compute'::regrole) and not r.rolsuper
          and (select rolsuper from pg_roles where rolname = current_user);
    if bad is not null then
        raise exception 'relay refuses to install: %', bad
            using detail = 'It could read and forge every event.', hint = remedy;
    end if;

    -- The other three may be granted to anybody, but not by somebody who has made them before; and whoever was a member
    -- of one of the six then could have left behind what it grants to others of all that it makes.
    select string_agg(p.bad, '; '), string_agg(p.remedy, ' ') into bad, remedy from (
        select format('%s may grant %s', m.member::regrole, m.roleid::regrole) as bad,
               format('revoke %s from %s cascade;', m.roleid::regrole, m.member::regrole) as remedy
            from pg_auth_members m join pg_roles r on r.oid = m.member
            where m.roleid in ('relay_listener'::regrole, 'relay_publisher'::regrole, 'relay_watcher'::regrole)
              and m.admin_option and not r.rolsuper and (select rolsuper from pg_roles where rolname = current_user)
        union all
        select format('%I can log in', rolname), format('alter role %I nologin;', rolname)
            from pg_roles where rolname in ('relay_listener', 'relay_publisher', 'relay_watcher') and rolcanlogin
        union all
        select format('%s has default privileges', d.defaclrole::regrole),
               format('drop owned by %s; (with what it owns)', d.defaclrole::regrole)
            from pg_default_acl d
            where d.defaclrole in ('relay_owner'::regrole, 'relay_trigger'::regrole, 'relay_compute'::regrole)) p;
    if bad is not null then
        raise exception 'relay refuses to install: %', bad
            using detail = 'Whoever that is could read, delete and forge events.', hint = remedy;
    end if;

    -- A superuser may SET ROLE as it likes; others must be members.
    foreach r in array array['relay_owner', 'relay_trigger', 'relay_compute'] loop
        continue when pg_has_role(current_user, r, may_set);
        begin
            execute format('grant %I to current_user', r);
        exception when insufficient_privilege then
            raise exception '% is not a member of %', current_user, r
                using hint = format('As a superuser, or as the role that created it: grant %I to %I;', r, current_user);
        end;
    end loop;
end $$;
