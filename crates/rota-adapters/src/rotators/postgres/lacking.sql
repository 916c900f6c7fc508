, pair AS (
    SELECT live.oid AS live, idle.oid AS idle FROM pg_roles live, pg_roles idle
     WHERE live.rolname = $1 AND idle.rolname = $2
),
-- A right that may be passed on is also one that may be used.
usable AS (
    SELECT r.*, g.passed_on FROM rights r CROSS JOIN (VALUES (false), (true)) g (passed_on)
     WHERE r.grantable OR NOT g.passed_on
),
lacking_rights AS (
    SELECT classid, objid, objsubid, keyword, privilege, passed_on FROM usable, pair
     WHERE grantee <> 0 AND pg_has_role(live, grantee, 'USAGE')
    EXCEPT
    SELECT classid, objid, objsubid, keyword, privilege, passed_on FROM usable, pair
     WHERE CASE WHEN grantee = 0 THEN true ELSE pg_has_role(idle, grantee, 'USAGE') END
),
kinds (kind, word, letter) AS (
    VALUES ('r'::"char", 'tables', 'r'::"char"), ('S', 'sequences', 's'), ('f', 'routines', 'f'), ('T', 'types', 'T'), ('n', 'schemas', 'n')
),
-- Where a role says nothing for all schemas, the server's defaults stand.
own_defaults AS (
    SELECT d.role, d.namespace, d.kind, nullif(d.grantee, d.role) AS grantee, d.privilege, d.grantable
      FROM defaults d, pair WHERE d.role IN (live, idle)
    UNION ALL
    SELECT idle, 0::oid, k.kind, nullif(a.grantee, idle), a.privilege_type, a.is_grantable
      FROM pair CROSS JOIN kinds k CROSS JOIN LATERAL aclexplode(acldefault(k.letter, idle)) a
     WHERE NOT EXISTS (SELECT FROM defaults d WHERE d.role = idle AND d.kind = k.kind AND d.namespace = 0)
),
settings AS (
    SELECT s.setrole, s.setdatabase, c.config FROM pg_db_role_setting s CROSS JOIN LATERAL unnest(s.setconfig) c (config)
)
-- Groups first: one that is missing explains the rights after it.
SELECT h.how || ' of role ' || r.rolname
  FROM pair, pg_roles r, (VALUES ('MEMBER'), ('USAGE'), ('MEMBER WITH ADMIN OPTION')) h (how)
 WHERE r.oid NOT IN (live, idle) AND pg_has_role(live, r.oid, h.how) AND NOT pg_has_role(idle, r.oid, h.how)
UNION ALL
SELECT privilege || CASE WHEN passed_on THEN ' WITH GRANT OPTION' ELSE '' END || ' on ' || lower(keyword) || ' '
       || coalesce((pg_identify_object(classid, objid, objsubid)).identity, objid::text)
  FROM lacking_rights
UNION ALL
SELECT a.attribute FROM pair JOIN pg_roles l ON l.oid = live JOIN pg_roles i ON i.oid = idle
 CROSS JOIN LATERAL (VALUES ('CREATEDB', l.rolcreatedb, i.rolcreatedb), ('CREATEROLE', l.rolcreaterole, i.rolcreaterole),
        ('REPLICATION', l.rolreplication, i.rolreplication), ('BYPASSRLS', l.rolbypassrls, i.rolbypassrls),
        ('a CONNECTION LIMIT as high', i.rolconnlimit <> -1 AND (l.rolconnlimit = -1 OR l.rolconnlimit > i.rolconnlimit), false))
        a (attribute, has, other)
 WHERE a.has AND NOT a.other
UNION ALL
SELECT 'the setting ' || config || coalesce(' in database ' || (SELECT datname FROM pg_database WHERE oid = setdatabase), '')
  FROM (SELECT setdatabase, config FROM settings, pair WHERE setrole = live
        EXCEPT SELECT setdatabase, config FROM settings, pair WHERE setrole = idle) s
UNION ALL
SELECT 'the default privilege ' || privilege || ' on ' || (SELECT word FROM kinds k WHERE k.kind = d.kind)
       || coalesce(' in schema ' || (SELECT nspname FROM pg_namespace WHERE oid = namespace), '') || ' to '
       || CASE WHEN grantee IS NULL THEN 'itself' WHEN grantee = 0 THEN 'PUBLIC' ELSE (SELECT rolname FROM pg_roles WHERE oid = grantee) END
       || CASE WHEN grantable THEN ' WITH GRANT OPTION' ELSE '' END
  FROM (SELECT namespace, kind, grantee, privilege, grantable FROM own_defaults, pair WHERE role = live
        EXCEPT SELECT namespace, kind, grantee, privilege, grantable FROM own_defaults, pair WHERE role = idle) d
UNION ALL
SELECT 'the row security policy ' || p.polname || ' of ' || p.polrelid::regclass
  FROM pg_policy p, pair
 WHERE EXISTS (SELECT FROM unnest(p.polroles) role WHERE role <> 0 AND pg_has_role(live, role, 'USAGE'))
   AND NOT EXISTS (SELECT FROM unnest(p.polroles) role WHERE CASE WHEN role = 0 THEN true ELSE pg_has_role(idle, role, 'USAGE') END)
UNION ALL
SELECT 'a user mapping for server ' || srvname
  FROM (SELECT srvname FROM pg_user_mappings, pair WHERE umuser = live
        EXCEPT SELECT srvname FROM pg_user_mappings, pair WHERE umuser IN (idle, 0)) m
