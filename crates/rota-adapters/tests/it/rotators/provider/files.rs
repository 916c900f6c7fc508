//! What a provider's file may say, and what is told where it says something else.

use std::collections::BTreeMap;
use std::path::Path;

use rota_adapters::catalog::kinds;
use rota_adapters::environment::AdapterEnvironment;
use rota_adapters::rotators::provider::file::ProviderFile;
use rota_adapters::rotators::provider::{Provider, ProviderRotator, Providers};
use rota_core::policy::diagnostic::Level;
use rota_core::policy::{Piece, load};

use super::server::{Account, RESEND, file_of};
use crate::support::environment;

fn config() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config")
}

#[test]
fn every_file_that_is_shipped_is_in_the_program_and_accepted() {
    let shipped = Providers::shipped().unwrap();
    let files = std::fs::read_dir(config().join("providers")).unwrap();
    let mut files: Vec<String> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    let names: Vec<String> = shipped.iter().map(|provider| format!("{}.toml", provider.name())).collect();
    assert_eq!(names, files);
}

#[test]
fn the_committed_schema_is_that_of_the_form() {
    let schema = schemars::SchemaGenerator::default().into_root_schema_for::<ProviderFile>();
    let made = serde_json::to_string_pretty(&schema).unwrap() + "\n";
    let path = config().join("provider.schema.json");
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(&path).unwrap_or_default(),
        made,
        "run this test with UPDATE_SCHEMA=1"
    );
}

#[test]
fn the_page_has_every_provider_with_its_limits_and_sources_and_every_key_of_the_form() {
    let page = std::fs::read_to_string(config().join("../docs/rotators/provider.md")).unwrap();
    for provider in Providers::shipped().unwrap().iter() {
        let file = provider.file();
        let row = page.lines().find(|line| line.starts_with(&format!("| `{}` |", file.name)));
        let row = row.unwrap_or_else(|| panic!("`{}` has no row", file.name));
        let said =
            [file.limits.requests.clone(), file.limits.name_length.to_string(), file.sources[0].clone()];
        for said in said {
            assert!(row.contains(&said), "the row of `{}` does not say {said}", file.name);
        }
        for setting in file.settings.keys() {
            assert!(row.contains(&format!("`{setting}`")), "`{}` does not tell `{setting}`", file.name);
        }
    }
    let schema = schemars::SchemaGenerator::default().into_root_schema_for::<ProviderFile>().to_value();
    for key in schema["properties"].as_object().unwrap().keys() {
        assert!(page.contains(&format!("| `{key}` |")), "the page does not explain `{key}`");
    }
}

/// A file with one mistake, and what is told of it.
fn told(from: &str, to: &str) -> String {
    let file = file_of("resend");
    assert!(file.contains(from), "the file has no {from}");
    Provider::parse("acme.toml", &file.replacen(from, to, 1)).unwrap_err().to_string()
}

#[test]
fn every_mistake_in_a_file_is_told_with_its_place_and_what_to_write() {
    for (from, to, place, what) in [
        ("overlap     = true", "overlap = true\nunknwn = 1", "line ", "unknown field `unknwn`"),
        ("id      = \"$.id\"\nparts", "parts", "line ", "missing field `id`"),
        ("\"$.id\"\nparts", "\"id\"\nparts", "line ", "`id` is not a JSONPath"),
        ("https://api.resend.com", "http://api.resend.com", "`base`", "without TLS"),
        ("https://api.resend.com", "https://api.resend.com/v1", "`base`", "scheme and host alone"),
        ("https://api.resend.com", "https://user:pass@api.resend.com", "`base`", "credentials"),
        ("https://resend.com/api-keys\"\nbase", "http://resend.com\"\nbase", "`page`", "without TLS"),
        (
            "path = \"/api-keys\", json",
            "path = \"https://evil.example/x\", json",
            "`create.request.path`",
            "every call goes to `base`",
        ),
        (
            "path = \"/api-keys\", json",
            "path = \"//evil.example/x\", json",
            "`create.request.path`",
            "every call goes to `base`",
        ),
        ("name = \"{name}\"", "name = \"{nme}\"", "`create.request.json.name`", "nothing fills `{nme}`"),
        ("name = \"{name}\"", "name = \"{admin}\"", "`create.request.json.name`", "`{admin}` is secret"),
        ("limit = \"1\"", "key = \"{secret}\"", "`verify.request.query.key`", "`{secret}` is secret"),
        ("bearer = \"{admin}\"", "bearer = \"{token}\"", "`login`", "nothing fills `{token}`"),
        ("bearer = \"{admin}\"", "bearer = \"fixed\"", "`login`", "no secret is in this login"),
        ("/api-keys/{id}", "/api-keys/all", "`revoke.request`", "it does not name the key"),
        ("method = \"DELETE\"", "method = \"GET\"", "`revoke.request`", "a read changes nothing"),
        (
            "parts   = { secret = \"$.token\" }",
            "parts = { id = \"$.token\" }",
            "`create.parts.id`",
            "cannot be called so",
        ),
        ("done    = [200, 201]", "done = [302]", "`create.done`", "a redirect is not followed"),
        ("done    = [200, 201]", "done = []", "`create.done`", "an HTTP status"),
        ("refused  = [\n", "refused = []\nunused = [\n", "line ", "unknown field `unused`"),
        ("more = \"$.has_more\"", "link = true", "`list.next`", "where the next page is"),
        (", equals = \"restricted_api_key\"", "", "`verify.accepted`", "`path` and `equals` belong together"),
        (
            "default = \"sending_access\"",
            "default = \"root\"",
            "`settings.permission`",
            "its default does not fit",
        ),
        ("name    = \"resend\"", "name = \"Re Send\"", "`name`", "this is not a name"),
        ("name_length = 50", "name_length = 50\nmax_keys = 1", "`limits`", "two keys"),
        ("page    =", "key_name = \"{label}\"\npage =", "`key_name`", "could not be found by its rotation"),
        (
            "[revoke]",
            "[disable]\nrequest = { method = \"POST\", path = \"/x/{id}\" }\ndone = [200]\n[revoke]",
            "`disable`",
            "seen and taken back",
        ),
    ] {
        let said = told(from, to);
        for wanted in ["acme.toml", place, what] {
            assert!(said.contains(wanted), "`{wanted}` is missing: {said}");
        }
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn a_file_in_the_daemons_folder_is_a_provider_without_a_new_program() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
    write("acme.toml", file_of("resend").replace("name    = \"resend\"", "name = \"acme\""));
    write("notes.txt", "not a provider".to_owned());
    let providers = Providers::with_folder(Some(folder.path())).unwrap();
    assert!(providers.get("acme").is_some() && providers.get("resend").is_some());

    let account = Account::new(&RESEND);
    let mut policy = account.policy().secret;
    policy.settings["name"] = "acme".into();
    ProviderRotator::new(&policy, &AdapterEnvironment { providers, ..environment() }).unwrap();
    let fault = crate::support::fault(ProviderRotator::new(&policy, &environment()));
    assert!(fault.to_string().contains("`providers.folder`"), "{fault}");

    // Nobody takes the place of a provider that others rely on.
    write("resend.toml", file_of("resend"));
    let fault = crate::support::fault(Providers::with_folder(Some(folder.path())));
    assert!(fault.to_string().contains("another provider has this name"), "{fault}");
    std::fs::remove_file(folder.path().join("resend.toml")).unwrap();
    write("broken.toml", "name = ".to_owned());
    let fault = crate::support::fault(Providers::with_folder(Some(folder.path())));
    assert!(fault.to_string().contains("broken.toml: line 1"), "{fault}");
    let fault = crate::support::fault(Providers::with_folder(Some(&folder.path().join("nowhere"))));
    assert!(fault.to_string().contains("`providers.folder`"), "{fault}");
}

#[test]
fn one_key_at_a_time_is_refused_unless_the_gap_is_accepted() {
    let account = Account::with_file(&RESEND, |file| file.replace("overlap     = true", "overlap = false"));
    let mut policy = account.policy().secret;
    let fault = crate::support::fault(ProviderRotator::new(&policy, &account.environment));
    assert!(fault.to_string().contains("accept_gap = true"), "{fault}");
    policy.accept_gap = true;
    ProviderRotator::new(&policy, &account.environment).unwrap();
}

/// What lint says of a policy with these settings.
fn linted(provider: &str, fields: &str) -> Vec<String> {
    let text = format!(
        "version = 1\napplication = \"test\"\nenvironment = \"development\"\n\
         [store.main]\nkind = \"aws-secrets-manager\"\nregion = \"us-east-1\"\npath = \"test/{{name}}\"\n\
         [secret.KEY]\nkind = \"provider\"\nstores = [\"main\"]\nconsumers = \"none\"\ncadence = \"30d\"\noverlap = \"1d\"\n\
         provider = {provider}\nfields = {fields}\npublish = {{ document = \"test/key\", whole = true }}\n"
    );
    let loaded = load(&[Piece::from_bytes("policy.toml", text.into_bytes()).unwrap()], &kinds().unwrap());
    let said = loaded.diagnostics.iter();
    said.filter(|found| found.level < Level::Hint || found.code.starts_with("provider"))
        .map(|found| format!("{} {}", found.message, found.help.clone().unwrap_or_default()))
        .collect()
}

#[test]
fn a_policy_that_does_not_fit_its_provider_is_told_where() {
    const FIELDS: &str = r#"{ KEY = "{secret}", KEY_ID = "{id}" }"#;
    assert_eq!(
        linted(r#"{ name = "resend", label = "acd", admin = "main:admin" }"#, FIELDS),
        Vec::<String>::new()
    );
    let cases: BTreeMap<&str, (&str, &str, &str)> = BTreeMap::from([
        (
            "label",
            (
                r#"{ name = "resend", label = "a b", admin = "main:admin" }"#,
                FIELDS,
                "cannot begin a key's name",
            ),
        ),
        ("long", (r#"{ name = "resend", label = "acd-production-eu", admin = "main:admin" }"#, FIELDS, "")),
        (
            "too long",
            (
                r#"{ name = "resend", label = "acd-production-eu1", admin = "main:admin" }"#,
                FIELDS,
                "at most 17 characters",
            ),
        ),
        (
            "with",
            (
                r#"{ name = "resend", label = "acd", admin = "main:admin", with = { permission = "root" } }"#,
                FIELDS,
                "sending_access, full_access",
            ),
        ),
        (
            "what",
            (
                r#"{ name = "resend", label = "acd", admin = "main:admin", with = { scope = "x" } }"#,
                FIELDS,
                "`scope` is nothing that this provider asks for",
            ),
        ),
        (
            "region",
            (
                r#"{ name = "resend", label = "acd", admin = "main:admin", region = "eu" }"#,
                FIELDS,
                "no such region",
            ),
        ),
        (
            "admin",
            (
                r#"{ name = "resend", label = "acd", admin = "other:admin" }"#,
                FIELDS,
                "no store is called `other`",
            ),
        ),
        (
            "id",
            (
                r#"{ name = "resend", label = "acd", admin = "main:admin" }"#,
                r#"{ KEY = "{secret}" }"#,
                "own name of it",
            ),
        ),
        (
            "hole",
            (
                r#"{ name = "resend", label = "acd", admin = "main:admin" }"#,
                r#"{ KEY = "{token}" }"#,
                "nothing fills `{token}`",
            ),
        ),
        (
            "unknown",
            (r#"{ name = "resnd", label = "acd", admin = "main:admin" }"#, FIELDS, "`providers.folder`"),
        ),
    ]);
    for (case, (provider, fields, wanted)) in cases {
        let said = linted(provider, fields);
        match wanted {
            "" => assert_eq!(said, Vec::<String>::new(), "{case}"),
            wanted => assert!(said.iter().any(|text| text.contains(wanted)), "{case}: {said:?}"),
        }
    }
}
