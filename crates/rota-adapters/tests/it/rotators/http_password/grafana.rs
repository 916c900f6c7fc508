//! Grafana's users, on the strict fake.

use async_trait::async_trait;
use rota_fakes::grafana::GrafanaFake;
use rota_fakes::http::Listen;
use serde_json::json;

use super::subject::{Account, FIRST, Service, USER, admin};

pub(super) struct Grafana(pub(super) GrafanaFake, reqwest::Client);

#[async_trait]
impl Service for Grafana {
    async fn lets_in(&self, user: &str, password: &str) -> bool {
        let request = self.1.get(format!("{}/api/user", self.url()));
        let answer = request.basic_auth(user, Some(password)).send().await.unwrap();
        answer.status().is_success()
    }

    fn set_by_hand(&self, user: &str, password: &str) {
        self.0.set_password(user, password).unwrap();
    }

    fn url(&self) -> String {
        self.0.url()
    }
}

/// With its protection against guessing.
pub(super) fn guarded() -> Account<Grafana> {
    let fake = GrafanaFake::start(Listen::default()).unwrap();
    fake.add_user("Anna", "her-own-word", false);
    fake.add_user(USER, FIRST, true);
    fake.add_user("rota", "admin-word", true);
    let settings = json!({ "url": fake.url(), "user": USER, "admin": "main:admin" });
    Account {
        service: Grafana(fake, reqwest::Client::new()),
        kind: "grafana-admin",
        table: "grafana",
        settings,
        admin: admin("rota", "admin-word"),
        published: FIRST.to_owned(),
    }
}

/// Uses that are refused while the gap lasts would block the user: hours pass for the journal
/// and milliseconds for Grafana.
pub(super) fn by_an_administrator() -> Account<Grafana> {
    let account = guarded();
    account.service.0.disable_brute_force_login_protection();
    account
}

/// The user sets its own password.
pub(super) fn by_itself() -> Account<Grafana> {
    let mut account = by_an_administrator();
    account.settings.as_object_mut().unwrap().remove("admin");
    Account { admin: None, ..account }
}
