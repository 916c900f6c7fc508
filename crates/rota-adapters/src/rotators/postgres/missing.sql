, pair AS (
    SELECT old.oid AS old, old.rolname AS old_name, new.oid AS new, new.rolname AS new_name FROM pg_roles old, pg_roles new
     WHERE old.rolname = $1 AND new.rolname = $2
),
-- What the old role owns goes to the new one whole, with its rights.
missing_rights AS (
    SELECT classid, objid, objsubid, keyword, privilege, grantable FROM rights, pair
     WHERE grantee = old AND privilege <> 'OWNER' AND owner IS DISTINCT FROM old
    EXCEPT
    SELECT classid, objid, objsubid, keyword, privilege, grantable FROM rights, pair WHERE grantee = new
),
kinds (kind, word, letter) AS (
    VALUES ('r'::"char", 'TABLES', 'r'::"char"), ('S', 'SEQUENCES', 's'), ('f', 'ROUTINES', 'f'), ('T', 'TYPES', 'T'), ('n', 'SCHEMAS', 'n')
),
-- A role's defaults for all schemas stand in place of the server's, which may so be taken away.
assumed AS (
    SELECT r.role, k.kind, a.grantee, a.privilege_type AS privilege, a.is_grantable AS grantable
      FROM pair CROSS JOIN kinds k CROSS JOIN LATERAL (VALUES (old), (new)) r (role)
     CROSS JOIN LATERAL aclexplode(acldefault(k.letter, r.role)) a
),
shown_defaults AS (
    SELECT role, namespace, kind, grantee, privilege, grantable FROM defaults
    UNION
    SELECT a.role, 0::oid, a.kind, a.grantee, a.privilege, a.grantable FROM assumed a
     WHERE NOT EXISTS (SELECT FROM defaults d WHERE d.role = a.role AND d.kind = a.kind AND d.namespace = 0)
),
renamed_defaults AS (
    SELECT CASE role WHEN old THEN new ELSE role END AS role, namespace, kind,
           CASE grantee WHEN old THEN new ELSE grantee END AS grantee, privilege, grantable
      FROM shown_defaults, pair WHERE old IN (role, grantee)
),
missing_defaults AS (
    SELECT 'GRANT' AS verb, * FROM (SELECT * FROM renamed_defaults EXCEPT SELECT * FROM shown_defaults) granted
    UNION ALL
    SELECT 'REVOKE', * FROM (
        SELECT d.* FROM shown_defaults d, pair
         WHERE d.role = new AND d.namespace = 0 AND d.grantee IN (0, new)
        EXCEPT SELECT * FROM renamed_defaults) revoked
),
settings AS (
    SELECT s.setrole, s.setdatabase, split_part(c.config, '=', 1) AS name, substr(c.config, strpos(c.config, '=') + 1) AS value
      FROM pg_db_role_setting s CROSS JOIN LATERAL unnest(s.setconfig) c (config)
)
SELECT privilege || CASE WHEN grantable THEN ' WITH GRANT OPTION' ELSE '' END || ' on ' || lower(keyword) || ' ' || named.identity AS what,
       format('GRANT %s%s ON %s %s TO %I%s', privilege, named.columns, keyword, named.object, new_name,
              CASE WHEN grantable THEN ' WITH GRANT OPTION' ELSE '' END) AS statement
  FROM missing_rights CROSS JOIN pair CROSS JOIN LATERAL (
    SELECT (pg_identify_object(classid, objid, objsubid)).identity AS identity,
           (pg_identify_object(classid, objid, 0)).identity AS object,
           (SELECT format(' (%I)', attname) FROM pg_attribute WHERE objsubid > 0 AND attrelid = objid AND attnum = objsubid) AS columns
  ) named
UNION ALL
SELECT format('what it granted to %I on %s %s', (SELECT rolname FROM pg_roles WHERE oid = grantee), lower(keyword),
              (pg_identify_object(classid, objid, objsubid)).identity), NULL
  FROM rights, pair WHERE grantor = old AND grantee NOT IN (old, new) AND owner IS DISTINCT FROM old
UNION ALL
SELECT 'the membership in ' || r.rolname, format('GRANT %I TO %I WITH ADMIN OPTION', r.rolname, new_name)
  FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid, pair
 WHERE m.member = old AND m.admin_option
   AND NOT EXISTS (SELECT FROM pg_auth_members n WHERE n.roleid = m.roleid AND n.member = new AND n.admin_option)
UNION ALL
SELECT 'the membership in ' || r.rolname, format('GRANT %I TO %I', r.rolname, new_name)
  FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid, pair
 WHERE m.member = old AND NOT m.admin_option AND m.roleid <> new
   AND NOT EXISTS (SELECT FROM pg_auth_members n WHERE n.roleid = m.roleid AND n.member = new)
UNION ALL
SELECT 'the member ' || r.rolname, format('GRANT %I TO %I%s', new_name, r.rolname, CASE WHEN m.admin_option THEN ' WITH ADMIN OPTION' ELSE '' END)
  FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member, pair
 WHERE m.roleid = old AND m.member <> new
   AND NOT EXISTS (SELECT FROM pg_auth_members n WHERE n.roleid = new AND n.member = m.member AND n.admin_option >= m.admin_option)
UNION ALL
SELECT 'the rights over what ' || old_name || ' owns', format('GRANT %I TO %I', old_name, new_name)
  FROM pair WHERE NOT EXISTS (SELECT FROM pg_auth_members m WHERE m.roleid = old AND m.member = new)
UNION ALL
SELECT 'its attributes', format('ALTER ROLE %I %s %s %s %s %s CONNECTION LIMIT %s', new_name,
       CASE WHEN o.rolinherit THEN 'INHERIT' ELSE 'NOINHERIT' END, CASE WHEN o.rolcreatedb THEN 'CREATEDB' ELSE '' END,
       CASE WHEN o.rolcreaterole THEN 'CREATEROLE' ELSE '' END, CASE WHEN o.rolreplication THEN 'REPLICATION' ELSE '' END,
       CASE WHEN o.rolbypassrls THEN 'BYPASSRLS' ELSE '' END, o.rolconnlimit)
  FROM pair JOIN pg_roles o ON o.oid = old JOIN pg_roles n ON n.oid = new
 WHERE (o.rolinherit, o.rolcreatedb, o.rolcreaterole, o.rolreplication, o.rolbypassrls, o.rolconnlimit)
    <> (n.rolinherit, n.rolcreatedb, n.rolcreaterole, n.rolreplication, n.rolbypassrls, n.rolconnlimit)
UNION ALL
-- Lists are stored as they are written; everything else is one text.
SELECT 'the setting ' || s.name, format('ALTER ROLE %I%s SET %s = %s', new_name,
       (SELECT format(' IN DATABASE %I', datname) FROM pg_database WHERE oid = s.setdatabase),
       (SELECT string_agg(quote_ident(part), '.') FROM unnest(string_to_array(s.name, '.')) part),
       CASE WHEN s.name IN ('search_path', 'temp_tablespaces', 'local_preload_libraries', 'session_preload_libraries')
            AND s.value NOT IN ('', '""') THEN s.value ELSE quote_literal(replace(s.value, '""', '')) END)
  FROM (SELECT setdatabase, name, value FROM settings, pair WHERE setrole = old
        EXCEPT SELECT setdatabase, name, value FROM settings, pair WHERE setrole = new) s, pair
UNION ALL
SELECT format('the default privilege %s on %s', d.privilege, lower(k.word)),
       format('ALTER DEFAULT PRIVILEGES FOR ROLE %I%s %s %s ON %s %s %s%s', (SELECT rolname FROM pg_roles WHERE oid = d.role),
              (SELECT format(' IN SCHEMA %I', nspname) FROM pg_namespace WHERE oid = d.namespace), d.verb, d.privilege, k.word,
              CASE d.verb WHEN 'GRANT' THEN 'TO' ELSE 'FROM' END,
              coalesce((SELECT quote_ident(rolname) FROM pg_roles WHERE oid = d.grantee), 'PUBLIC'),
              CASE WHEN d.verb = 'GRANT' AND d.grantable THEN ' WITH GRANT OPTION' ELSE '' END)
  FROM missing_defaults d JOIN kinds k ON k.kind = d.kind
UNION ALL
SELECT format('the row security policy %s of %s', p.polname, t.identity),
       format('ALTER POLICY %I ON %s TO %s, %I', p.polname, t.identity,
              (SELECT string_agg(coalesce((SELECT quote_ident(rolname) FROM pg_roles WHERE oid = role), 'PUBLIC'), ', ') FROM unnest(p.polroles) role),
              new_name)
  FROM pair, pg_policy p CROSS JOIN LATERAL pg_identify_object('pg_class'::regclass, p.polrelid, 0) t
 WHERE old = ANY (p.polroles) AND NOT new = ANY (p.polroles)
UNION ALL
SELECT 'a user mapping for server ' || srvname, NULL
  FROM (SELECT srvname FROM pg_user_mappings, pair WHERE umuser = old
        EXCEPT SELECT srvname FROM pg_user_mappings, pair WHERE umuser = new) m
