-- Brings the tables of an older version up to date, one step a version. Functions, views and grants are not part of
-- a step: install.sql replaces them all afterwards. A step looks like this (its file: upgrade/2.sql):
--
--     select :relay_from > 0 and :relay_from < 2 as relay_step \gset
--     \if :relay_step
--         \ir 2.sql
--     \endif
--
-- tables.sql gets the same change, and tests/sql/test_upgrade.py shows that both ways end in the same schema.

select :relay_from > 0 and :relay_from < 2 as relay_step \gset
\if :relay_step
    \ir 2.sql
\endif
