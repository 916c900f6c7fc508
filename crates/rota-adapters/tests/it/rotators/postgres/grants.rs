//! A role that owns, is a member, and was given things: whoever follows it can do the same.

use std::sync::Arc;

use rota_core::rotation::{Outcome, Step};
use rota_engine::ports::OrderKind;
use rota_engine::test_support::rotator_suite::{Harness, RotatorUnderTest as _};

use super::server::{Users, modes, part};

/// So many rotations leave nothing behind and lose nothing; `ROTA_TEST_ROTATIONS=100` is the long run.
const ROTATIONS: usize = 20;

/// What the user is and has, with its name taken out: relations with owner and rights,
/// schemas, routines, columns, groups, settings, defaults, policies and attributes.
const SHOWN: &str = "SELECT string_agg(line, E'\\n' ORDER BY line) FROM ( \
    SELECT 'relation ' || relname || ' ' || pg_get_userbyid(relowner) || ' ' || coalesce(p, '') AS line \
      FROM pg_class LEFT JOIN LATERAL (SELECT string_agg(pg_get_userbyid(grantee) || '=' || privilege_type || is_grantable, ',' \
           ORDER BY pg_get_userbyid(grantee), privilege_type) AS p FROM aclexplode(relacl) WHERE grantee <> 0) a ON true \
     WHERE relnamespace IN ('public'::regnamespace, 'app'::regnamespace) AND relkind IN ('r', 'S', 'v') \
    UNION ALL SELECT 'can ' || t.relname || ' ' || r FROM pg_class t, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) r \
     WHERE t.relnamespace IN ('public'::regnamespace, 'app'::regnamespace) AND t.relkind IN ('r', 'v') AND has_table_privilege($1, t.oid, r) \
    UNION ALL SELECT 'schema ' || nspname || ' ' || pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'app' \
    UNION ALL SELECT 'routine ' || proname || ' ' || has_function_privilege($1, oid, 'EXECUTE') FROM pg_proc WHERE pronamespace = 'app'::regnamespace \
    UNION ALL SELECT 'column ' || attname || ' ' || has_column_privilege($1, attrelid, attnum, 'UPDATE') FROM pg_attribute WHERE attrelid = 'public.wide'::regclass AND attnum > 0 \
    UNION ALL SELECT 'group ' || r.rolname || m.admin_option FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid WHERE m.member = (SELECT oid FROM pg_roles WHERE rolname = $1) \
    UNION ALL SELECT 'setting ' || unnest(setconfig) FROM pg_db_role_setting WHERE setrole = (SELECT oid FROM pg_roles WHERE rolname = $1) \
    UNION ALL SELECT 'default ' || pg_get_userbyid(defaclrole) || defaclobjtype::text || coalesce(defaclnamespace::regnamespace::text, '') || ' ' || coalesce(pg_get_userbyid(nullif(grantee, 0)), 'public') || privilege_type \
      FROM pg_default_acl CROSS JOIN LATERAL aclexplode(defaclacl) \
    UNION ALL SELECT 'policy ' || polname || ' ' || (SELECT string_agg(pg_get_userbyid(r), ',') FROM unnest(polroles) r) FROM pg_policy \
    UNION ALL SELECT 'attributes ' || rolcreatedb || rolinherit || rolconnlimit || rolbypassrls FROM pg_roles WHERE rolname = $1) lines";

async fn shown(users: &Users, user: &str) -> String {
    let text: String =
        sqlx::query_scalar(SHOWN).bind(user).fetch_one(&mut users.superuser().await).await.unwrap();
    text.replace(user, "THE USER")
}

#[tokio::test]
async fn a_new_user_can_do_exactly_what_the_one_before_could() {
    let users = Arc::new(Users::fresh().await);
    let id = &users.id;
    let sql = format!(
        "CREATE ROLE {id}_readers; CREATE ROLE {id}_leaders; GRANT {id}_readers TO {id}_a; \
         GRANT {id}_leaders TO {id}_a WITH ADMIN OPTION; ALTER ROLE {id}_a CREATEDB CONNECTION LIMIT 40; \
         ALTER ROLE {id}_a SET search_path = app, \"$user\", public; ALTER ROLE {id}_a SET statement_timeout = '7s'; \
         CREATE SCHEMA app AUTHORIZATION {id}_a; CREATE TABLE wide (a int, b int); CREATE TABLE theirs (id int); \
         CREATE TABLE guarded (id int); ALTER TABLE guarded ENABLE ROW LEVEL SECURITY; \
         CREATE POLICY own ON guarded TO {id}_a USING (id > 0); GRANT SELECT ON guarded TO {id}_a; \
         GRANT SELECT, UPDATE (a) ON wide TO {id}_a; GRANT INSERT ON theirs TO {id}_a WITH GRANT OPTION; \
         CREATE SEQUENCE counter; GRANT USAGE ON SEQUENCE counter TO {id}_a; \
         ALTER DEFAULT PRIVILEGES FOR ROLE {id}_owner GRANT SELECT ON TABLES TO {id}_a; \
         ALTER DEFAULT PRIVILEGES FOR ROLE {id}_a IN SCHEMA app GRANT SELECT ON TABLES TO {id}_readers; \
         ALTER DEFAULT PRIVILEGES FOR ROLE {id}_a REVOKE EXECUTE ON ROUTINES FROM PUBLIC; \
         SET ROLE {id}_a; CREATE TABLE app.mine (id serial); CREATE VIEW app.seen AS SELECT 1 AS one; \
         CREATE FUNCTION app.twice(n int) RETURNS int LANGUAGE sql AS 'SELECT 2 * n'"
    );
    users.database.execute(&sql).await.unwrap();
    let first = shown(&users, &format!("{id}_a")).await;
    assert!(first.lines().count() > 20, "{first}");
    let harness = Harness::new(Arc::clone(&users) as _).await;
    let said = std::env::var("ROTA_TEST_ROTATIONS").ok();
    let rotations = said.map_or(ROTATIONS, |said| said.parse().expect("a number of rotations"));
    for number in 1..=rotations {
        assert_eq!(harness.rotate().await, Outcome::Completed);
        let published = harness.published();
        assert_eq!(shown(&users, part(&published, "username")).await, first, "rotation {number}");
    }
}

/// What the live one of two users is given, and how that is told where the other lacks it.
const GIVEN: [(&str, &str); 14] = [
    ("CREATE TABLE extra (a int, b int); GRANT SELECT ON extra TO ID", "SELECT on table public.extra"),
    ("GRANT UPDATE (b) ON extra TO ID", "UPDATE on table public.extra.b"),
    ("GRANT DELETE ON extra TO ID WITH GRANT OPTION", "DELETE WITH GRANT OPTION on table public.extra"),
    ("CREATE SEQUENCE numbers; GRANT USAGE ON SEQUENCE numbers TO ID", "USAGE on sequence public.numbers"),
    ("CREATE SCHEMA inner_one; GRANT CREATE ON SCHEMA inner_one TO ID", "CREATE on schema inner_one"),
    (
        "CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'; \
         REVOKE EXECUTE ON FUNCTION one FROM PUBLIC; GRANT EXECUTE ON FUNCTION one TO ID",
        "EXECUTE on routine public.one()",
    ),
    (
        "CREATE TYPE mood AS ENUM ('well'); REVOKE USAGE ON TYPE mood FROM PUBLIC; GRANT USAGE ON TYPE mood TO ID",
        "USAGE on type public.mood",
    ),
    ("GRANT CREATE ON DATABASE DATABASE_NAME TO ID", "CREATE on database DATABASE_NAME"),
    ("SELECT lo_create(4711); GRANT SELECT ON LARGE OBJECT 4711 TO ID", "SELECT on large object 4711"),
    ("GRANT pg_signal_backend TO ID", "MEMBER of role pg_signal_backend"),
    ("ALTER ROLE ID CREATEDB", "CREATEDB"),
    ("ALTER ROLE ID SET statement_timeout = '7s'", "the setting statement_timeout=7s"),
    (
        "ALTER DEFAULT PRIVILEGES FOR ROLE ID GRANT SELECT ON TABLES TO pg_signal_backend",
        "the default privilege SELECT on tables to pg_signal_backend",
    ),
    (
        "CREATE TABLE guarded (id int); ALTER TABLE guarded ENABLE ROW LEVEL SECURITY; \
         CREATE POLICY own ON guarded TO ID USING (id > 0)",
        "the row security policy own of public.guarded",
    ),
];

/// Runs all of it for one of the users.
fn given_to(users: &Users, user: &str) -> String {
    let all: Vec<&str> = GIVEN.iter().map(|(sql, _)| *sql).collect();
    let user = format!("{}_{user}", users.id);
    all.join("; ").replace("ID", &user).replace("DATABASE_NAME", users.database.name())
}

/// Works until the rotation is held; what is published is what was before.
async fn held(harness: &Harness) -> String {
    let before = harness.published();
    harness.order(OrderKind::Rotate);
    harness.work_until(|harness| harness.held().is_some()).await;
    assert!(harness.published().same_as(&before));
    harness.held().unwrap()
}

#[tokio::test]
async fn a_right_that_only_the_live_user_has_is_named_and_nothing_is_published() {
    let users = Arc::new(Users::two().await);
    users.database.execute(&given_to(&users, "a")).await.unwrap();
    let harness = Harness::new(Arc::clone(&users) as _).await;
    let why = held(&harness).await;
    assert!(
        why.contains(&format!("`{}_b` lacks in database `{}`: ", users.id, users.database.name())),
        "{why}"
    );
    for (_, told) in GIVEN {
        let told = told.replace("DATABASE_NAME", users.database.name());
        assert!(why.contains(&told), "{told} is missing: {why}");
    }
    // Whoever gives the other user the same lets the rotation go on.
    let gives = GIVEN.iter().flat_map(|(sql, _)| sql.split("; ")).filter(|sql| sql.contains("ID"));
    let both = format!("ALTER POLICY own ON guarded TO ID, {}_a", users.id);
    let gives = gives.map(|sql| if sql.contains("POLICY") { both.as_str() } else { sql });
    let gives: Vec<&str> = gives.collect();
    let gives = gives.join("; ").replace("ID", &format!("{}_b", users.id));
    users.database.execute(&gives.replace("DATABASE_NAME", users.database.name())).await.unwrap();
    harness.order(OrderKind::Resume);
    assert_eq!(harness.finish().await, Outcome::Completed);
}

#[tokio::test]
async fn what_a_new_user_cannot_be_given_is_named_and_nothing_is_left_behind() {
    let [_, new, _] = modes();
    for (superuser, sql, told) in [
        (false, "GRANT SELECT ON items TO ID_a", "SELECT on table public.items"),
        (
            true,
            "CREATE TABLE theirs (id int); GRANT SELECT ON theirs TO ID_a WITH GRANT OPTION; \
             SET ROLE ID_a; GRANT SELECT ON theirs TO pg_monitor",
            "what it granted to pg_monitor on table public.theirs",
        ),
        (
            true,
            "CREATE FOREIGN DATA WRAPPER wrap; CREATE SERVER far FOREIGN DATA WRAPPER wrap; \
             CREATE USER MAPPING FOR ID_a SERVER far",
            "a user mapping for server far",
        ),
    ] {
        let users = Arc::new(Users::with_admin(new.clone(), superuser).await);
        users.database.execute(&sql.replace("ID", &users.id)).await.unwrap();
        let before = users.alive().await;
        let harness = Harness::new(Arc::clone(&users) as _).await;
        let why = held(&harness).await;
        assert!(why.contains(told), "{why}");
        assert_eq!(users.alive().await, before);
        harness.order(OrderKind::Rollback);
        assert_eq!(harness.finish().await, Outcome::RolledBack);
        assert_eq!(users.alive().await, before);
    }
}

#[tokio::test]
async fn an_administrator_needs_no_more_than_to_be_a_member() {
    let [_, new, _] = modes();
    let users = Arc::new(Users::new(new).await);
    let id = &users.id;
    let sql = format!(
        "GRANT {id}_a, {id}_owner TO {id}_admin; ALTER ROLE {id}_a RESET role; GRANT SELECT ON items TO {id}_a; \
         CREATE TABLE mine (id int); ALTER TABLE mine OWNER TO {id}_a; \
         ALTER DEFAULT PRIVILEGES FOR ROLE {id}_owner GRANT SELECT ON TABLES TO {id}_a"
    );
    users.database.execute(&sql).await.unwrap();
    let harness = Harness::new(Arc::clone(&users) as _).await;
    for _ in 0..2 {
        assert_eq!(harness.rotate().await, Outcome::Completed);
    }
    harness.order(OrderKind::Rotate);
    harness.work_until(|harness| harness.step() == Some(Step::Watch)).await;
    harness.order(OrderKind::Rollback);
    assert_eq!(harness.finish().await, Outcome::RolledBack);
    let published = harness.published();
    assert_eq!(users.alive().await, [part(&published, "username")]);
    let sql = "SELECT pg_get_userbyid(relowner)::text FROM pg_class WHERE relname = 'mine'";
    let owner: String = sqlx::query_scalar(sql).fetch_one(&mut users.superuser().await).await.unwrap();
    assert_eq!(owner, part(&published, "username"));
}
