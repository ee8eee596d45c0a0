-- Removes what install.sql made. It refuses while tables are watched (their writers would fail), and while events wait:
--     mysql -u root -p < sql/mysql/uninstall.sql
--     (echo 'set @relay_force = 1;'; cat sql/mysql/uninstall.sql) | mysql -u root -p      gives up the events
set sql_mode = 'STRICT_ALL_TABLES';
delimiter ;;
drop procedure if exists relay.look;;
create procedure relay.look()
begin
    declare watched, waiting int default 0;
    select count(*) into watched from information_schema.triggers
        where trigger_name like 'relay\_%' and definer = 'relay_owner@localhost';
    select count(*) into waiting from relay.outbox;
    if watched > 0 then
        signal sqlstate '45000' set message_text = 'relay: tables are watched; first listen.py unwatch each that watched shows';
    elseif waiting > 0 and coalesce(@relay_force, 0) <> 1 then
        signal sqlstate '45000' set message_text = 'relay: events wait; set @relay_force = 1 before gives them up';
    end if;
end;;
call relay.look();;
delimiter ;
drop database relay;
drop role if exists relay_listener, relay_publisher;
drop user if exists relay_owner@localhost;
select 'relay: removed' as relay;
