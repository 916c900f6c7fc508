-- Everything in this database and beside it that rights are given on, with its owner
-- and its access list; without a list the one that the server assumes. Arrays,
-- multiranges, indexes and row types have the rights of what they belong to.
objects (classid, objid, objsubid, keyword, owner, acl) AS (
    SELECT 'pg_class'::regclass::oid, oid, 0, CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, relowner,
           coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's'::"char" ELSE 'r'::"char" END, relowner))
      FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND relpersistence <> 't'
    UNION ALL
    SELECT 'pg_class'::regclass, attrelid, attnum::int, 'TABLE', NULL, attacl
      FROM pg_attribute WHERE attacl IS NOT NULL AND NOT attisdropped
    UNION ALL
    SELECT 'pg_namespace'::regclass, oid, 0, 'SCHEMA', nspowner, coalesce(nspacl, acldefault('n', nspowner))
      FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp_'
    UNION ALL
    SELECT 'pg_proc'::regclass, oid, 0, 'ROUTINE', proowner, coalesce(proacl, acldefault('f', proowner))
      FROM pg_proc
    UNION ALL
    SELECT 'pg_type'::regclass, t.oid, 0, 'TYPE', typowner, coalesce(typacl, acldefault('T', typowner))
      FROM pg_type t LEFT JOIN pg_class c ON c.oid = t.typrelid
     WHERE typcategory <> 'A' AND typtype <> 'm' AND coalesce(c.relkind, 'c') = 'c'
    UNION ALL
    SELECT 'pg_language'::regclass, oid, 0, 'LANGUAGE', lanowner, coalesce(lanacl, acldefault('l', lanowner))
      FROM pg_language
    UNION ALL
    SELECT 'pg_foreign_data_wrapper'::regclass, oid, 0, 'FOREIGN DATA WRAPPER', fdwowner,
           coalesce(fdwacl, acldefault('F', fdwowner))
      FROM pg_foreign_data_wrapper
    UNION ALL
    SELECT 'pg_foreign_server'::regclass, oid, 0, 'FOREIGN SERVER', srvowner,
           coalesce(srvacl, acldefault('S', srvowner))
      FROM pg_foreign_server
    UNION ALL
    SELECT 'pg_largeobject'::regclass, oid, 0, 'LARGE OBJECT', lomowner, coalesce(lomacl, acldefault('L', lomowner))
      FROM pg_largeobject_metadata
    UNION ALL
    SELECT 'pg_database'::regclass, oid, 0, 'DATABASE', datdba, coalesce(datacl, acldefault('d', datdba))
      FROM pg_database
    UNION ALL
    SELECT 'pg_tablespace'::regclass, oid, 0, 'TABLESPACE', spcowner, coalesce(spcacl, acldefault('t', spcowner))
      FROM pg_tablespace
    /*parameters*/
),
rights (classid, objid, objsubid, keyword, owner, grantor, grantee, privilege, grantable) AS (
    SELECT o.classid, o.objid, o.objsubid, o.keyword, o.owner, a.grantor, a.grantee, a.privilege_type, a.is_grantable
      FROM objects o CROSS JOIN LATERAL aclexplode(o.acl) a
    UNION ALL
    SELECT classid, objid, objsubid, keyword, owner, owner, owner, 'OWNER', false FROM objects WHERE owner IS NOT NULL
),
defaults (role, namespace, kind, grantee, privilege, grantable) AS (
    SELECT d.defaclrole, d.defaclnamespace, d.defaclobjtype, a.grantee, a.privilege_type, a.is_grantable
      FROM pg_default_acl d CROSS JOIN LATERAL aclexplode(d.defaclacl) a
)
