//! Calls to IAM and STS that the rotator of access keys and its check share.
//!
//! Each method is one question or one change, which names an exact key. What fails is
//! told by the error code alone. Nothing retries by itself.

use aws_sdk_iam::Client;
use aws_sdk_iam::error::{ProvideErrorMetadata as _, SdkError};
use aws_sdk_iam::types::StatusType;
use jiff::Timestamp;
use rota_core::fault::Fault;
use rota_core::policy::kinds::KindProblem;
use rota_core::value::SecretValue;

use crate::aws::{self, AwsAccount, AwsEnvironment, AwsRole};

/// IAM is global; requests to it are signed for this region but in China and GovCloud.
const DEFAULT_REGION: &str = "us-east-1";

/// A user has at most two keys (IAM quotas), so a listing is one page.
const MOST_KEYS: i32 = 10;

/// Whose keys, and as whom IAM is asked, as settings say it.
pub(crate) struct Owner<'a> {
    pub(crate) user: &'a str,
    pub(crate) region: Option<&'a str>,
    pub(crate) assume_role: Option<&'a str>,
    pub(crate) external_id: Option<&'a str>,
}

/// A key as IAM lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) id: String,
    pub(crate) active: bool,
    pub(crate) created: Timestamp,
}

/// What STS said to a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Caller {
    /// The ARN of the user.
    Is(String),
    /// No such key, or another secret, or not known there yet.
    Refused,
}

/// The keys of one user.
pub(crate) struct Keys {
    client: Client,
    user: String,
}

impl Owner<'_> {
    /// Makes no call; a role is assumed at the first one.
    pub(crate) async fn keys(&self, aws: &AwsEnvironment) -> Keys {
        let account = self.account();
        Keys { client: Client::new(&aws.account(&account).await), user: self.user.to_owned() }
    }

    fn account(&self) -> AwsAccount {
        let role = self
            .assume_role
            .map(|arn| AwsRole { arn: arn.to_owned(), external_id: self.external_id.map(str::to_owned) });
        AwsAccount { region: self.region.unwrap_or(DEFAULT_REGION).to_owned(), role }
    }

    /// What is wrong with it as settings.
    pub(crate) fn problems(&self) -> Vec<KindProblem> {
        let mut problems = Vec::new();
        if !is_user(self.user) {
            let help = "write the name as IAM shows it, without its path: `user = \"acd-s3\"`";
            problems.push(KindProblem::error("name", "/user", "this is not the name of an IAM user", help));
        }
        problems.extend(aws::account_problems(self.region, self.assume_role, self.external_id));
        problems
    }
}

/// `[\w+=,.@-]+`, at most 64 characters (IAM, "CreateUser").
fn is_user(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c);
    (1..=64).contains(&name.len()) && name.chars().all(legal)
}

impl Keys {
    fn doing(&self, what: &str) -> String {
        format!("{what} of IAM user `{}`", self.user)
    }

    /// Every key, whoever made it.
    ///
    /// # Errors
    /// As IAM says.
    pub(crate) async fn list(&self) -> Result<Vec<Key>, Fault> {
        let what = self.doing("listing the keys");
        let listed = self.client.list_access_keys().user_name(&self.user).max_items(MOST_KEYS).send().await;
        let listed = listed.map_err(|error| aws::fault(&what, &error))?;
        let unreadable = || Fault::transient(format!("{what}: the answer cannot be read"));
        listed
            .access_key_metadata()
            .iter()
            .map(|key| {
                Some(Key {
                    id: key.access_key_id()?.to_owned(),
                    active: key.status() == Some(&StatusType::Active),
                    created: Timestamp::from_second(key.create_date()?.secs()).ok()?,
                })
            })
            .collect::<Option<Vec<Key>>>()
            .ok_or_else(unreadable)
    }

    /// Makes a key, whose secret is shown this once.
    ///
    /// # Errors
    /// [`Fault::Conflict`] where the user has two keys.
    pub(crate) async fn create(&self) -> Result<(String, SecretValue), Fault> {
        let what = self.doing("creating a key");
        let created = self.client.create_access_key().user_name(&self.user).send().await.map_err(
            |error| match error.code() {
                Some("LimitExceeded") => {
                    Fault::conflict(format!("{what}: it has two keys, which is the limit"))
                }
                _ => aws::fault(&what, &error),
            },
        )?;
        let unreadable = || Fault::transient(format!("{what}: the answer has no key"));
        let key = created.access_key.ok_or_else(unreadable)?;
        let secret = SecretValue::new(key.secret_access_key).map_err(|_| unreadable())?;
        Ok((key.access_key_id, secret))
    }

    /// Lets exactly this key be used, or not. May be repeated.
    ///
    /// # Errors
    /// As IAM says; [`Fault::Invalid`] where there is no such key.
    pub(crate) async fn set_active(&self, id: &str, active: bool) -> Result<(), Fault> {
        let status = if active { StatusType::Active } else { StatusType::Inactive };
        let call = self.client.update_access_key().user_name(&self.user).access_key_id(id).status(status);
        let what = self.doing(&format!("changing key {id}"));
        call.send().await.map(|_| ()).map_err(|error| aws::fault(&what, &error))
    }

    /// Deletes exactly this key. One that is gone is deleted.
    ///
    /// # Errors
    /// As IAM says.
    pub(crate) async fn delete(&self, id: &str) -> Result<(), Fault> {
        let deleted = self.client.delete_access_key().user_name(&self.user).access_key_id(id).send().await;
        match deleted {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some("NoSuchEntity") => Ok(()),
            Err(error) => Err(aws::fault(&self.doing(&format!("deleting key {id}")), &error)),
        }
    }

    /// When a key was last used, as far as IAM shows it by now.
    ///
    /// # Errors
    /// As IAM says.
    pub(crate) async fn last_used(&self, id: &str) -> Result<Option<Timestamp>, Fault> {
        let what = self.doing(&format!("asking for the last use of key {id}"));
        let answer = self.client.get_access_key_last_used().access_key_id(id).send().await;
        let answer = answer.map_err(|error| aws::fault(&what, &error))?;
        let date = answer.access_key_last_used().and_then(|used| used.last_used_date());
        date.map(|date| {
            Timestamp::from_second(date.secs())
                .map_err(|_| Fault::transient(format!("{what}: the answer cannot be read")))
        })
        .transpose()
    }
}

/// Uses a key for the one call that needs no right ("GetCallerIdentity").
///
/// # Errors
/// A passing fault where STS cannot be reached: unknown is not refused.
pub(crate) async fn caller(
    aws: &AwsEnvironment,
    region: Option<&str>,
    id: &str,
    secret: &SecretValue,
) -> Result<Caller, Fault> {
    let region = region.unwrap_or(DEFAULT_REGION);
    let client = aws_sdk_sts::Client::new(&aws.with_key(region, id, secret).await);
    match client.get_caller_identity().send().await {
        Ok(identity) => Ok(Caller::Is(identity.arn().unwrap_or_default().to_owned())),
        Err(error) if is_refusal(error.code()) => Ok(Caller::Refused),
        Err(SdkError::ServiceError(context)) if context.raw().status().as_u16() == 403 => Ok(Caller::Refused),
        Err(error) => Err(aws::fault(&format!("using key {id}"), &error)),
    }
}

/// "Common errors" of STS that speak of the key itself.
fn is_refusal(code: Option<&str>) -> bool {
    matches!(
        code,
        Some(
            "InvalidClientTokenId" | "SignatureDoesNotMatch" | "UnrecognizedClientException" | "AuthFailure"
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_named_as_iam_shows_it() {
        for good in ["acd-s3", "a.b@c_d+e=f,g"] {
            assert!(is_user(good), "{good}");
        }
        for bad in ["", "a b", "path/user", "arn:aws:iam::123456789012:user/x", &"a".repeat(65)] {
            assert!(!is_user(bad), "{bad}");
        }
    }
}
