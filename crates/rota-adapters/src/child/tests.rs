use rota_fakes::wait;

use super::*;

/// Long enough for a shell to start on a machine that builds at the same time.
const SOON: Duration = Duration::from_secs(20);

fn shell(script: &str) -> Program {
    Program {
        argv: ["/bin/sh", "-c", script].map(ToOwned::to_owned).to_vec(),
        directory: None,
        environment: Vec::new(),
        variables: Vec::new(),
        input: None,
        timeout: SOON,
    }
}

#[tokio::test]
async fn exit_codes_and_signals_are_told_apart() {
    assert_eq!(shell("exit 0").run().await, Ok(End::Code(0)));
    assert_eq!(shell("exit 7").run().await, Ok(End::Code(7)));
    assert_eq!(shell("kill -9 $$").run().await, Ok(End::Signal(9)));
}

#[tokio::test]
async fn a_program_that_is_not_there_or_may_not_run_says_so_without_its_arguments() {
    for (program, denied) in [("/nowhere/at-all", false), ("/etc/passwd", true)] {
        let argv = vec![program.to_owned(), "hunter2".to_owned()];
        let fault = Program { argv, ..shell("") }.run().await.unwrap_err();
        assert_eq!(matches!(fault, Fault::Denied { .. }), denied, "{fault}");
        assert_eq!(matches!(fault, Fault::Invalid { .. }), !denied, "{fault}");
        assert!(!fault.to_string().contains("hunter2"));
    }
    let nowhere = Program { directory: Some("/nowhere".into()), ..shell("exit 0") };
    assert!(matches!(nowhere.run().await, Err(Fault::Invalid { .. })));
    assert!(matches!(Program { argv: Vec::new(), ..shell("") }.run().await, Err(Fault::Invalid { .. })));
}

#[tokio::test]
async fn only_allowed_names_reach_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("environment");
    let mut program = shell(&format!("exec env >{}", out.display()));
    program.environment = vec!["CARGO_PKG_NAME".to_owned(), "NOT_SET_ANYWHERE".to_owned()];
    program.variables = vec![("ROTA_POINT", "before-retire".to_owned())];
    assert_eq!(program.run().await, Ok(End::Code(0)));
    let seen = std::fs::read_to_string(out).unwrap();
    let names: Vec<&str> =
        seen.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    for name in &names {
        let allowed = ALWAYS_PASSED.contains(name)
            || ["CARGO_PKG_NAME", "ROTA_POINT"].contains(name)
            || ["PWD", "SHLVL", "_", "OLDPWD"].contains(name); // set by the shell itself
        assert!(allowed, "{name} was passed");
    }
    assert!(names.contains(&"CARGO_PKG_NAME") && names.contains(&"ROTA_POINT") && names.contains(&"PATH"));
}

#[tokio::test]
async fn a_value_is_read_from_standard_input() {
    let value = SecretValue::new("hunter2".to_owned()).unwrap();
    let program = Program { input: Some(value), ..shell("read -r v; [ \"$v\" = hunter2 ] || [ -z \"$v\" ]") };
    assert_eq!(program.run().await, Ok(End::Code(0)));
    let unread = SecretValue::new("x".repeat(65_536)).unwrap();
    assert_eq!(Program { input: Some(unread), ..shell("exit 3") }.run().await, Ok(End::Code(3)));
}

#[tokio::test]
async fn a_program_past_its_time_ends_with_everything_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let pids = folder.path().join("pids");
    // The grandchild and the child both ignore the polite signal.
    let script = format!("trap '' TERM; sleep 300 & echo $! $$ >{}; wait; sleep 300", pids.display());
    let limit = Duration::from_millis(500);
    let end = Program { timeout: limit, ..shell(&script) }.run().await;
    assert_eq!(end, Ok(End::TimedOut(limit)));
    for pid in std::fs::read_to_string(&pids).unwrap().split_whitespace() {
        let gone = async || Ok((!is_running(pid)).then_some(()));
        wait::until(SOON, "the end of the group", gone).await.unwrap();
    }
}

/// A zombie has ended; only nobody has asked for its exit code yet.
fn is_running(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z'))
}

#[tokio::test]
async fn a_caller_that_goes_away_ends_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let pid = folder.path().join("pid");
    let run = tokio::spawn(shell(&format!("echo $$ >{}; sleep 300", pid.display())).run());
    let started = async || Ok(std::fs::read_to_string(&pid).ok().filter(|text| text.ends_with('\n')));
    let started = wait::until(SOON, "the start", started).await.unwrap();
    run.abort();
    let gone = async || Ok((!is_running(started.trim())).then_some(()));
    wait::until(SOON, "the end of the program", gone).await.unwrap();
}

#[tokio::test]
async fn a_run_goes_on_between_two_looks_and_is_started_once() {
    let folder = tempfile::tempdir().unwrap();
    let (count, go) = (folder.path().join("count"), folder.path().join("go"));
    let script =
        format!("echo x >>{}; until [ -e {} ]; do sleep 0.05; done; exit 4", count.display(), go.display());
    let runs = Runs::default();
    // A look that is given up, as the engine does past its limit, changes nothing.
    let short = Duration::from_millis(50);
    for _ in 0..3 {
        assert!(tokio::time::timeout(short, runs.look("a", || shell(&script))).await.is_err());
    }
    std::fs::write(&go, "").unwrap();
    assert_eq!(runs.look("a", || shell("exit 9")).await, Ok(Some(End::Code(4))));
    assert_eq!(std::fs::read_to_string(&count).unwrap(), "x\n");
    assert_eq!(runs.look("a", || shell("exit 9")).await, Ok(Some(End::Code(9))));
}

#[tokio::test]
async fn a_look_gives_up_after_a_while_and_says_that_the_run_goes_on() {
    let runs = Runs { patience: Duration::from_millis(50), ..Runs::default() };
    assert_eq!(runs.look("a", || shell("sleep 300")).await, Ok(None));
}
