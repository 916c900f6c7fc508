//! The emulator that everybody uses. It lets two calls at one moment both win, and a
//! write in the way of the console leaves two current versions once a label has moved.

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_secretsmanager::Client;
use rota_adapters::aws::AwsAccount;
use rota_adapters::environment::AdapterEnvironment;
use rota_core::fault::Fault;
use rota_engine::ports::SecretStore;
use rota_engine::test_support::store_suite::StoreUnderTest;
use rota_fakes::moto::{self, MotoServer};
use serde_json::json;
use uuid::Uuid;

use super::{KEY, KEY_ID, REGION, environment_at, fresh_path, store, store_with};
use crate::support::{fault, token, value};

struct Subject {
    environment: AdapterEnvironment,
    client: Client,
}

impl Subject {
    async fn new() -> Self {
        let environment = environment_at(moto::shared().unwrap(), KEY_ID, KEY).await;
        let account = AwsAccount { region: REGION.to_owned(), role: None };
        let client = Client::new(&environment.aws.account(&account).await);
        Self { environment, client }
    }
}

#[async_trait]
impl StoreUnderTest for Subject {
    fn store(&self) -> Arc<dyn SecretStore> {
        Arc::new(store(&self.environment))
    }

    fn path(&self) -> String {
        fresh_path()
    }

    async fn write_by_hand(&self, path: &str, content: &str) {
        let current = self.client.get_secret_value().secret_id(path).version_stage("AWSCURRENT").send().await;
        let Ok(current) = current else {
            self.client.create_secret().name(path).secret_string(content).send().await.unwrap();
            return;
        };
        let put = self.client.put_secret_value().secret_id(path).secret_string(content);
        let put = put.client_request_token(Uuid::new_v4().to_string()).version_stages("by-hand");
        let put = put.send().await.unwrap();
        let moving = self.client.update_secret_version_stage().secret_id(path).version_stage("AWSCURRENT");
        let moving = moving.remove_from_version_id(current.version_id.unwrap());
        moving.move_to_version_id(put.version_id.unwrap()).send().await.unwrap();
    }

    fn decides_races(&self) -> bool {
        false
    }
}

rota_engine::store_suite!(Subject::new().await);

const TRUST: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"sts:AssumeRole"}]}"#;
const READING: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["secretsmanager:GetSecretValue","secretsmanager:DescribeSecret","secretsmanager:ListSecretVersionIds"],"Resource":"*"}]}"#;

/// Makes a role that may read, on an emulator that checks nothing yet.
async fn make_reader(server: &MotoServer) {
    let call = async |parameters: &[(&str, &str)]| {
        let mut url = reqwest::Url::parse(&server.url()).unwrap();
        url.query_pairs_mut().append_pair("Version", "2010-05-08").extend_pairs(parameters);
        let form = url.query().unwrap().to_owned();
        url.set_query(None);
        let scope = "20260101/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=0";
        let request = reqwest::Client::new()
            .post(url)
            .header("authorization", format!("AWS4-HMAC-SHA256 Credential={KEY_ID}/{scope}"))
            .header("content-type", "application/x-www-form-urlencoded");
        request.body(form).send().await.unwrap().error_for_status().unwrap();
    };
    let name = ("RoleName", "reader");
    call(&[("Action", "CreateRole"), name, ("AssumeRolePolicyDocument", TRUST)]).await;
    let policy = [("PolicyName", "reading"), ("PolicyDocument", READING)];
    call(&[("Action", "PutRolePolicy"), name, policy[0], policy[1]]).await;
}

#[tokio::test]
async fn a_role_is_assumed_and_has_only_its_own_rights() {
    let server = MotoServer::start(&[]).unwrap();
    make_reader(&server).await;
    let key = server.require_auth().await.unwrap();
    let environment = environment_at(&server.url(), &key.id, &key.secret).await;
    let path = fresh_path();
    store(&environment).write(&path, &value("1"), None, &token()).await.unwrap();

    let role = "arn:aws:iam::123456789012:role/reader";
    let settings = json!({ "region": REGION, "assume_role": role, "external_id": "acd" });
    let reader = store_with(&environment, settings).unwrap();
    let found = reader.read(&path).await.unwrap().unwrap();
    assert!(found.value.same_as(&value("1")));
    reader.preflight(&path).await.unwrap();
    let refused = reader.write(&path, &value("2"), Some(&found.version), &token()).await;
    let refused = fault(refused);
    assert!(matches!(refused, Fault::Denied { .. }), "{refused}");
}

#[tokio::test]
async fn a_wrong_key_is_denied() {
    let server = MotoServer::start(&[]).unwrap();
    server.require_auth().await.unwrap();
    let environment = environment_at(&server.url(), KEY_ID, KEY).await;
    let refused = fault(store(&environment).read(&fresh_path()).await);
    assert!(matches!(refused, Fault::Denied { .. }), "{refused}");
}
