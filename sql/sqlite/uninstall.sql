-- Removes what install.sql made, and with it whatever waits. First: listen.py unwatch TABLE, for each that listen.py watched
-- shows; a trigger that is left makes every write of its table fail.
drop table if exists relay_replaced;
drop table if exists relay_watched;
drop table if exists relay_listener;
drop table if exists relay_outbox;
