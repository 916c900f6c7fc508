//! The users, and who may log in when.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::reply::Reply;

/// `brute_force_login_protection_max_attempts`.
const MOST_WRONG_LOGINS: usize = 5;

/// For how long a wrong login counts.
const WINDOW: SignedDuration = SignedDuration::from_mins(5);

/// The shortest password without a policy.
const SHORTEST: usize = 4;

/// The shortest password with `password_policy`.
const SHORTEST_BY_POLICY: usize = 12;

/// A user of the server.
#[derive(Clone, Debug)]
pub(super) struct User {
    pub(super) id: i64,
    login: String,
    email: String,
    pub(super) password: String,
    pub(super) server_admin: bool,
    disabled: bool,
}

/// All of them, and the wrong logins.
#[derive(Debug)]
pub(super) struct Users {
    users: Vec<User>,
    /// When somebody logged in wrongly, by the name in lower case.
    wrong: Vec<(String, Timestamp)>,
    pub(super) protection: bool,
    pub(super) password_policy: bool,
}

impl Default for Users {
    fn default() -> Self {
        Self { users: Vec::new(), wrong: Vec::new(), protection: true, password_policy: false }
    }
}

impl User {
    pub(super) fn profile(&self) -> Value {
        json!({
            "id": self.id,
            "email": self.email,
            "name": "",
            "login": self.login,
            "theme": "",
            "orgId": 1,
            "isGrafanaAdmin": self.server_admin,
            "isDisabled": self.disabled,
            "isExternal": false,
            "authLabels": [],
        })
    }

    fn answers_to(&self, name: &str) -> bool {
        self.login.eq_ignore_ascii_case(name) || self.email.eq_ignore_ascii_case(name)
    }
}

impl Users {
    pub(super) fn add(&mut self, login: &str, email: &str, password: &str, server_admin: bool) -> i64 {
        let id = self.users.iter().map(|user| user.id).max().unwrap_or(0) + 1;
        self.users.push(User {
            id,
            login: login.to_owned(),
            email: email.to_owned(),
            password: password.to_owned(),
            server_admin,
            disabled: false,
        });
        id
    }

    /// By login or address.
    pub(super) fn find(&self, name: &str) -> Option<&User> {
        self.users.iter().find(|user| user.answers_to(name))
    }

    pub(super) fn find_mut(&mut self, name: &str) -> Option<&mut User> {
        self.users.iter_mut().find(|user| user.answers_to(name))
    }

    pub(super) fn by_id(&self, id: i64) -> Option<&User> {
        self.users.iter().find(|user| user.id == id)
    }

    fn by_id_mut(&mut self, id: i64) -> Result<&mut User, Reply> {
        self.users.iter_mut().find(|user| user.id == id).ok_or_else(|| Reply::not_found("user not found"))
    }

    pub(super) fn list(&self) -> Value {
        let one = |user: &User| {
            json!({
                "id": user.id, "login": user.login, "email": user.email, "isAdmin": user.server_admin,
                "isDisabled": user.disabled, "authLabels": [],
            })
        };
        self.users.iter().map(one).collect()
    }

    pub(super) fn wrong_logins(&self, name: &str) -> usize {
        self.wrong.iter().filter(|(who, _)| *who == name.to_lowercase()).count()
    }

    /// A user who is blocked is answered like one with a wrong password, and not counted again.
    /// Names that nobody has are not counted.
    pub(super) fn log_in(&mut self, name: &str, password: &str, now: Timestamp) -> Result<User, Reply> {
        let wrong = || Reply::unauthorized("Invalid username or password", "password-auth.failed");
        let who = name.to_lowercase();
        let lately = self.wrong.iter().filter(|(other, at)| *other == who && *at > now - WINDOW).count();
        if self.protection && lately >= MOST_WRONG_LOGINS {
            return Err(wrong());
        }
        if password.is_empty() {
            return Err(Reply::unauthorized("Invalid username or password", "password-auth.empty"));
        }
        let user = self.find(name).cloned().ok_or_else(wrong)?;
        if user.password != password {
            self.wrong.push((who, now));
            return Err(wrong());
        }
        if user.disabled {
            return Err(Reply::unauthorized("User is disabled", "user.sync.disabled"));
        }
        Ok(user)
    }

    /// Whether a new password may be taken.
    pub(super) fn check(&self, password: &str) -> Result<(), Reply> {
        if password.len() < SHORTEST {
            let (text, name) = ("New password is too short", "password.password-policy-too-short");
            return Err(Reply::named(400, text, name));
        }
        let has = |test: fn(&char) -> bool| password.chars().any(|c| test(&c));
        let fits = password.len() >= SHORTEST_BY_POLICY
            && has(|c| c.is_uppercase())
            && has(|c| c.is_lowercase())
            && has(|c| c.is_numeric())
            && has(|c| !c.is_alphanumeric());
        if self.password_policy && !fits {
            let text = "New password doesn't comply with the password policy";
            return Err(Reply::named(400, text, "password.password-policy-infringe"));
        }
        Ok(())
    }

    pub(super) fn set_password(&mut self, id: i64, password: String) -> Result<(), Reply> {
        self.by_id_mut(id)?.password = password;
        Ok(())
    }

    pub(super) fn permit(&mut self, id: i64, server_admin: bool) -> Result<(), Reply> {
        let others = self.users.iter().filter(|user| user.server_admin && user.id != id).count();
        let user = self.by_id_mut(id)?;
        if user.server_admin && !server_admin && others == 0 {
            return Err(Reply::bad_request("cannot remove last grafana admin"));
        }
        user.server_admin = server_admin;
        Ok(())
    }

    pub(super) fn set_disabled(&mut self, id: i64, disabled: bool) -> Result<(), Reply> {
        self.by_id_mut(id)?.disabled = disabled;
        Ok(())
    }
}
