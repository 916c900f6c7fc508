//! Orders: their effect, who gave them, and what is refused.

use serde_json::Value;

use crate::world::{Login, POLICY, Terminal, World};

/// The newest order of the secret: what, who, why and what became of it.
async fn last_order(world: &World, name: &str) -> String {
    let sql = format!(
        "SELECT format('%s|%s|%s|%s|%s', name, db_user, given_name, reason, outcome) FROM rota.orders \
         WHERE secret = '{name}' ORDER BY id DESC LIMIT 1"
    );
    world.ask(&sql).await.unwrap_or_default()
}

#[tokio::test]
async fn every_order_has_its_effect_and_is_kept_with_both_names() {
    let world = World::new().await;
    let _daemon = world.daemon();
    let operator = world.login(Login::Operator);

    let given = world.ok(&["rotate", "SLOW", "--reason", "try it", "--json"]).json();
    assert_eq!((&given["secret"], &given["kind"]["order"]), (&Value::from("SLOW"), &Value::from("rotate")));
    world.wait_for_step("SLOW", "watch");
    let kept = last_order(&world, "SLOW").await;
    assert!(kept.starts_with(&format!("rotate|{operator}|ann|try it|rotation ")), "{kept}");

    world.ok(&["hold", "SLOW", "--reason", "lunch", "--as", "berta"]);
    let held = world.wait("SLOW", "held", |status| !status["held"].is_null());
    assert!(held["held"]["why"].as_str().unwrap().contains("lunch"), "{held:#}");
    assert_eq!(last_order(&world, "SLOW").await, format!("hold|{operator}|berta|lunch|applied"));
    let one = world.run(Login::Auditor, &["status", "SLOW"]);
    assert_eq!(one.code, 7, "a held secret is not well");
    let order = format!("hold by berta ({operator})");
    assert!(one.stdout.contains(&order) && one.stdout.contains("rota resume SLOW"), "{}", one.stdout);

    world.ok(&["resume", "SLOW", "--reason", "back"]);
    world.wait_for_step("SLOW", "watch");
    assert_eq!(last_order(&world, "SLOW").await, format!("resume|{operator}|ann|back|applied"));

    world.ok(&["rollback", "SLOW", "--yes", "--reason", "it was wrong"]);
    world.wait_for_rest("SLOW");
    assert_eq!(last_order(&world, "SLOW").await, format!("rollback|{operator}|ann|it was wrong|applied"));
    let history = world.ok(&["history", "SLOW", "--json"]).json();
    assert_eq!(history["rotations"][0]["outcome"], "rolled_back");
    assert_eq!(history["rotations"][0]["requested_by"], format!("ann ({operator})"));
}

#[tokio::test]
async fn an_abandoned_secret_is_blocked_until_somebody_reconciles_it() {
    let world = World::new().await;
    let _daemon = world.daemon();
    world.ok(&["rotate", "SLOW", "--reason", "try it"]);
    world.wait_for_step("SLOW", "watch");
    world.ok(&["abandon", "SLOW", "--yes", "--reason", "given up"]);
    let blocked = world.wait("SLOW", "blocked", |status| !status["blocked_by"].is_null());
    assert_eq!(blocked["published"], "[new, old]", "what is left alive is told");

    let refused = world.run(Login::Operator, &["rotate", "SLOW", "--reason", "again"]);
    assert_eq!(refused.code, 5, "{}", refused.stderr);
    assert!(refused.stderr.contains("rota reconcile SLOW"), "{}", refused.stderr);
    let unknown = world.run(
        Login::Operator,
        &["reconcile", "SLOW", "--orphan", "99", "--yes", "--reason", "no such number"],
    );
    assert!(unknown.code == 6 && unknown.stderr.contains("rota status SLOW"), "{}", unknown.stderr);
    let freed = world.ok(&["reconcile", "SLOW", "--yes", "--reason", "looked at all", "--json"]).json();
    assert_eq!(freed["may_rotate"], true);
    assert!(world.status("SLOW")["blocked_by"].is_null());
    let twice = world.run(Login::Operator, &["reconcile", "SLOW", "--yes", "--reason", "again"]);
    assert_eq!(twice.code, 5, "{}", twice.stderr);
    let sql = "SELECT actor FROM rota.history WHERE kind = 'orphan.resolved'";
    let actor = world.ask(sql).await.unwrap();
    assert_eq!(actor, format!("ann ({})", world.login(Login::Operator)));
}

#[tokio::test]
async fn what_the_state_forbids_is_refused_while_the_person_is_there() {
    let world = World::new().await;
    let _daemon = world.daemon();
    for arguments in [
        &["hold", "SLOW", "--reason", "x"][..],
        &["resume", "SLOW", "--reason", "x"],
        &["rollback", "SLOW", "--yes", "--reason", "x"],
        &["abandon", "SLOW", "--yes", "--reason", "x"],
        &["confirm", "SLOW", "--yes", "--reason", "x"],
    ] {
        let ran = world.run(Login::Operator, arguments);
        assert_eq!(ran.code, 5, "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("SLOW has no rotation in flight"), "{}", ran.stderr);
    }
    world.ok(&["rotate", "SLOW", "--reason", "x"]);
    world.wait_for_step("SLOW", "watch");
    for (arguments, why) in [
        (&["rotate", "SLOW", "--reason", "x"][..], "in flight already"),
        (&["resume", "SLOW", "--reason", "x"], "not held"),
        (&["confirm", "SLOW", "--yes", "--reason", "x"], "does not wait for a confirmation"),
        (&["adopt", "SLOW", "--rotated-on", "2026-01-01"], "a rotation is in flight"),
    ] {
        let ran = world.run(Login::Operator, arguments);
        assert!(ran.code == 5 && ran.stderr.contains(why), "{arguments:?}: {} {}", ran.code, ran.stderr);
    }
    assert_eq!(world.ask("SELECT count(*)::text FROM rota.orders").await.unwrap(), "1");
    for name in ["NOBODY", "nobody/else"] {
        assert_eq!(world.run(Login::Operator, &["rotate", name, "--reason", "x"]).code, 6);
    }
    for bad in ["", "a b", "../up"] {
        assert_eq!(world.run(Login::Operator, &["rotate", bad, "--reason", "x"]).code, 2, "{bad}");
    }
}

#[tokio::test]
async fn a_dangerous_order_wants_the_name_typed_or_yes_with_a_reason() {
    let world = World::new().await;
    let _daemon = world.daemon();
    world.ok(&["rotate", "SLOW", "--reason", "x"]);
    world.wait_for_step("SLOW", "watch");
    let count = "SELECT count(*)::text FROM rota.orders";

    assert_eq!(world.run(Login::Operator, &["rollback", "SLOW", "--yes"]).code, 2, "--yes needs --reason");
    for order in ["rollback", "abandon"] {
        let ran = world.run(Login::Operator, &[order, "SLOW", "--reason", "x"]);
        assert!(ran.code == 8 && ran.stderr.contains("--yes"), "{order}: {}", ran.stderr);
    }
    let emergency = ["rotate", "SLOW", "--emergency", "--suspect", "both", "--reason", "x"];
    assert_eq!(world.run(Login::Operator, &emergency).code, 8);
    assert_eq!(world.run(Login::Operator, &["rotate", "SLOW", "--emergency"]).code, 2, "what leaked?");

    let command = world.command(Login::Operator, &["rollback", "SLOW"]);
    let mut terminal = Terminal::run(world.folder.path(), &command);
    terminal.answer("Type SLOW to go on:", "slow");
    let (code, shown) = terminal.ended();
    assert_eq!(code, 8, "{shown}");
    assert!(shown.contains("SLOW is in monitor: watch") && shown.contains("nothing was done"), "{shown}");
    assert_eq!(world.ask(count).await.unwrap(), "1", "nothing but the first order");

    let mut terminal = Terminal::run(world.folder.path(), &command);
    terminal.answer("Type SLOW to go on:", "SLOW");
    terminal.answer("Why (kept in the history):", "typed by hand");
    let (code, shown) = terminal.ended();
    assert_eq!(code, 0, "{shown}");
    world.wait_for_rest("SLOW");
    assert!(last_order(&world, "SLOW").await.contains("|ann|typed by hand|applied"));
}

#[tokio::test]
async fn an_emergency_names_what_leaked_and_passes_the_overlap() {
    let world = World::new().await;
    let _daemon = world.daemon();
    world.ok(&["rotate", "SLOW", "--reason", "x"]);
    let status = world.wait_for_step("SLOW", "watch");
    let emergency = |suspect: &str| {
        let order = ["rotate", "SLOW", "--emergency", "--suspect", suspect, "--yes", "--reason", "in a log"];
        world.run(Login::Operator, &order)
    };
    let unknown = emergency("v1");
    assert!(unknown.code == 3 && unknown.stderr.contains("or both"), "{}", unknown.stderr);
    let given = emergency(status["old_version"].as_str().unwrap());
    assert_eq!(given.code, 0, "{}", given.stderr);
    world.wait_for_rest("SLOW");
    let history = world.ok(&["history", "SLOW", "--json"]).json();
    assert_eq!(history["rotations"][0]["outcome"], "completed", "an hour of overlap was skipped");
    let published = world.read("app.env");
    let list = published.lines().find(|line| line.starts_with("SLOW_LIST=")).unwrap();
    assert!(!list.contains(&"a".repeat(64)) && list.len() > 64, "the leaked value is gone, a new one there");

    // What is in use at rest has a version that status shows and the order knows.
    let current = world.ok(&["status", "SLOW", "--json"]).json()["current_version"].clone();
    let current = current.as_str().unwrap();
    assert!(world.ok(&["status", "SLOW"]).stdout.contains(current), "{current}");
    assert_eq!(history["rotations"][0]["new_version"], current);
    assert_eq!(emergency(current).code, 0);
    world.wait_for_rest("SLOW");

    let at_rest = ["rotate", "QUICK", "--emergency", "--suspect", "current", "--yes", "--reason", "in a log"];
    world.ok(&at_rest);
    world.wait("QUICK", "promoted", |status| {
        !status["last_promoted_at"].is_null() && status["phase"].is_null()
    });
    assert!(!world.read("app.env").contains(&"a".repeat(64)), "every leaked value is gone");
}

#[tokio::test]
async fn a_secret_is_adopted_with_its_age_by_the_accepted_policy() {
    let world = World::new().await;
    drop(world.daemon());
    let ran = world.ok(&["adopt", "SLOW", "--due", "2100-01-15", "--json"]).json();
    assert_eq!(ran["next_due"], "2100-01-15T00:00:00Z");
    assert_eq!(world.status("SLOW")["next_due_at"], "2100-01-15T00:00:00Z");
    let ran = world.ok(&["adopt", "QUICK", "--rotated-on", "2020-01-15"]);
    assert!(ran.stderr.contains("begins as soon as"), "a value so old is overdue: {}", ran.stderr);
    assert_eq!(world.status("QUICK")["overdue"], true);
    let future = world.run(Login::Operator, &["adopt", "SLOW", "--rotated-on", "2199-01-01"]);
    assert!(future.code == 3 && future.stderr.contains("in the future"), "{}", future.stderr);
    for bad in [&["adopt", "SLOW"][..], &["adopt", "SLOW", "--rotated-on", "2026-02-30"]] {
        assert_eq!(world.run(Login::Operator, bad).code, 2, "{bad:?}");
    }
    let sql = "SELECT actor FROM rota.history WHERE kind = 'secret.adopted' LIMIT 1";
    assert_eq!(world.ask(sql).await.unwrap(), format!("ann ({})", world.login(Login::Operator)));
}

#[tokio::test]
async fn a_login_without_the_role_is_told_which_one_and_who_gives_it() {
    let world = World::new().await;
    let _daemon = world.daemon();
    let nobody = world.login(Login::Nobody);
    let ran = world.run(Login::Nobody, &["status"]);
    assert_eq!(ran.code, 5);
    let fix = format!("GRANT rota_auditor TO \"{nobody}\"");
    assert!(ran.stderr.contains(&fix), "{}", ran.stderr);
    let orders = [
        &["rotate", "QUICK", "--reason", "x"][..],
        &["hold", "QUICK", "--reason", "x"],
        &["submit", "PROVIDER_KEY"],
        &["adopt", "QUICK", "--due", "2100-01-01"],
        &["reconcile", "QUICK", "--yes", "--reason", "x"],
        &["recover", "--yes", "--reason", "x"],
    ];
    for arguments in orders {
        let ran = world.run(Login::Auditor, arguments);
        let fix = format!("GRANT rota_operator TO \"{}\"", world.login(Login::Auditor));
        assert!(ran.code == 5 && ran.stderr.contains(&fix), "{arguments:?}: {}", ran.stderr);
    }
    let unreadable = [&["plan"][..], &["history"], &["policy", "diff", "--policy", "policy.toml"]];
    for arguments in unreadable {
        assert_eq!(world.run(Login::Nobody, arguments).code, 5, "{arguments:?}");
    }
    assert_eq!(world.ask("SELECT count(*)::text FROM rota.orders").await.unwrap(), "0");
}

#[tokio::test]
async fn a_value_is_handed_in_by_pipe_or_hidden_prompt_and_its_revoke_confirmed() {
    let world = World::new().await;
    let _daemon = world.daemon();
    let none =
        world.run_with_input(Login::Operator, &["submit", "PROVIDER_KEY"], "sk-early-0123456789abcdef\n");
    assert!(none.code == 5 && none.stderr.contains("rota rotate"), "{}", none.stderr);

    world.ok(&["rotate", "PROVIDER_KEY", "--reason", "yearly"]);
    world.wait_for_step("PROVIDER_KEY", "stage");
    for (input, why) in [("", "empty"), ("short\n", "20 to 200"), ("a\0b\n", "NUL")] {
        let ran = world.run_with_input(Login::Operator, &["submit", "PROVIDER_KEY"], input);
        assert!(ran.code == 3 && ran.stderr.contains(why), "{input:?}: {} {}", ran.code, ran.stderr);
    }
    let new = "sk-piped-0123456789abcdef";
    let arguments = ["submit", "PROVIDER_KEY", "--json"];
    let ran = world.run_with_input(Login::Operator, &arguments, &format!("{new}\n"));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(ran.json()["submitted"], true);
    assert!(!format!("{}{}", ran.stdout, ran.stderr).contains(new));
    world.wait_for_step("PROVIDER_KEY", "confirm");
    let attention = world.ok(&["status", "--attention"]).stdout;
    assert!(attention.contains("rota confirm PROVIDER_KEY") && !attention.contains("QUICK"), "{attention}");
    world.ok(&["confirm", "PROVIDER_KEY", "--yes", "--reason", "revoked at the page"]);
    world.wait_for_rest("PROVIDER_KEY");
    assert!(world.read("app.env").contains(&format!("PROVIDER_KEY={new}")));

    world.ok(&["rotate", "PROVIDER_KEY", "--reason", "once more"]);
    world.wait_for_step("PROVIDER_KEY", "stage");
    let typed = "sk-typed-0123456789abcdef";
    let command = world.command(Login::Operator, &["submit", "PROVIDER_KEY"]);
    let mut terminal = Terminal::run(world.folder.path(), &command);
    terminal.answer("New value of PROVIDER_KEY (hidden):", typed);
    let (code, shown) = terminal.ended();
    assert!(code == 0 && !shown.contains(typed), "{code}: {shown}");
    world.wait_for_step("PROVIDER_KEY", "confirm");
    assert!(world.read("app.env").contains(&format!("PROVIDER_KEY={typed}")));
    let everything = "SELECT string_agg(convert_from(canonical, 'UTF8'), ' ') FROM rota.rotation_history";
    let history = world.ask(everything).await.unwrap();
    assert!(!history.contains("0123456789abcdef"), "no value in history");
}

#[tokio::test]
async fn a_key_that_comes_too_late_is_tracked_until_it_is_revoked() {
    let world = World::new().await;
    let _daemon = world.daemon();
    world.ok(&["rotate", "PROVIDER_KEY", "--reason", "yearly"]);
    world.wait_for_step("PROVIDER_KEY", "stage");
    let command = world.command(Login::Operator, &["submit", "PROVIDER_KEY"]);
    let mut terminal = Terminal::run(world.folder.path(), &command);
    let prompt = "New value of PROVIDER_KEY (hidden):";
    terminal.wait_for(prompt);
    world.ok(&["rollback", "PROVIDER_KEY", "--yes", "--reason", "not today"]);
    world.wait_for_rest("PROVIDER_KEY");
    terminal.answer(prompt, "sk-late-0123456789abcdef");
    let (code, shown) = terminal.ended();
    assert!(code == 5 && shown.contains("revoke the key"), "{code}: {shown}");
    let tracked =
        "SELECT count(*)::text FROM rota.orphans WHERE resolved_at IS NULL AND what LIKE '%not taken%'";
    assert_eq!(world.ask(tracked).await.unwrap(), "1");
}

#[tokio::test]
async fn a_removed_secret_is_not_rotated() {
    let world = World::new().await;
    let daemon = world.daemon();
    world.write_policy(POLICY.split("[secret.PROVIDER_KEY]").next().unwrap());
    world.ok(&[
        "policy",
        "accept",
        "--policy",
        "policy.toml",
        "--accept-removals",
        "--yes",
        "--reason",
        "gone",
    ]);
    daemon.wait_for("/status.json", "taken by");
    let ran = world.run(Login::Operator, &["rotate", "PROVIDER_KEY", "--reason", "x"]);
    assert!(ran.code == 5 && ran.stderr.contains("no longer in the policy"), "{}", ran.stderr);
    assert!(world.run(Login::Auditor, &["history", "PROVIDER_KEY"]).code == 0, "its history stays");
}

#[tokio::test]
async fn an_order_that_nobody_is_there_to_carry_out_says_so() {
    let world = World::new().await;
    let mut daemon = world.daemon();
    assert_eq!(world.ok(&["rotate", "SLOW", "--reason", "x", "--json"]).json()["daemon_connected"], true);
    world.wait_for_step("SLOW", "watch");
    daemon.terminate();
    assert_eq!(daemon.ended(), Some(0));
    let held = world.ok(&["hold", "SLOW", "--reason", "x"]);
    assert!(
        held.stderr.contains("no daemon is connected") && held.stderr.contains("rota serve"),
        "{}",
        held.stderr
    );
    let _next = world.daemon();
    world.wait("SLOW", "held", |status| !status["held"].is_null());
}
